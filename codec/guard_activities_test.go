package codec_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// TestActivityTasksPassTheGuard: a task that the server has handed out must reach the worker,
// even if its headers do not open.
func TestActivityTasksPassTheGuard(t *testing.T) {
	header := &commonpb.Header{Fields: map[string]*commonpb.Payload{"k": sealedIn(t, "n", "fake://a")}}
	task := &workflowservice.PollActivityTaskQueueResponse{TaskToken: []byte("t"), Header: header}
	for name, tc := range map[string]struct {
		req, reply proto.Message
	}{
		"polled":      {&workflowservice.PollActivityTaskQueueRequest{Namespace: "n"}, task},
		"given early": {&workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n"}, &workflowservice.RespondWorkflowTaskCompletedResponse{ActivityTasks: []*workflowservice.PollActivityTaskQueueResponse{task}}},
	} {
		t.Run(name, func(t *testing.T) {
			c, backend := newCodec(t, onePolicy)
			backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
			reply := tc.reply.ProtoReflect().New().Interface()
			if err := codec.NewGuard(c, "n").Unary(t.Context(), "/s/Method", tc.req, reply, func(_ context.Context, _ string, _, reply any) error {
				proto.Merge(reply.(proto.Message), tc.reply)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.reply, reply, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			if n := backend.Fake("a").Counts().FailedUnwraps; n > 0 {
				t.Errorf("the poll waited for %d calls of the KMS", n)
			}
		})
	}
}
