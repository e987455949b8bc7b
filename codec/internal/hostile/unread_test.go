package hostile

import "path"

// unread is the reason why no program reads a place through the SDK, for the worker and the
// client of the Go SDK in go.mod. A program that calls the service directly may receive these
// places: the raw scenes alter them too.
type unread struct {
	method, path string // patterns, in which * stands for any text
	why          string
}

func (u unread) excuses(place string) bool {
	ok, err := path.Match(u.method+": "+u.path, place)
	return err == nil && ok
}

var unreads = []unread{
	{"GetWorkflowExecutionHistoryReverse", "*", "the SDK has no call for it"},
	{"CountSchedules", "*", "the SDK has no call for it"},
	{"*NexusEndpoint*", "*", "the SDK has no call for it, only the service"},
	{"DescribeDeployment", "*", "deprecated, and the SDK has no call for it any more"},
	{"GetCurrentDeployment", "*", "deprecated, and the SDK has no call for it any more"},
	{"SetCurrentDeployment", "*", "deprecated, and the SDK has no call for it any more"},
	{"GetDeploymentReachability", "*", "deprecated, and the SDK has no call for it any more"},
	{"RespondActivityTaskFailed*", "failures*", "the SDK does not look at this response"},
	{"ExecuteMultiOperation", "responses.start_workflow.eager_workflow_task*", "the SDK asks for no eager start with an update, and ignores the task"},
	{"MultiOperationExecutionFailure", "statuses.details", "the SDK makes errors of the details, which are of the types listed here, and hold texts"},
	{"*", "*history.events.workflow_execution_canceled_event_attributes*", closes},
	{"*", "*history.events.workflow_execution_continued_as_new_event_attributes*", closes},
	{"*", "*history.events.workflow_execution_failed_event_attributes*", closes},
	{"*", "*history.events.workflow_execution_terminated_event_attributes*", closes},
	{"*", "*history.events.workflow_execution_update_rejected_event_attributes*", "the server writes no such event, and a worker does nothing with it"},
	{"*", "*history.events.workflow_execution_options_updated_event_attributes*", "a worker does nothing with it; it holds callbacks, which the server calls"},
}

// closes is why a worker does not read how a workflow ended. Clients read that from a history.
const closes = "a worker does nothing with the event that closes a workflow"
