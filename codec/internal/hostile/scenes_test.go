package hostile

import (
	"context"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	nexuspb "go.temporal.io/api/nexus/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// scene is an exchange with one honest response, which is altered before it is delivered.
type scene struct {
	n        int
	name     string
	workflow string // the ID of the workflow that the response is for
	method   string
	response proto.Message
	// deliver passes a response, which belongs to the scene, to the SDK, and returns how the
	// exchange ended.
	deliver func(ctx context.Context, l *lane, response proto.Message, token string) answer
	// with is the number of a scene with an honest response that comes first, if there is one.
	with int
}

// How long the test waits for an answer of the worker. The SDK may drop an altered task
// silently. An honest one has an answer, however busy the machine is.
const (
	alteredLimit = 2 * time.Second
	honestLimit  = time.Minute
)

// giveTask hands a workflow task to the lane's worker.
func (l *lane) giveTask(task *workflowservice.PollWorkflowTaskQueueResponse, token, run string) {
	l.label(task, token, run)
	l.adversary.Queue("workflow", l.taskQueue()) <- task
}

// label makes a recorded task the task of a new run.
func (l *lane) label(task *workflowservice.PollWorkflowTaskQueueResponse, token, run string) {
	task.TaskToken, task.WorkflowExecution.RunId = []byte(token), run
	if events := task.GetHistory().GetEvents(); len(events) > 1 {
		task.StartedEventId, task.PreviousStartedEventId = startsOf(events)
	}
}

// workflowScenes are the scenes of one workflow, one for each way in which a task reaches a
// worker.
func (l *lane) workflowScenes(ctx context.Context, n int, kind string) error {
	tasks, events, err := l.record(ctx, n, kind)
	if err != nil {
		return err
	}
	id := tasks[0].GetWorkflowExecution().GetWorkflowId()
	last := tasks[len(tasks)-1]
	add := func(way, method string, response proto.Message, deliver func(ctx context.Context, l *lane, response proto.Message, token string) answer) {
		l.scenes = append(l.scenes, &scene{n: n, name: kind + ", " + way, workflow: id, method: method, response: response, deliver: deliver})
	}
	for i, task := range tasks {
		add(fmt.Sprint("task ", i+1), "PollWorkflowTaskQueue", task, deliverPolled)
		if i > 0 {
			add(fmt.Sprint("task ", i+1, " of a cached workflow"), "PollWorkflowTaskQueue", sinceLast(task), deliverCached(tasks[i-1], task))
		}
	}
	page := func(of *workflowservice.PollWorkflowTaskQueueResponse) proto.Message {
		return &workflowservice.GetWorkflowExecutionHistoryResponse{History: proto.CloneOf(of.GetHistory())}
	}
	add("by pages", "GetWorkflowExecutionHistory", page(last), deliverPage(last, false))
	add("by pages of bytes", "GetWorkflowExecutionHistory", page(last), deliverPage(last, true))
	add("started eagerly", "StartWorkflowExecution", &workflowservice.StartWorkflowExecutionResponse{RunId: "run", Started: true, EagerWorkflowTask: proto.CloneOf(last)}, deliverEager)
	before := tasks[max(0, len(tasks)-2)]
	add("after another task", "RespondWorkflowTaskCompleted", &workflowservice.RespondWorkflowTaskCompletedResponse{WorkflowTask: proto.CloneOf(last)}, deliverAfter(before))
	if kind == "Talks" {
		task := proto.CloneOf(last)
		task.History.Events = cloneEvents(events)
		task.Queries, task.Messages = nil, nil
		r := &recorder{l: l, scene: n, sc: converter.WorkflowSerializationContext{Namespace: l.namespace(), WorkflowID: id}}
		task.Query = r.query()
		add("query", "PollWorkflowTaskQueue", task, deliverPolled)
		add("query by pages", "GetWorkflowExecutionHistory", page(task), deliverPage(task, false))
		add("query after another task", "RespondWorkflowTaskCompleted", &workflowservice.RespondWorkflowTaskCompletedResponse{WorkflowTask: proto.CloneOf(task)}, deliverAfter(before))
		add("query, started eagerly", "StartWorkflowExecution", &workflowservice.StartWorkflowExecutionResponse{RunId: "run", Started: true, EagerWorkflowTask: proto.CloneOf(task)}, deliverEager)
	}
	closing := &historypb.History{Events: cloneEvents(events)}
	l.historyScenes(n, kind, id, closing)
	return nil
}

func deliverPolled(ctx context.Context, l *lane, response proto.Message, token string) answer {
	l.giveTask(response.(*workflowservice.PollWorkflowTaskQueueResponse), token, token)
	return l.wait(ctx, token, l.limit)
}

// sinceLast returns a task for a worker that has the workflow in its cache: with the events
// since the previous task.
func sinceLast(task *workflowservice.PollWorkflowTaskQueueResponse) *workflowservice.PollWorkflowTaskQueueResponse {
	task = proto.CloneOf(task)
	_, before := startsOf(task.GetHistory().GetEvents())
	task.History.Events = slices.DeleteFunc(task.GetHistory().GetEvents(), func(e *historypb.HistoryEvent) bool { return e.GetEventId() <= before })
	return task
}

// deliverCached lets the worker do the previous, honest task, so that the workflow is in its
// cache. Then it delivers a task with the events since.
func deliverCached(before, whole *workflowservice.PollWorkflowTaskQueueResponse) func(ctx context.Context, l *lane, response proto.Message, token string) answer {
	started, previous := startsOf(whole.GetHistory().GetEvents())
	return func(ctx context.Context, l *lane, response proto.Message, token string) answer {
		l.giveTask(proto.CloneOf(before), "before-"+token, token)
		if first := l.wait(ctx, "before-"+token, honestLimit); first.method != "RespondWorkflowTaskCompleted" {
			return first
		}
		task := response.(*workflowservice.PollWorkflowTaskQueueResponse)
		l.label(task, token, token)
		task.StartedEventId, task.PreviousStartedEventId = started, previous
		l.adversary.Queue("workflow", l.taskQueue()) <- task
		return l.wait(ctx, token, l.limit)
	}
}

// deliverPage delivers the history of a task in a separate page, as events, or as the bytes
// that the SDK also reads.
func deliverPage(honest *workflowservice.PollWorkflowTaskQueueResponse, asBytes bool) func(ctx context.Context, l *lane, response proto.Message, token string) answer {
	return func(ctx context.Context, l *lane, response proto.Message, token string) answer {
		page := response.(*workflowservice.GetWorkflowExecutionHistoryResponse)
		task := proto.CloneOf(honest)
		events := page.GetHistory().GetEvents()
		if len(events) > 0 {
			task.History.Events = events[:1]
			page.History.Events = events[1:]
		}
		task.NextPageToken = []byte("page-" + token)
		if asBytes {
			b, err := proto.Marshal(page.GetHistory())
			if err != nil {
				panic(err) // it was unmarshalled before
			}
			page.History, page.RawHistory = nil, []*commonpb.DataBlob{{EncodingType: enumspb.ENCODING_TYPE_PROTO3, Data: b}}
		}
		l.arm("GetWorkflowExecutionHistory", page, nil)
		l.label(task, token, token)
		task.StartedEventId, task.PreviousStartedEventId = startsOf(events)
		l.adversary.Queue("workflow", l.taskQueue()) <- task
		return l.wait(ctx, token, l.limit)
	}
}

func deliverEager(ctx context.Context, l *lane, response proto.Message, token string) answer {
	r := response.(*workflowservice.StartWorkflowExecutionResponse)
	if r.GetEagerWorkflowTask() != nil {
		l.label(r.EagerWorkflowTask, token, token)
	}
	l.arm("StartWorkflowExecution", r, nil)
	_, err := l.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "eager", TaskQueue: l.taskQueue(), EnableEagerStart: true}, "Echo", "in", "more")
	l.refused(err)
	return l.wait(ctx, token, l.limit)
}

// deliverAfter delivers a task in the response to the completion of an honest one of the same
// workflow.
func deliverAfter(before *workflowservice.PollWorkflowTaskQueueResponse) func(ctx context.Context, l *lane, response proto.Message, token string) answer {
	return func(ctx context.Context, l *lane, response proto.Message, token string) answer {
		r := response.(*workflowservice.RespondWorkflowTaskCompletedResponse)
		if r.GetWorkflowTask() != nil {
			l.label(r.WorkflowTask, token, token)
		}
		l.arm("RespondWorkflowTaskCompleted", r, nil)
		l.giveTask(proto.CloneOf(before), "before-"+token, token)
		return l.wait(ctx, token, l.limit)
	}
}

// activityScenes are tasks of activities, which a worker polls for or receives with another
// response.
func (l *lane) activityScenes(n int) {
	for i, how := range []string{"completes", "fails", "cancels"} {
		id := fmt.Sprintf("workflow-%d-%d", l.n, n+i)
		sc := converter.ActivitySerializationContext{Namespace: l.namespace(), WorkflowID: id, WorkflowType: "Activities", ActivityType: "Activity", TaskQueue: l.taskQueue()}
		c := func(what string) string { return l.canary(n+i, what) }
		l.scenes = append(l.scenes, &scene{
			n: n + i, name: "activity that " + how, workflow: id, method: "PollActivityTaskQueue", deliver: deliverActivity,
			response: &workflowservice.PollActivityTaskQueueResponse{
				WorkflowNamespace: l.namespace(), WorkflowType: &commonpb.WorkflowType{Name: "Activities"}, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "run"},
				ActivityType: &commonpb.ActivityType{Name: "Activity"}, ActivityId: how, Header: l.header(n+i, "header"), Input: l.seal(sc, c("input"), c("input-2")),
				HeartbeatDetails: l.seal(sc, c("last-heartbeat")), Attempt: 1,
				ScheduleToCloseTimeout: durationpb.New(time.Minute), StartToCloseTimeout: durationpb.New(time.Minute), HeartbeatTimeout: durationpb.New(time.Minute),
			},
		})
	}
}

// beginNow sets the times of an activity task to its delivery: its timeouts count from them.
func beginNow(task *workflowservice.PollActivityTaskQueueResponse) {
	now := timestamppb.Now()
	task.ScheduledTime, task.CurrentAttemptScheduledTime, task.StartedTime = now, now, now
}

func deliverActivity(ctx context.Context, l *lane, response proto.Message, token string) answer {
	task := response.(*workflowservice.PollActivityTaskQueueResponse)
	task.TaskToken = []byte(token)
	beginNow(task)
	l.adversary.Queue("activity", l.taskQueue()) <- task
	return l.wait(ctx, token, l.limit)
}

// eagerActivity is the task of an activity in the response to the completion of the workflow
// task that scheduled it.
func (l *lane) eagerActivity(n int) {
	var first *workflowservice.PollWorkflowTaskQueueResponse
	var with int
	var task *workflowservice.PollActivityTaskQueueResponse
	for _, s := range l.scenes {
		switch r := s.response.(type) {
		case *workflowservice.PollWorkflowTaskQueueResponse:
			if s.name == "Activities, task 1" {
				first, with = proto.CloneOf(r), s.n
			}
		case *workflowservice.PollActivityTaskQueueResponse:
			task = proto.CloneOf(r)
		}
	}
	l.scenes = append(l.scenes, &scene{
		n: n, with: with, name: "activity that starts eagerly", workflow: task.GetWorkflowExecution().GetWorkflowId(), method: "RespondWorkflowTaskCompleted",
		response: &workflowservice.RespondWorkflowTaskCompletedResponse{ActivityTasks: []*workflowservice.PollActivityTaskQueueResponse{task}},
		deliver: func(ctx context.Context, l *lane, response proto.Message, token string) answer {
			r := response.(*workflowservice.RespondWorkflowTaskCompletedResponse)
			for _, task := range r.GetActivityTasks() {
				task.TaskToken = []byte(token)
				beginNow(task)
			}
			l.arm("RespondWorkflowTaskCompleted", r, nil)
			l.giveTask(proto.CloneOf(first), "before-"+token, "before-"+token)
			return l.wait(ctx, token, l.limit)
		},
	})
}

// nexusScenes are tasks of operations.
func (l *lane) nexusScenes(n int) {
	l.scenes = append(l.scenes, &scene{
		n: n, name: "operation", method: "PollNexusTaskQueue",
		response: &workflowservice.PollNexusTaskQueueResponse{Request: &nexuspb.Request{
			Endpoint: "endpoint", Capabilities: &nexuspb.Request_Capabilities{TemporalFailureResponses: true},
			Variant: &nexuspb.Request_StartOperation{StartOperation: &nexuspb.StartOperationRequest{Service: "service", Operation: "operation", RequestId: "request", Payload: l.sealOne(nil, l.canary(n, "operation-input"))}},
		}},
		deliver: func(ctx context.Context, l *lane, response proto.Message, token string) answer {
			task := response.(*workflowservice.PollNexusTaskQueueResponse)
			task.TaskToken = []byte(token)
			if task.GetRequest() != nil {
				task.Request.ScheduledTime = timestamppb.Now()
			}
			l.adversary.Queue("nexus", l.taskQueue()) <- task
			return l.wait(ctx, token, l.limit)
		},
	})
}
