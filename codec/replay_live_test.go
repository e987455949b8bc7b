package codec_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/internal/replaytest"
)

// corpusLog keeps the errors that the SDK logs. It is safe for concurrent use.
type corpusLog struct {
	mu    sync.Mutex
	lines []string
}

var _ log.Logger = (*corpusLog)(nil)

func (*corpusLog) Debug(string, ...any)  {}
func (*corpusLog) Info(string, ...any)   {}
func (l *corpusLog) Warn(string, ...any) {}
func (l *corpusLog) Error(message string, about ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprint(append([]any{message}, about...)...))
}

// answers is a plugin that sees how workflow tasks end, behind the guard.
type answers struct {
	client.PluginBase
	ended chan any // the request
}

func (*answers) Name() string { return "answers" }

func (a *answers) ConfigureClient(_ context.Context, o client.PluginConfigureClientOptions) error {
	c := &o.ClientOptions.ConnectionOptions
	c.DialOptions = append(slices.Clip(c.DialOptions), grpc.WithChainUnaryInterceptor(a.see))
	return nil
}

func (a *answers) see(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	switch req.(type) {
	case *workflowservice.RespondWorkflowTaskCompletedRequest, *workflowservice.RespondWorkflowTaskFailedRequest:
		a.ended <- req
	}
	return err
}

// liveTasks returns the workflow tasks of a history as a server hands them out to a worker with
// an empty cache: one for each task that was started, with all events before it.
func liveTasks(stored storedHistory) (tasks []*workflowservice.PollWorkflowTaskQueueResponse) {
	events := stored.history.GetEvents()
	begin := events[0].GetWorkflowExecutionStartedEventAttributes()
	var completed int64 // the event that started the last completed task
	for i, e := range events {
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			completed = e.GetWorkflowTaskCompletedEventAttributes().GetStartedEventId()
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED:
			name := fmt.Sprintf("%s/%s up to event %d", stored.namespace, stored.name, e.GetEventId())
			tasks = append(tasks, &workflowservice.PollWorkflowTaskQueueResponse{
				TaskToken: []byte(name), WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: begin.GetWorkflowId(), RunId: name},
				WorkflowType: begin.GetWorkflowType(), PreviousStartedEventId: completed, StartedEventId: e.GetEventId(), Attempt: 1,
				ScheduledTime: timestamppb.Now(), StartedTime: timestamppb.Now(), History: &historypb.History{Events: events[:i+1]},
			})
		default: // no task begins or ends
		}
	}
	return tasks
}

// lastCommand maps the last event of a history to the command that ended the workflow.
var lastCommand = map[enumspb.EventType]enumspb.CommandType{
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:        enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:           enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:         enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
	enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
}

// TestReplayCorpusOnALiveWorker hands every history to a worker, up to each of its workflow
// tasks: opening ahead of the SDK, and the guard's check of answers, happen there and not in a
// replayer. No task fails, the last one ends the workflow as the history does, and nothing
// leaves unsealed.
func TestReplayCorpusOnALiveWorker(t *testing.T) {
	c := corpusCodec(t)
	server := startWireServer(t, newSecrets(rand.New(rand.NewPCG(1, 2))), c)
	byNamespace := make(map[string][]storedHistory)
	for _, stored := range storedHistories(t) {
		byNamespace[stored.namespace] = append(byNamespace[stored.namespace], stored)
	}
	for namespace, histories := range byNamespace {
		t.Run(namespace, func(t *testing.T) {
			logger := new(corpusLog)
			ended := startCorpusWorker(t, server, c, namespace, logger)
			for _, stored := range histories {
				replayLive(t, server, ended, stored)
			}
			if t.Failed() {
				report(t, "the SDK's log", logger.lines)
			}
		})
	}
	report(t, "leaks", server.Leaks())
}

func startCorpusWorker(t *testing.T, server *wireServer, c *codec.Codec, namespace string, logger log.Logger) (ended chan any) {
	t.Helper()
	a := &answers{ended: make(chan any, 1)}
	cl, err := client.DialContext(t.Context(), client.Options{
		HostPort: server.addr, Namespace: namespace, Plugins: []client.Plugin{codec.NewPlugin(c), a}, Logger: logger,
		ContextPropagators: []workflow.ContextPropagator{replaytest.Propagator{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	w := worker.New(cl, namespace, worker.Options{})
	script := new(replaytest.Script)
	for name, f := range script.Workflows() {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	for name, f := range script.Activities() {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return a.ended
}

func replayLive(t *testing.T, server *wireServer, ended chan any, stored storedHistory) {
	t.Helper()
	tasks := liveTasks(stored)
	for i, task := range tasks {
		name := string(task.GetTaskToken())
		server.queue("workflow", stored.namespace) <- task
		select {
		case req := <-ended:
			r, ok := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
			if !ok || string(r.GetTaskToken()) != name {
				t.Errorf("%s: the worker answers %T: %v", name, req, req)
				continue
			}
			last := stored.history.GetEvents()[len(stored.history.GetEvents())-1].GetEventType()
			if want, is := lastCommand[last]; is && i == len(tasks)-1 && !strings.HasSuffix(fmt.Sprint(commandTypes(r)), want.String()+"]") {
				t.Errorf("%s: the worker's commands are %v, and the history ends with %v", name, commandTypes(r), last)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the worker does not answer", name)
		}
	}
}

func commandTypes(r *workflowservice.RespondWorkflowTaskCompletedRequest) (types []string) {
	for _, c := range r.GetCommands() {
		types = append(types, c.GetCommandType().String())
	}
	return types
}
