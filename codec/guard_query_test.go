package codec_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// queryServer keeps the answers of workers, and answers queries with a failure.
type queryServer struct {
	workflowservice.UnimplementedWorkflowServiceServer
	byTask    *workflowservice.RespondQueryTaskCompletedRequest
	piggyback *workflowservice.RespondWorkflowTaskCompletedRequest
	message   string
	failure   *failurepb.Failure
}

func (s *queryServer) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{}, nil
}

func (s *queryServer) RespondQueryTaskCompleted(_ context.Context, r *workflowservice.RespondQueryTaskCompletedRequest) (*workflowservice.RespondQueryTaskCompletedResponse, error) {
	s.byTask = r
	return &workflowservice.RespondQueryTaskCompletedResponse{}, nil
}

func (s *queryServer) RespondWorkflowTaskCompleted(_ context.Context, r *workflowservice.RespondWorkflowTaskCompletedRequest) (*workflowservice.RespondWorkflowTaskCompletedResponse, error) {
	s.piggyback = r
	return &workflowservice.RespondWorkflowTaskCompletedResponse{}, nil
}

func (s *queryServer) QueryWorkflow(context.Context, *workflowservice.QueryWorkflowRequest) (*workflowservice.QueryWorkflowResponse, error) {
	return nil, serviceerror.ToStatus(serviceerror.NewQueryFailedWithFailure(s.message, s.failure)).Err()
}

func dialQueryServer(t *testing.T, c *codec.Codec, change ...func(*client.Options)) (*queryServer, client.Client) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := &queryServer{}, grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	o := client.Options{HostPort: listener.Addr().String(), Namespace: "n", Plugins: []client.Plugin{codec.NewPlugin(c)}}
	for _, f := range change {
		f(&o)
	}
	cl, err := client.DialContext(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return s, cl
}

func TestQueryFailuresAreSealed(t *testing.T) {
	const secret = "CANARY no such card"
	c, _ := newCodec(t, onePolicy)
	s, cl := dialQueryServer(t, c)
	sdk := codec.NewFailureConverter(codec.NewDataConverter(c, "n", nil)).ErrorToFailure(errors.New(secret))
	for name, failure := range map[string]*failurepb.Failure{
		"with the SDK's failure": sdk, "without": nil, "with one in plaintext": {Message: secret, Cause: &failurepb.Failure{Message: secret}},
	} {
		t.Run("by itself, "+name, func(t *testing.T) {
			req := &workflowservice.RespondQueryTaskCompletedRequest{
				Namespace: "n", CompletedType: enumspb.QUERY_RESULT_TYPE_FAILED, ErrorMessage: secret, Failure: failure,
			}
			before := proto.CloneOf(req)
			if _, err := cl.WorkflowService().RespondQueryTaskCompleted(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(before, req) {
				t.Error("the request was mutated")
			}
			s.message, s.failure = s.byTask.GetErrorMessage(), s.byTask.GetFailure()
			if strings.Contains(s.byTask.String(), "CANARY") {
				t.Errorf("sent %s", s.byTask)
			}
			wantQueryFailure(t, cl, secret)
		})
	}
	t.Run("with a workflow task", func(t *testing.T) {
		req := &workflowservice.RespondWorkflowTaskCompletedRequest{Namespace: "n", QueryResults: map[string]*querypb.WorkflowQueryResult{
			"good": {ResultType: enumspb.QUERY_RESULT_TYPE_ANSWERED},
			"bad":  {ResultType: enumspb.QUERY_RESULT_TYPE_FAILED, ErrorMessage: secret},
		}}
		before := proto.CloneOf(req)
		if _, err := cl.WorkflowService().RespondWorkflowTaskCompleted(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(before, req) {
			t.Error("the request was mutated")
		}
		bad := s.piggyback.GetQueryResults()["bad"]
		if strings.Contains(s.piggyback.String(), "CANARY") || s.piggyback.GetQueryResults()["good"].GetFailure() != nil {
			t.Errorf("sent %s", s.piggyback)
		}
		s.message, s.failure = bad.GetErrorMessage(), bad.GetFailure()
		wantQueryFailure(t, cl, secret)
	})
	t.Run("of others pass", func(t *testing.T) {
		s.message, s.failure = "unsealed", &failurepb.Failure{Message: "unsealed"}
		wantQueryFailure(t, cl, "unsealed")
	})
	t.Run("of another key stay shut", func(t *testing.T) {
		other, _ := newCodec(t, onePolicy)
		sealed := codec.NewFailureConverter(codec.NewDataConverter(other, "n", nil)).ErrorToFailure(errors.New(secret))
		s.message, s.failure = sealed.GetMessage(), sealed
		wantQueryFailure(t, cl, sealed.GetMessage())
	})
	t.Run("in plaintext are withheld where payloads must be sealed", func(t *testing.T) {
		strict, _ := newCodec(t, onePolicy+"    requireSealed: true\n")
		s, cl := dialQueryServer(t, strict)
		for _, forged := range []*failurepb.Failure{nil, {Message: "forged", StackTrace: "forged", Cause: &failurepb.Failure{Message: "forged"}}} {
			s.message, s.failure = "forged", forged
			_, err := cl.QueryWorkflow(t.Context(), "w", "", "q")
			var failed *serviceerror.QueryFailed
			if !errors.As(err, &failed) || !strings.Contains(failed.Message, "withheld") || strings.Contains(failed.Failure.String(), "forged") {
				t.Errorf("the query failed with %v, %v", err, failed)
			}
		}
		sealed := codec.NewFailureConverter(codec.NewDataConverter(strict, "n", nil)).ErrorToFailure(errors.New(secret))
		s.message, s.failure = sealed.GetMessage(), sealed
		wantQueryFailure(t, cl, secret)
	})
	t.Run("that cannot be sealed are withheld", func(t *testing.T) {
		cold, backend := newCodec(t, onePolicy)
		s, cl := dialQueryServer(t, cold)
		backend.Fake("a").Always(kmstest.Fail(kms.Unavailable))
		if _, err := cl.WorkflowService().RespondQueryTaskCompleted(t.Context(), &workflowservice.RespondQueryTaskCompletedRequest{
			Namespace: "n", CompletedType: enumspb.QUERY_RESULT_TYPE_FAILED, ErrorMessage: secret,
		}); err != nil {
			t.Fatal(err)
		}
		if got := s.byTask; strings.Contains(got.String(), "CANARY") || !strings.Contains(got.GetErrorMessage(), "withheld") {
			t.Errorf("sent %s", got)
		}
	})
}

func wantQueryFailure(t *testing.T, cl client.Client, want string) {
	t.Helper()
	_, err := cl.QueryWorkflow(t.Context(), "w", "", "q")
	var failed *serviceerror.QueryFailed
	if !errors.As(err, &failed) || failed.Message != want {
		t.Errorf("the query failed with %v, want %q", err, want)
	}
}

// ownJSON is JSON under an encoding that the SDK's own converter does not know.
type ownJSON struct {
	*converter.JSONPayloadConverter
}

func (ownJSON) Encoding() string { return "own/json" }

func (c ownJSON) ToPayload(value any) (*commonpb.Payload, error) {
	p, err := c.JSONPayloadConverter.ToPayload(value)
	if p != nil {
		p.Metadata[converter.MetadataEncoding] = []byte(c.Encoding())
	}
	return p, err
}

func TestQueryFailureInTheClientsOwnEncoding(t *testing.T) {
	c, _ := newCodec(t, onePolicy)
	own := converter.NewCompositeDataConverter(ownJSON{converter.NewJSONPayloadConverter()})
	s, cl := dialQueryServer(t, c, func(o *client.Options) { o.DataConverter = own })
	failure := codec.NewFailureConverter(codec.NewDataConverter(c, "n", own)).ErrorToFailure(errors.New("no such card"))
	s.message, s.failure = failure.GetMessage(), failure
	wantQueryFailure(t, cl, "no such card")
}
