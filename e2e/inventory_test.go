package e2e

// What does the sealing.
const (
	byDataConverter    = "data converter"
	byFailureConverter = "failure converter"
	byHeaderSealing    = "wire guard, with `sealHeaders: true`"
	byGuard            = "wire guard"
)

// row is one line of docs/what-is-encrypted.md, and the canaries that prove it.
type row struct {
	what string
	// by says what seals it; empty means that it stays in plaintext, for the
	// reason in why.
	by, why string
	// check says where to look at it; how to live with it where it is plain.
	check string
	kinds []string
}

// sealedRows is what must not be found in plaintext anywhere.
func sealedRows() []row {
	return []row{
		{
			what: "Workflow inputs and results; what continue-as-new, schedules and retries carry over", by: byDataConverter, check: "`temporal workflow show`",
			kinds: []string{"workflow-input", "workflow-result", "continue-as-new-input", "signal-with-start-input", "update-with-start-workflow-input"},
		},
		{
			what: "Activity inputs and results, also of activities completed from outside", by: byDataConverter, check: "`temporal workflow show`",
			kinds: []string{"activity-input", "activity-result", "async-activity-result", "async-activity-result-by-id"},
		},
		{
			what: "Local activities: results, in a marker", by: byDataConverter, check: "`temporal workflow show`, `MarkerRecorded`",
			kinds: []string{"local-activity-result"},
		},
		{
			what: "Side effects, mutable side effects and their IDs, version markers", by: byDataConverter, check: "`temporal workflow show`, `MarkerRecorded`",
			kinds: []string{"side-effect", "mutable-side-effect", "mutable-side-effect-id"},
		},
		{
			what: "Child workflow inputs and results, in the same and in another namespace", by: byDataConverter, check: "`temporal workflow show`",
			kinds: []string{"child-input", "child-result"},
		},
		{
			what: "Signal inputs, from clients, from other workflows and with start", by: byDataConverter, check: "`temporal workflow show`",
			kinds: []string{"signal", "external-signal", "signal-with-start-signal"},
		},
		{
			what: "Query arguments and results, the stack trace query too", by: byDataConverter, check: "`temporal workflow query`",
			kinds: []string{"query-input", "query-input-failing", "query-result"},
		},
		{
			what: "Update arguments and results, rejected updates too", by: byDataConverter, check: "`temporal workflow show`",
			kinds: []string{"update-input", "update-input-failing", "update-input-rejected", "update-input-canceled", "update-result", "update-with-start-input", "update-with-start-result"},
		},
		{
			what: "Memo values, of workflows, children and schedules, also upserted ones", by: byDataConverter, check: "`temporal workflow describe`, `temporal workflow list -o json`",
			kinds: []string{
				"memo", "memo-upsert", "child-memo", "schedule-memo", "schedule-action-memo", "signal-with-start-memo",
				"update-with-start-memo", "continue-as-new-memo",
			},
		},
		{
			what: "Schedule inputs and their results", by: byDataConverter, check: "`temporal schedule describe -o json`",
			kinds: []string{"schedule-input", "schedule-input-updated", "schedule-result"},
		},
		{
			what: "Heartbeat details, of pending activities too", by: byDataConverter, check: "`temporal workflow describe`, pending activities",
			kinds: []string{"heartbeat", "heartbeat-of-timeout", "heartbeat-of-canceled", "async-activity-heartbeat", "async-activity-heartbeat-by-id"},
		},
		{
			what: "Details of failures, cancellations and terminations", by: byDataConverter, check: "`temporal workflow show -o json`",
			kinds: []string{
				"activity-failure-details", "activity-failure-pending-details", "activity-failure-long-details", "async-activity-failure-details",
				"local-activity-failure-details", "child-failure-details", "workflow-failure-details", "workflow-failure-continued-details",
				"update-failure-details", "update-rejection-details", "nexus-async-failure-details",
				"activity-canceled-details", "workflow-canceled-details", "child-canceled-details", "update-canceled-details",
				"async-activity-canceled-details", "terminate-details",
			},
		},
		{
			what: "Messages of failures and panics, with all their causes, also of pending activities and Nexus operations", by: byFailureConverter, check: "`temporal workflow show -o json`, `encodedAttributes`",
			kinds: []string{
				"activity-failure", "activity-failure-cause", "activity-failure-first", "activity-failure-pending", "activity-failure-long",
				"async-activity-failure", "local-activity-failure", "child-failure", "workflow-failure", "workflow-failure-continued",
				"update-failure", "update-rejection", "activity-panic", "workflow-panic",
				"nexus-async-failure", "nexus-sync-failure", "nexus-handler-failure", "nexus-pending-failure",
			},
		},
		{
			what: "Stack traces", by: byFailureConverter, check: "`temporal workflow show -o json`, `encodedAttributes`",
			kinds: []string{"stack-trace"},
		},
		{
			what: "Messages of queries that fail", by: byGuard, check: "`temporal workflow query`: says `Encoded failure` to those without the plugin",
			kinds: []string{"query-failure"},
		},
		{
			what: "Headers that context propagators and interceptors write", by: byHeaderSealing, check: "`temporal workflow show -o json`, `header`",
			kinds: []string{
				"header-start", "header-activity", "header-child", "header-external-signal", "header-continue-as-new", "header-signal", "header-query",
				"header-update", "header-signal-with-start", "header-update-with-start", "header-schedule", "header-standalone-activity",
			},
		},
		{
			what: "User metadata: summaries and details of workflows, activities, timers, markers, children and Nexus operations", by: byDataConverter, check: "`temporal workflow show -o json`, `userMetadata`",
			kinds: []string{
				"workflow-summary", "workflow-details", "activity-summary", "event-group-label", "local-activity-summary", "timer-summary", "await-summary",
				"side-effect-summary", "mutable-side-effect-summary", "child-summary", "child-details", "schedule-summary", "schedule-details",
				"signal-with-start-summary", "signal-with-start-details", "nexus-summary",
			},
		},
		{
			what: "Current details, and the descriptions of signals, queries and updates", by: byDataConverter, check: "`temporal workflow metadata`",
			kinds: []string{"current-details", "signal-description", "query-description", "update-description"},
		},
		{
			what: "Nexus operation inputs and results", by: byDataConverter, check: "`temporal workflow show`",
			kinds: []string{
				"nexus-sync-input", "nexus-sync-result", "nexus-async-input", "nexus-async-result", "nexus-async-input-failing",
				"nexus-sync-input-failing", "nexus-sync-input-refused", "nexus-sync-input-pending",
			},
		},
		{
			what: "Standalone activities: inputs, results, heartbeats, summaries, details, failures", by: byDataConverter + ", " + byFailureConverter, check: "the API's `DescribeActivityExecution`",
			kinds: []string{
				"standalone-activity-input", "standalone-activity-input-failing", "standalone-activity-result", "standalone-activity-heartbeat",
				"standalone-activity-summary", "standalone-activity-details", "standalone-activity-failure", "standalone-activity-failure-details",
			},
		},
		{
			what: "Standalone Nexus operations: inputs, results, summaries, failures", by: byDataConverter + ", " + byFailureConverter, check: "the API's `DescribeNexusOperationExecution`",
			kinds: []string{
				"standalone-nexus-input", "standalone-nexus-input-failing", "standalone-nexus-result", "standalone-nexus-summary", "standalone-nexus-failure",
			},
		},
		{
			what: "What programs send with bare gRPC: Nexus endpoint descriptions, batch signals and terminations", by: "the program, with the " + byDataConverter + "; the " + byGuard + " refuses plaintext",
			check: "`temporal operator nexus endpoint get`, `temporal workflow show`",
			kinds: []string{"nexus-endpoint-description", "batch-signal", "batch-terminate-details"},
		},
		{
			what: "Values of worker deployment version metadata", by: byDataConverter, check: "`temporal worker deployment describe-version -o json`",
			kinds: []string{"deployment-metadata"},
		},
	}
}

// plainRows is the allow-list: what Temporal gives no way to seal. A kind that
// is not found in plaintext any more does not belong here.
func plainRows() []row {
	return []row{
		{
			what: "Search attributes, names and values", why: "the server indexes and compares them",
			check: "put nothing secret there; put a keyed hash where only equality is searched for",
			kinds: []string{
				"search-attribute-start", "search-attribute-upsert", "search-attribute-child", "search-attribute-schedule", "search-attribute-activity",
			},
		},
		{
			what: "IDs: workflow, child, activity, update, schedule, event group, standalone activity and Nexus operation", why: "the server finds, deduplicates and shows things by them",
			check: "use random or hashed IDs, no e-mail addresses or account numbers",
			kinds: []string{
				"workflow-id", "child-workflow-id", "activity-id", "update-id", "schedule-id", "event-group-id", "standalone-activity-id", "standalone-nexus-id",
			},
		},
		{
			what: "Names: workflow and activity types, signals, queries, updates, Nexus endpoints, services and operations", why: "the server routes and lists by them",
			check: "they are names in the code; keep customers' names out of dynamic ones",
			kinds: []string{
				"workflow-type", "activity-type", "signal-name", "external-signal-name", "query-name", "update-name",
				"nexus-endpoint", "nexus-service", "nexus-operation",
			},
		},
		{
			what: "Types of application errors, and the list of those not to retry", why: "the server decides on retries by them",
			check: "keep facts out of error types; put them into messages or details",
			kinds: []string{"error-type", "non-retryable-error-type"},
		},
		{
			what: "Change IDs of `workflow.GetVersion`", why: "the SDK also writes them into the search attribute `TemporalChangeVersion`",
			check: "they are names in the code; the guard lets no others leave",
			kinds: []string{"change-id"},
		},
		{
			what: "Keys of memos, headers and deployment metadata", why: "a map's keys are no payloads",
			check: "put the fact into the value",
			kinds: []string{"memo-key", "header-key", "deployment-metadata-key"},
		},
		{
			what: "Reasons of cancel, terminate, reset, pause and batch operations; notes and comments of schedules", why: "plain strings in the API, shown to operators",
			check: "write a ticket number; put what is secret into the details of a termination, which are sealed",
			kinds: []string{
				"cancel-reason", "terminate-reason", "reset-reason", "pause-reason", "batch-reason", "schedule-note", "schedule-pause-note", "schedule-comment",
			},
		},
		{
			what: "Headers of Nexus requests that interceptors write", why: "plain strings that travel as HTTP headers, also to handlers that are not Temporal's",
			check: "put the fact into the operation's input",
			kinds: []string{"nexus-header"},
		},
		{
			what: "Task queues, fairness keys, worker identity, deployment names and build IDs", why: "the server dispatches by them, or shows them to operators",
			check: "use a hash as fairness key; set `Identity` where process and host name say too much",
			kinds: []string{"task-queue", "fairness-key", "identity", "deployment-name", "build-id"},
		},
		{
			what: "Claims: the namespace, and what a rule's `claims:` and `bind:` name (here: the local activity's type)", why: "authorization is decided on them before anything is opened; they are authenticated, not secret",
			check: "`waxseal inspect`; leave `claims:` out where a fact is not in plaintext beside the payload anyway",
			kinds: []string{"local-activity-type"},
		},
	}
}

// neverSent are the kinds that do not leave the worker, sealed or not.
func neverSent() []string { return []string{"local-activity-input", "header-local-activity"} }

// kindsOf returns all kinds of the rows.
func kindsOf(rows []row) map[string]bool {
	kinds := make(map[string]bool)
	for _, r := range rows {
		for _, kind := range r.kinds {
			kinds[kind] = true
		}
	}
	return kinds
}

// unreached are the fields that can hold payloads, and that were not seen
// holding a sealed one, with the reason.
func unreached() map[string]string {
	const (
		attributes = "holds search attributes"
		noCall     = "the Go SDK and this server have no call that fills it; the guard refuses plaintext there"
		carried    = "the server copies into it what was sealed elsewhere"
		deprecated = "belongs to the first deployment API, which servers no longer have"
	)
	return map[string]string{
		"common.v1.SearchAttributes.indexed_fields":                                              attributes,
		"workflowservice.v1.CountActivityExecutionsResponse.AggregationGroup.group_values":       attributes,
		"workflowservice.v1.CountNexusOperationExecutionsResponse.AggregationGroup.group_values": attributes,
		"workflowservice.v1.CountSchedulesResponse.AggregationGroup.group_values":                attributes,
		"workflowservice.v1.CountWorkflowExecutionsResponse.AggregationGroup.group_values":       attributes,
		"common.v1.Callback.NexusHandler.source_context":                                         noCall,
		"compute.v1.ComputeProvider.details":                                                     noCall,
		"compute.v1.ComputeScaler.details":                                                       noCall,
		"workflow.v1.PostResetOperation.SignalWorkflow.input":                                    noCall,
		"workflowservice.v1.RespondActivityTaskFailedRequest.last_heartbeat_details":             noCall,
		"workflowservice.v1.RespondActivityTaskFailedByIdRequest.last_heartbeat_details":         noCall,
		"workflowservice.v1.StartWorkflowExecutionRequest.last_completion_result":                noCall,
		"command.v1.ContinueAsNewWorkflowExecutionCommandAttributes.last_completion_result":      noCall,
		"history.v1.WorkflowExecutionContinuedAsNewEventAttributes.last_completion_result":       carried,
		"failure.v1.ResetWorkflowFailureInfo.last_heartbeat_details":                             carried,
		"deployment.v1.DeploymentInfo.metadata":                                                  deprecated,
		"deployment.v1.UpdateDeploymentMetadata.upsert_entries":                                  deprecated,
	}
}
