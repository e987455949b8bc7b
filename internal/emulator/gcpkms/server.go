package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Server is a running Cloud KMS. It is safe for concurrent use.
type Server struct {
	grpc     *grpc.Server
	listener *listener
	done     chan struct{} // closed when serving has ended

	mu       sync.Mutex
	rings    map[string]time.Time // name → when it was made
	keys     map[string]*cryptoKey
	faults   []*pending
	denied   map[denial]bool
	tokens   map[string]string // bearer token → member
	bindings map[binding]bool
	calls    map[string]int

	latency, generation time.Duration
	tellsTime           bool
	ahead               time.Duration // of this machine's clock

	inFlight, mostInFlight int
}

// service is the gRPC face of a Server.
type service struct {
	kmspb.UnimplementedKeyManagementServiceServer
	*Server
}

// Start runs a server without keys. address is a loopback one such as
// "127.0.0.1:9010", or "127.0.0.1:0" for any free port; any other is refused.
// The caller ends it with Close.
func Start(ctx context.Context, address string) (*Server, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("gcpserver: parse address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("gcpserver: the address is not a loopback one")
	}
	inner, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("gcpserver: listen: %w", err)
	}
	s := &Server{
		listener: &listener{Listener: inner, conns: make(map[string]*conn)},
		done:     make(chan struct{}),
		rings:    make(map[string]time.Time), keys: make(map[string]*cryptoKey),
		denied: make(map[denial]bool), tokens: make(map[string]string), bindings: make(map[binding]bool),
		calls: make(map[string]int),
	}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept), grpc.WaitForHandlers(true))
	kmspb.RegisterKeyManagementServiceServer(s.grpc, &service{Server: s})
	go func() {
		defer close(s.done)
		_ = s.grpc.Serve(s.listener) // ends when Close is called, which is no failure
	}()
	return s, nil
}

// Addr is where the server listens, such as "127.0.0.1:40123".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends the server and every call under way. It may be called twice.
func (s *Server) Close() {
	s.AnswerInstead(nil)
	s.grpc.Stop()
	<-s.done
}

// SetLatency delays every request by d, as if the server were that far away; requests wait
// at the same time. Zero ends it.
func (s *Server) SetLatency(d time.Duration) {
	s.locked(func() { s.latency = d })
}

// TellTime adds a "date" header to answers, as Google's front ends do, by a clock that is
// this much ahead of the machine's.
func (s *Server) TellTime(ahead time.Duration) {
	s.locked(func() { s.tellsTime, s.ahead = true, ahead })
}

// locked runs do with the server locked.
func (s *Server) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// intercept counts a call, authenticates it, and applies its fault.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	s.mu.Lock()
	s.calls[method]++
	s.inFlight++
	s.mostInFlight = max(s.mostInFlight, s.inFlight)
	latency, tellsTime, ahead := s.latency, s.tellsTime, s.ahead
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
	}()
	if tellsTime {
		now := time.Now().Add(ahead).UTC().Format(http.TimeFormat)
		_ = grpc.SetHeader(ctx, metadata.Pairs("date", now)) // it fails only outside of a handler
	}
	if err := wait(ctx, latency); err != nil {
		return nil, err
	}
	f := s.nextFault(method)
	if err := f.strike(ctx); err != nil {
		return nil, err
	}
	ctx, err := s.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := handler(withFault(ctx, f), req)
	if err == nil {
		f.harmAdminAnswer(answer)
	}
	if f.Reset {
		s.listener.cut(ctx)
	}
	return answer, err
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Calls returns how often method, such as "Encrypt", was called since the start
// or ResetCalls, failed calls included. Empty means all methods.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if method != "" {
		return s.calls[method]
	}
	total := 0
	for _, n := range s.calls {
		total += n
	}
	return total
}

// InFlight returns how many calls are under way.
func (s *Server) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight
}

// MostInFlight returns how many calls were under way at once at most, since the
// start or ResetCalls.
func (s *Server) MostInFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mostInFlight
}

// ResetCalls sets the counters of Calls and MostInFlight to zero.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
	s.mostInFlight = s.inFlight
}
