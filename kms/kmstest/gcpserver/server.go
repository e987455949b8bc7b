package gcpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
)

// Server is a running Cloud KMS. It is safe for concurrent use.
type Server struct {
	grpc     *grpc.Server
	listener *listener
	done     chan struct{} // closed when serving has ended

	mu     sync.Mutex
	rings  map[string]time.Time // name → when it was made
	keys   map[string]*cryptoKey
	faults []*pending
	denied map[denial]bool
	calls  map[string]int

	inFlight, mostInFlight int
}

type denial struct{ permission, resource string }

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
		listener: &listener{Listener: inner, conns: make(map[net.Conn]bool)},
		done:     make(chan struct{}),
		rings:    make(map[string]time.Time), keys: make(map[string]*cryptoKey),
		denied: make(map[denial]bool), calls: make(map[string]int),
	}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
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
	s.grpc.Stop()
	<-s.done
}

// DropConnections cuts every connection: calls under way fail, and clients
// connect anew.
func (s *Server) DropConnections() { s.listener.drop() }

// intercept counts a call and has its fault befall it.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	s.mu.Lock()
	s.calls[method]++
	s.inFlight++
	s.mostInFlight = max(s.mostInFlight, s.inFlight)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
	}()
	f := s.nextFault(method)
	if err := f.strike(ctx); err != nil {
		return nil, err
	}
	return handler(withFault(ctx, f), req)
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

// Deny takes an IAM permission, such as "cloudkms.cryptoKeyVersions.useToEncrypt",
// from everybody, on resource and all below it; an empty resource is everything.
// Calls that need it answer PERMISSION_DENIED, whether the resource exists or not.
func (s *Server) Deny(permission, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[denial{permission, resource}] = true
}

// Allow takes back the Deny with the same arguments.
func (s *Server) Allow(permission, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.denied, denial{permission, resource})
}

// allowed is called with s.mu held.
func (s *Server) allowed(permission, resource string) error {
	for d := range s.denied {
		if d.permission == permission && (d.resource == "" || d.resource == resource || strings.HasPrefix(resource, d.resource+"/")) {
			return permissionDenied(permission, resource)
		}
	}
	return nil
}

// listener remembers connections, to be able to drop them.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	tracked := &conn{Conn: c, of: l}
	l.conns[tracked] = true
	return tracked, nil
}

func (l *listener) drop() {
	l.mu.Lock()
	var all []net.Conn
	for c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close() // it is gone either way
	}
}

type conn struct {
	net.Conn
	of *listener
}

func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
