package wiretap

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers with a header and a trailer, or fails with the metadata of the request.
type server struct {
	healthpb.UnimplementedHealthServer
}

func (server) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if r.GetService() == "fail" {
		return nil, status.Error(codes.FailedPrecondition, "no: "+strings.Join(md["sent"], ""))
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("header", "one"))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("trailer", "two"))
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func TestTap(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, server{})
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(listener) })
	t.Cleanup(func() { s.Stop(); serving.Wait() })

	tap, err := Open(t.Context(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(tap.HostPort, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	if err != nil {
		t.Fatal(err)
	}
	client := healthpb.NewHealthClient(conn)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "sent", "three")
	secret := strings.Repeat("secret ", 100)
	got, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: secret})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(got, err)
	}
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "fail"}); status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "no: three" {
		t.Errorf("got %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}

	calls := tap.Calls()
	if len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	answered, failed := calls[0], calls[1]
	if answered.Method != "/grpc.health.v1.Health/Check" || !bytes.Contains(answered.Request, []byte(secret)) || len(answered.Response) == 0 || answered.Status.Code() != codes.OK {
		t.Errorf("kept %+v", answered)
	}
	if answered.Sent.Get("sent")[0] != "three" || answered.Received.Get("header")[0] != "one" || answered.Received.Get("trailer")[0] != "two" {
		t.Errorf("kept %v and %v", answered.Sent, answered.Received)
	}
	if failed.Status.Code() != codes.FailedPrecondition || failed.Response != nil {
		t.Errorf("kept %+v", failed)
	}
	if !tap.Any(func(c Call) bool { return c.Status.Code() == codes.FailedPrecondition }) || tap.Any(func(c Call) bool { return c.Method == "" }) {
		t.Error("Any is wrong")
	}
}

func TestCodecTakesFramesAlone(t *testing.T) {
	if _, err := (codec{}).Marshal("x"); err == nil {
		t.Error("marshalled a string")
	}
	if err := (codec{}).Unmarshal(nil, new(string)); err == nil {
		t.Error("unmarshalled into a string")
	}
}
