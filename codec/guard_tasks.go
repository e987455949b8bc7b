package codec

import (
	"context"
	"crypto/sha256"
	"path"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/policy"
)

// The SDK opens some of a workflow task outside workflow code, and goes on as if
// nothing were there when that fails: a version marker that does not open sends the
// workflow down a branch that it never took. So the guard has the data keys of
// a task in the cache before the SDK sees it, and when that fails for a reason
// that is to hold the workflow, it fails the task itself and the SDK sees a poll
// that timed out. docs/adr/007 says which places there are.

const (
	// maxTasks bounds the tasks, and the pages of their histories, that are remembered.
	maxTasks = 10_000
	// maxReleases bounds the held tasks whose failure is still to be told; beyond,
	// they are left to time out.
	maxReleases = 1000
	// releaseTimeout bounds telling it.
	releaseTimeout = 5 * time.Second
	// maxHold is how long a task that was held before is kept from the next try.
	// The server gives it out again at once, however often it was.
	maxHold = 10 * time.Second
)

// task is a workflow task, or a page of its history.
type task struct {
	facts   policy.Facts
	run     string
	attempt int32
}

// tasks remembers what the SDK was given, to tell what belongs to it. It is safe
// for concurrent use, and so is nil, which remembers nothing.
type tasks struct {
	held atomic.Int64 // releases to come

	mu    sync.Mutex
	known *simplelru.LRU[[sha256.Size]byte, task]
}

func newTasks() *tasks {
	known, _ := simplelru.NewLRU[[sha256.Size]byte, task](maxTasks, nil) // it fails only for a size below one
	return &tasks{known: known}
}

// Tokens of tasks, tokens of pages and run IDs are kept apart.
const (
	byTask = "task "
	byPage = "page "
	byRun  = "run "
)

func (t *tasks) remember(kind string, token []byte, of task) {
	if t == nil || len(token) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known.Add(sha256.Sum256(append([]byte(kind), token...)), of)
}

func (t *tasks) recall(kind string, token []byte) (task, bool) {
	if t == nil || len(token) == 0 {
		return task{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known.Get(sha256.Sum256(append([]byte(kind), token...)))
}

// call sends a request of the guard's own, past its check.
type call func(ctx context.Context, method string, req, reply any) error

// openTasks opens ahead what an answer holds for a worker to open. A task that is
// to be held is taken out of the answer; a page of a history is an error then.
func (g *guard) openTasks(ctx context.Context, req, reply proto.Message, send call) error {
	namespace := g.namespaceOf(req)
	switch in := reply.(type) {
	case *workflowservice.PollWorkflowTaskQueueResponse:
		if g.holdTask(ctx, namespace, req, in, send) {
			empty := &workflowservice.PollWorkflowTaskQueueResponse{
				BacklogCountHint: in.GetBacklogCountHint(), PollerScalingDecision: in.GetPollerScalingDecision(),
				PollerGroupId: in.GetPollerGroupId(), PollerGroupsInfo: in.GetPollerGroupsInfo(),
			}
			proto.Reset(in)
			proto.Merge(in, empty)
		}
	case *workflowservice.RespondWorkflowTaskCompletedResponse:
		if g.holdTask(ctx, namespace, req, in.GetWorkflowTask(), send) {
			in.WorkflowTask = nil
		}
	case *workflowservice.GetWorkflowExecutionHistoryResponse:
		if r, ok := req.(*workflowservice.GetWorkflowExecutionHistoryRequest); ok {
			return g.openPage(ctx, r, in)
		}
	}
	return nil
}

// holdTask opens a task ahead, and reports whether it is held; then the server
// knows, or is going to.
func (g *guard) holdTask(ctx context.Context, namespace string, req proto.Message, in *workflowservice.PollWorkflowTaskQueueResponse, send call) bool {
	if len(in.GetTaskToken()) == 0 {
		return false
	}
	t := task{run: in.GetWorkflowExecution().GetRunId(), attempt: in.GetAttempt(), facts: policy.Facts{
		Namespace: namespace, WorkflowID: in.GetWorkflowExecution().GetWorkflowId(),
		WorkflowType: in.GetWorkflowType().GetName(), TaskQueue: in.GetWorkflowExecutionTaskQueue().GetName(),
	}}
	g.codec.waits.begin(t.run)
	// The poll may have waited for most of its time, and the task is ours now.
	ctx = context.WithoutCancel(ctx)
	held := g.codec.openAhead(ctx, t.run, t.facts, in)
	if held == nil {
		g.tasks.remember(byTask, in.GetTaskToken(), t)
		g.tasks.remember(byPage, in.GetNextPageToken(), t)
		g.tasks.remember(byRun, []byte(t.run), t)
		return false
	}
	if in.GetQuery() == nil {
		g.fail(ctx, t, failTask(namespace, in.GetTaskToken(), req, held), send)
		return true
	}
	answer(ctx, workflowservice.WorkflowService_RespondQueryTaskCompleted_FullMethodName, &workflowservice.RespondQueryTaskCompletedRequest{
		Namespace: namespace, TaskToken: in.GetTaskToken(), CompletedType: enumspb.QUERY_RESULT_TYPE_FAILED,
		ErrorMessage: held.Error(), PollerGroupId: in.GetPollerGroupId(),
	}, new(workflowservice.RespondQueryTaskCompletedResponse), send)
	return true
}

// failTask returns the request that fails a task. Its message is plaintext: it
// names the key and the class, and nothing of a payload.
func failTask(namespace string, token []byte, from proto.Message, held *HeldError) *workflowservice.RespondWorkflowTaskFailedRequest {
	out := &workflowservice.RespondWorkflowTaskFailedRequest{
		Namespace: namespace, TaskToken: token,
		Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
		Failure: &failurepb.Failure{
			Message: held.Error(), Source: "GoSDK",
			FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "HeldError"}},
		},
	}
	switch r := from.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest:
		out.Identity, out.DeploymentOptions = r.GetIdentity(), proto.CloneOf(r.GetDeploymentOptions())
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		out.Identity, out.DeploymentOptions, out.ResourceId = r.GetIdentity(), proto.CloneOf(r.GetDeploymentOptions()), r.GetResourceId()
	}
	return out
}

// fail tells the server that a task failed: the first time at once, and after that
// after a while, since it gives the task out again at once. The SDK leaves such
// a task to time out, which takes longer each time, up to ten minutes; a workflow
// is to go on soon after its KMS is back.
func (g *guard) fail(ctx context.Context, t task, req *workflowservice.RespondWorkflowTaskFailedRequest, send call) {
	tell := func() {
		answer(ctx, workflowservice.WorkflowService_RespondWorkflowTaskFailed_FullMethodName, req, new(workflowservice.RespondWorkflowTaskFailedResponse), send)
	}
	if t.attempt <= 1 || g.tasks == nil {
		tell()
		return
	}
	if g.tasks.held.Add(1) > maxReleases {
		g.tasks.held.Add(-1)
		return
	}
	time.AfterFunc(holdFor(t.attempt), func() {
		defer g.tasks.held.Add(-1)
		tell()
	})
}

// holdFor is 1, 2, 4, 8 and then maxHold seconds from the second attempt on.
func holdFor(attempt int32) time.Duration {
	return min(time.Second<<min(max(attempt-2, 0), 4), maxHold)
}

// answer sends what ends a task. If that fails, the task times out.
func answer(ctx context.Context, method string, req, reply any, send call) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	_ = send(ctx, method, req, reply)
}

// openPage opens a page of a history ahead that a worker fetched for a task. What
// a client reads is none of our business: it may not need to open it.
func (g *guard) openPage(ctx context.Context, req *workflowservice.GetWorkflowExecutionHistoryRequest, in *workflowservice.GetWorkflowExecutionHistoryResponse) error {
	t, ok := g.tasks.recall(byPage, req.GetNextPageToken())
	if len(req.GetNextPageToken()) == 0 && fromTheStart(req) {
		t, ok = g.tasks.recall(byRun, []byte(req.GetExecution().GetRunId()))
	}
	if !ok {
		return nil
	}
	g.tasks.remember(byPage, in.GetNextPageToken(), t)
	if held := g.codec.openAhead(ctx, t.run, t.facts, in); held != nil {
		return status.Error(codes.FailedPrecondition, held.Error()) // the SDK does not ask again, and fails the task
	}
	return nil
}

// fromTheStart reports whether a request has the shape of the one with which the
// SDK fetches a whole history, for a workflow that is no longer in its own cache.
// Its clients ask for a kind of events.
func fromTheStart(req *workflowservice.GetWorkflowExecutionHistoryRequest) bool {
	return !req.GetWaitNewEvent() && !req.GetSkipArchival() && req.GetMaximumPageSize() == 0 &&
		req.GetHistoryEventFilterType() == enumspb.HISTORY_EVENT_FILTER_TYPE_UNSPECIFIED
}

// holdCompletion fails a task whose completion holds a failure that could not be
// sealed, and was withheld, for a reason that is to hold the workflow: what it said
// would be lost for good. The error has the SDK forget what it thinks is done.
func (g *guard) holdCompletion(ctx context.Context, req proto.Message, send call) error {
	r, ok := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
	if !ok {
		return nil
	}
	namespace := g.namespaceOf(r)
	t, ok := g.tasks.recall(byTask, r.GetTaskToken())
	if !ok {
		t = task{facts: policy.Facts{Namespace: namespace}, attempt: 1}
	}
	var held *HeldError
	find := walker{
		payload: func(proto.Message, *commonpb.Payload) error { return nil },
		failure: func(_ proto.Message, f *failurepb.Failure) error {
			for link := f; link != nil; link = link.GetCause() {
				if err := withheld(link); err != nil && g.codec.holds(t.facts, err) {
					held = &HeldError{Err: err}
				}
			}
			return nil
		},
	}
	for _, command := range r.GetCommands() {
		_ = find.walk(command) // check comes to what cannot be looked into
	}
	for _, message := range r.GetMessages() {
		_ = find.walk(message)
	}
	if held == nil {
		return nil
	}
	g.fail(context.WithoutCancel(ctx), t, failTask(namespace, r.GetTaskToken(), r, held), send)
	return status.Errorf(codes.FailedPrecondition, "waxseal: refused to send %s: %s", path.Base(workflowservice.WorkflowService_RespondWorkflowTaskCompleted_FullMethodName), held.Error())
}
