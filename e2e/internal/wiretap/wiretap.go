package wiretap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // the SDK compresses what it sends
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// maxMessage is larger than what a Temporal server takes.
const maxMessage = 64 << 20

// Call is one call that was answered or failed.
type Call struct {
	Method   string // as "/package.Service/Method"
	Request  []byte // the message, decompressed
	Response []byte // the message; nil when the call failed
	Status   *status.Status
	Sent     metadata.MD // what came with the request
	Received metadata.MD // header and trailer of the answer
}

// Tap listens in. It is safe for concurrent use.
type Tap struct {
	HostPort string // where the program connects

	server *grpc.Server
	conn   *grpc.ClientConn
	done   chan error

	mu    sync.Mutex
	calls []Call
}

// Open starts a Tap in front of a server. Close it.
func Open(ctx context.Context, hostPort string) (*Tap, error) {
	conn, err := grpc.NewClient("passthrough:///"+hostPort, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("wiretap: connect: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wiretap: listen: %w", err), conn.Close())
	}
	t := &Tap{HostPort: listener.Addr().String(), conn: conn, done: make(chan error, 1)}
	t.server = grpc.NewServer(grpc.ForceServerCodec(codec{}), grpc.UnknownServiceHandler(t.handle),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.WaitForHandlers(true))
	go func() { t.done <- t.server.Serve(listener) }()
	return t, nil
}

// Close ends the calls in progress and the Tap. What was kept can still be read.
func (t *Tap) Close() error {
	t.server.Stop()
	return errors.Join(<-t.done, t.conn.Close())
}

// Calls returns all calls that have ended, in the order in which they did.
func (t *Tap) Calls() []Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.calls)
}

// Any reports whether some call so far is what the caller looks for.
func (t *Tap) Any(is func(Call) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.calls, is)
}

func (t *Tap) handle(_ any, stream grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(stream)
	if !ok {
		return status.Error(codes.Internal, "wiretap: a call without a method")
	}
	ctx := stream.Context()
	call := Call{Method: method}
	var in, out frame
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	call.Request = in
	call.Sent, _ = metadata.FromIncomingContext(ctx)
	var header, trailer metadata.MD
	err := t.conn.Invoke(metadata.NewOutgoingContext(ctx, call.Sent.Copy()), method, &in, &out, grpc.Header(&header), grpc.Trailer(&trailer))
	call.Status, call.Received = status.Convert(err), metadata.Join(header, trailer)
	if err == nil {
		call.Response = out
	}
	t.mu.Lock()
	t.calls = append(t.calls, call)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	stream.SetTrailer(trailer)
	return stream.SendMsg(&out)
}

// frame is a message that is not decoded.
type frame []byte

// codec takes messages for the bytes they are.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) ([]byte, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("wiretap: marshal %T", v)
	}
	return *f, nil
}

func (codec) Unmarshal(b []byte, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("wiretap: unmarshal %T", v)
	}
	*f = slices.Clone(b)
	return nil
}
