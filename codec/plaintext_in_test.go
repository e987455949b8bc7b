package codec_test

import (
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	querypb "go.temporal.io/api/query/v1"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/waxseal/waxseal/codec"
)

func anyOf(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func updateAccepted(in *updatepb.Input) *historypb.HistoryEvent {
	return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, Attributes: &historypb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes{
		WorkflowExecutionUpdateAcceptedEventAttributes: &historypb.WorkflowExecutionUpdateAcceptedEventAttributes{AcceptedRequest: &updatepb.Request{Input: in}},
	}}
}

// plaintextPlaces are the places of a workflow task that the SDK does not open with the data
// converter, or in which it ignores errors. Each puts a payload into one.
func plaintextPlaces(t *testing.T) map[string]func(p *commonpb.Payload) *workflowservice.PollWorkflowTaskQueueResponse {
	type task = workflowservice.PollWorkflowTaskQueueResponse
	header := func(p *commonpb.Payload) *commonpb.Header {
		return &commonpb.Header{Fields: map[string]*commonpb.Payload{"user": p}}
	}
	memo := func(p *commonpb.Payload) *commonpb.Memo {
		return &commonpb.Memo{Fields: map[string]*commonpb.Payload{"m": p}}
	}
	return map[string]func(p *commonpb.Payload) *task{
		"header of a start": func(p *commonpb.Payload) *task { return taskOf(startedWith(header(p).GetFields())) },
		"header of a signal": func(p *commonpb.Payload) *task {
			e := signaled()
			e.GetWorkflowExecutionSignaledEventAttributes().Header = header(p)
			return taskOf(startedWith(nil), e)
		},
		"header of a query beside a task": func(p *commonpb.Payload) *task {
			in := taskOf()
			in.Queries = map[string]*querypb.WorkflowQuery{"q": {Header: header(p)}}
			return in
		},
		"header of an update": func(p *commonpb.Payload) *task {
			in := taskOf()
			in.Messages = []*protocolpb.Message{{Body: anyOf(t, &updatepb.Request{Input: &updatepb.Input{Header: header(p)}})}}
			return in
		},
		"header of an accepted update":   func(p *commonpb.Payload) *task { return taskOf(updateAccepted(&updatepb.Input{Header: header(p)})) },
		"argument of an accepted update": func(p *commonpb.Payload) *task { return taskOf(updateAccepted(&updatepb.Input{Args: payloads(p)})) },
		"marker":                         func(p *commonpb.Payload) *task { return taskOf(marker(p)) },
		"memo of a start": func(p *commonpb.Payload) *task {
			e := startedWith(nil)
			e.GetWorkflowExecutionStartedEventAttributes().Memo = memo(p)
			return taskOf(e)
		},
		"memo that was changed": func(p *commonpb.Payload) *task {
			return taskOf(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED, Attributes: &historypb.HistoryEvent_WorkflowPropertiesModifiedEventAttributes{
				WorkflowPropertiesModifiedEventAttributes: &historypb.WorkflowPropertiesModifiedEventAttributes{UpsertedMemo: memo(p)},
			}})
		},
	}
}

// wantRefused checks that a task failure was reported to the server, with its reason.
func wantRefused(t *testing.T, w *wire, why string) {
	t.Helper()
	reported := w.reports()
	if len(reported) != 1 || !strings.Contains(reported["token"], why) || !strings.Contains(reported["token"], "denied") || !strings.Contains(reported["token"], "requireSealed off") || strings.Contains(reported["token"], "CANARY") {
		t.Errorf("reported to the server: %q, want %q with a hint", reported, why)
	}
}

func TestPlaintextFailsTheTask(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	plain := payload(t, "CANARY")
	for place, task := range plaintextPlaces(t) {
		what := strings.Join(strings.Fields(place)[:1], " ")
		t.Run(place, func(t *testing.T) {
			for name, p := range map[string]*commonpb.Payload{
				"plaintext": plain, "what only says that it is sealed": {Metadata: map[string][]byte{"encoding": []byte(codec.Encoding), codec.MetadataKeyIDs: []byte("fake://a")}, Data: []byte("CANARY")},
			} {
				w := newWire(t, c)
				if got := w.poll(task(p)); len(got.GetTaskToken()) > 0 {
					t.Errorf("%s: the SDK sees %v", name, got)
				}
				wantRefused(t, w, what)
			}
			w := newWire(t, c)
			if got := w.poll(task(encode(t, c, "n", plain)[0])); len(got.GetTaskToken()) == 0 || len(w.reports()) > 0 {
				t.Errorf("sealed: the SDK sees %v, reported to the server: %q", got, w.reports())
			}
			w.namespace = "other"
			if got := w.poll(task(plain)); len(got.GetTaskToken()) == 0 || len(w.reports()) > 0 {
				t.Errorf("in a namespace that does not require it: the SDK sees %v, reported to the server: %q", got, w.reports())
			}
		})
	}
}

// TestPlaintextThatTheConverterRefuses reaches the SDK, which returns the error to the caller
// instead of failing the task again and again.
func TestPlaintextThatTheConverterRefuses(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	plain := payload(t, "x")
	update := taskOf(signaled(plain))
	update.Messages = []*protocolpb.Message{{Body: anyOf(t, &updatepb.Request{Input: &updatepb.Input{Args: payloads(plain)}})}}
	w := newWire(t, c)
	if got := w.poll(update); len(got.GetTaskToken()) == 0 || len(w.reports()) > 0 {
		t.Errorf("the SDK sees %v, reported to the server: %q", got, w.reports())
	}
}

func TestHeadersThatDoNotOpenFailTheTask(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	for name, tc := range map[string]struct {
		header *commonpb.Payload
		why    string
	}{
		"of another namespace": {encode(t, c, "other", payload(t, "CANARY"))[0], "sealed for namespace"},
		"under another key":    {sealedIn(t, "n", "fake://elsewhere"), "not configured"},
		"a forged reference":   {storageReference(`{"driverName":"CANARY","claimData":{"key":"k"}}`), "a header is not sealed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, c)
			if got := w.poll(taskOf(startedWith(map[string]*commonpb.Payload{"user": tc.header}))); len(got.GetTaskToken()) > 0 {
				t.Errorf("the SDK sees %v", got)
			}
			if reported := w.reports(); len(reported) != 1 || !strings.Contains(reported["token"], tc.why) {
				t.Errorf("reported to the server: %q, want %q", reported, tc.why)
			}
			w.namespace = "third"
			if got := w.poll(taskOf(startedWith(map[string]*commonpb.Payload{"user": tc.header}))); len(got.GetTaskToken()) == 0 {
				t.Error("in a namespace that does not require it, the SDK sees nothing")
			}
		})
	}
}

func TestUnknownMessagesFailTheTask(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	w := newWire(t, c)
	task := taskOf()
	task.Messages = []*protocolpb.Message{{Body: &anypb.Any{TypeUrl: "type.googleapis.com/unknown.Type", Value: []byte("CANARY")}}}
	if got := w.poll(task); len(got.GetTaskToken()) > 0 {
		t.Errorf("the SDK sees %v", got)
	}
	if reported := w.reports(); len(reported) != 1 || !strings.Contains(reported["token"], "not known here") {
		t.Errorf("reported to the server: %q", reported)
	}
}

// TestPlaintextQueriesAreAnswered: a query task is answered, because it cannot be failed.
func TestPlaintextQueriesAreAnswered(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	w := newWire(t, c)
	task := taskOf()
	task.Query = &querypb.WorkflowQuery{Header: &commonpb.Header{Fields: map[string]*commonpb.Payload{"user": payload(t, "CANARY")}}}
	if got := w.poll(task); len(got.GetTaskToken()) > 0 {
		t.Errorf("the SDK sees %v", got)
	}
	if sent, ok := lastSent[*workflowservice.RespondQueryTaskCompletedRequest](w); !ok || !strings.Contains(sent.GetErrorMessage(), "a header is not sealed") {
		t.Errorf("reported to the server: %v", sent)
	}
}

// TestPlaintextPages: a page may have the form that the SDK unpacks itself, and may come when
// its task is forgotten.
func TestPlaintextPages(t *testing.T) {
	c, _ := newCodec(t, strictPolicy)
	plain := payload(t, "CANARY")
	page := func(p *commonpb.Payload) *historypb.History {
		e := signaled()
		e.GetWorkflowExecutionSignaledEventAttributes().Header = &commonpb.Header{Fields: map[string]*commonpb.Payload{"user": p}}
		return &historypb.History{Events: []*historypb.HistoryEvent{e}}
	}
	raw := func(h *historypb.History, encoding enumspb.EncodingType) []*commonpb.DataBlob {
		b, err := proto.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return []*commonpb.DataBlob{{EncodingType: encoding, Data: b}}
	}
	for _, tc := range []struct {
		name, token string
		page        *workflowservice.GetWorkflowExecutionHistoryResponse
		change      func(*workflowservice.GetWorkflowExecutionHistoryRequest)
		refused     bool
	}{
		{"of the task", "page 2", &workflowservice.GetWorkflowExecutionHistoryResponse{History: page(plain)}, nil, true},
		{"of no task", "stray", &workflowservice.GetWorkflowExecutionHistoryResponse{History: page(plain)}, nil, true},
		{"all of it", "", &workflowservice.GetWorkflowExecutionHistoryResponse{History: page(plain)}, nil, true},
		{"raw", "page 2", &workflowservice.GetWorkflowExecutionHistoryResponse{RawHistory: raw(page(plain), enumspb.ENCODING_TYPE_PROTO3)}, nil, true},
		{"raw, beside events", "stray", &workflowservice.GetWorkflowExecutionHistoryResponse{History: &historypb.History{}, RawHistory: raw(page(plain), enumspb.ENCODING_TYPE_PROTO3)}, nil, true},
		{"raw and not readable", "page 2", &workflowservice.GetWorkflowExecutionHistoryResponse{RawHistory: raw(page(plain), enumspb.ENCODING_TYPE_JSON)}, nil, true},
		{"sealed", "stray", &workflowservice.GetWorkflowExecutionHistoryResponse{History: page(encode(t, c, "n", plain)[0])}, nil, false},
		{"sealed and raw", "page 2", &workflowservice.GetWorkflowExecutionHistoryResponse{RawHistory: raw(page(encode(t, c, "n", plain)[0]), enumspb.ENCODING_TYPE_PROTO3)}, nil, false},
		{"of another namespace", "stray", &workflowservice.GetWorkflowExecutionHistoryResponse{History: page(encode(t, c, "other", plain)[0])}, nil, true},
		{"a client's", "", &workflowservice.GetWorkflowExecutionHistoryResponse{History: page(plain)}, func(r *workflowservice.GetWorkflowExecutionHistoryRequest) {
			r.HistoryEventFilterType = enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWire(t, c)
			task := taskOf()
			task.NextPageToken = []byte("page 2")
			w.poll(task)
			w.answer["GetWorkflowExecutionHistory"] = tc.page
			req := &workflowservice.GetWorkflowExecutionHistoryRequest{Namespace: "n", Execution: task.GetWorkflowExecution(), NextPageToken: []byte(tc.token)}
			if tc.change != nil {
				tc.change(req)
			}
			got := new(workflowservice.GetWorkflowExecutionHistoryResponse)
			err := w.call(t.Context(), "GetWorkflowExecutionHistory", req, got)
			if !tc.refused {
				if err != nil || len(got.GetRawHistory()) > 0 {
					t.Fatalf("%v, %v", got, err)
				}
				if p := got.GetHistory().GetEvents()[0].GetWorkflowExecutionSignaledEventAttributes().GetHeader().GetFields()["user"]; !proto.Equal(p, plain) {
					t.Errorf("the header is %v", p)
				}
				return
			}
			if status.Code(err) != codes.FailedPrecondition || strings.Contains(err.Error(), "CANARY") || !strings.Contains(err.Error(), "denied") {
				t.Errorf("%v", err)
			}
		})
	}
}
