package people

import (
	"net/http"
	"strings"
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/prototext"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/e2e/internal/servers"
)

// A worker that does not link Waxseal uses the codec server through the SDK's own
// remote codec.
func TestRemoteCodec(t *testing.T) {
	s := newStack(t, servers.TemporalOptions{Namespaces: []string{"default", "remote"}})
	remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{
		Endpoint: s.endpoint,
		ModifyRequest: func(r *http.Request) error {
			r.Header.Set("X-Namespace", "remote")
			return nil
		},
	})
	cl := s.dial(t, client.Options{Namespace: "remote", DataConverter: converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), remote)})
	startWorker(t, cl)
	run, err := cl.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "remote-order", TaskQueue: queue}, Order, canary+"-card")
	if err != nil {
		t.Fatal(err)
	}
	ours := *s
	ours.client = cl
	ours.approve(t, run)

	bare := s.dial(t, client.Options{Namespace: "remote"})
	history, err := bare.WorkflowService().GetWorkflowExecutionHistory(t.Context(), &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: "remote", Execution: &commonpb.WorkflowExecution{WorkflowId: "remote-order"},
		HistoryEventFilterType: enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT,
	})
	if err != nil {
		t.Fatal(err)
	}
	text := prototext.Format(history)
	if strings.Contains(text, canary) || strings.Count(text, "binary/waxseal") < 5 {
		t.Errorf("the server stores:\n%s", text)
	}
}
