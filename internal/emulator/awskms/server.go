package awskms

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// DefaultRegion is the first of the Regions that a Server serves by default.
	DefaultRegion = "eu-west-1"
	// DefaultAccount owns the keys and identities that name no other.
	DefaultAccount = "111122223333"
	// DefaultAccessKeyID belongs to the identity that every Server knows and that
	// may do everything.
	DefaultAccessKeyID = "AKIAWAXSEALTESTS"
	// DefaultSecretAccessKey goes with it.
	DefaultSecretAccessKey = "only-for-the-test-server" //nolint:gosec // it opens nothing but test servers
)

// maxRequest is the largest request in bytes that is read. The largest that KMS
// takes, 6144 bytes of ciphertext with a context, is far below.
const maxRequest = 1 << 20

// Config says what a Server serves. The zero value is ready for use.
type Config struct {
	// Regions that are served on the one address; the Region that a request is
	// signed for decides which one answers. Default DefaultRegion and us-east-1.
	Regions []string
	// Address to listen on, an IP address of loopback with a port; default
	// 127.0.0.1 and any free port.
	Address string
}

// Server is AWS KMS, and the part of STS that returns the identity, in some Regions: an
// http.Handler that listens on loopback. It is safe for concurrent use.
type Server struct {
	regions []string
	address string
	http    *http.Server
	serving sync.WaitGroup
	stop    chan struct{} // closed by Close: ends stalled requests

	mu           sync.Mutex
	closed       bool
	listener     net.Listener // nil while stopped
	conns        map[net.Conn]struct{}
	keys         map[keyName]*Key
	aliases      map[keyName]*Key
	identities   map[string]*identity
	denied       map[denial]bool
	latency      time.Duration
	ahead        time.Duration
	rotationTime time.Duration
	always       map[string]Fault
	scripts      map[string][]Fault
	counts       map[string]int
}

// keyName names a key or an alias in its Region.
type keyName struct{ region, name string }

// Start returns a Server that answers at URL until it is closed.
func Start(cfg Config) (*Server, error) {
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	if len(cfg.Regions) == 0 {
		cfg.Regions = []string{DefaultRegion, "us-east-1"}
	}
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("awsserver: start: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, errors.New("awsserver: start: the address is not an IP address of loopback")
	}
	s := &Server{
		regions: slices.Clone(cfg.Regions), address: cfg.Address, stop: make(chan struct{}), conns: map[net.Conn]struct{}{},
		keys: map[keyName]*Key{}, aliases: map[keyName]*Key{},
		identities: map[string]*identity{DefaultAccessKeyID: {id: DefaultAccessKeyID, arn: userARN("tester"), secret: DefaultSecretAccessKey, all: true}},
		denied:     map[denial]bool{}, always: map[string]Fault{}, scripts: map[string][]Fault{}, counts: map[string]int{},
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ConnState: s.follow}
	if err := s.Resume(); err != nil {
		return nil, err
	}
	s.address = s.listener.Addr().String()
	return s, nil
}

// URL is the address for clients: their BaseEndpoint, or AWS_ENDPOINT_URL_KMS.
func (s *Server) URL() string { return "http://" + s.address }

// Stop closes the listener and all connections, as when a machine goes down. Keys stay as
// they are until Resume.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return
	}
	_ = s.listener.Close() // there is nothing to lose
	s.listener = nil
	for conn := range s.conns {
		_ = conn.Close() // likewise
	}
}

// Resume listens again, at the same address. It fails if that was taken or the
// server closed, and does nothing if it was not stopped.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("awsserver: resume: the server is closed")
	}
	if s.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.address) //nolint:noctx // listening on loopback does not wait
	if err != nil {
		return fmt.Errorf("awsserver: listen: %w", err)
	}
	s.listener = listener
	s.serving.Go(func() {
		_ = s.http.Serve(listener) // ends with Stop or Close
	})
	return nil
}

// follow remembers connections for Stop.
func (s *Server) follow(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[conn] = struct{}{}
		if s.listener == nil {
			_ = conn.Close() // it came while we stopped
		}
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, conn)
	case http.StateActive, http.StateIdle:
	}
}

// Close ends the server and every request under way, for good. To close it again
// does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	var err error
	if !again {
		close(s.stop)
		if err = s.http.Close(); errors.Is(err, net.ErrClosed) {
			err = nil // it was stopped before
		}
	}
	s.serving.Wait()
	return err
}

// locked runs do with the server locked.
func (s *Server) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// Requests returns how many requests each operation has had, refused ones
// included, since the last call of ResetRequests.
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// ResetRequests sets all counts to zero.
func (s *Server) ResetRequests() {
	s.locked(func() { clear(s.counts) })
}

// ServeHTTP implements http.Handler. The order of checks: protocol, size, fault
// on command, signature, permission, input, key.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	service, operation := serviceOf(r, body)
	switch {
	case service == nil:
		kmsService().writeError(w, fail("UnknownOperationException", "not a request of AWS KMS"))
		return
	case err != nil:
		service.writeError(w, fail("SerializationException", "the request cannot be read"))
		return
	}
	s.mu.Lock()
	s.counts[operation]++
	fault := s.nextFault(operation)
	fault.Latency += s.latency
	ahead := s.ahead
	s.mu.Unlock()
	if ahead != 0 {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
	}
	if !s.before(w, r, service, fault) {
		return
	}
	answer, err := s.answer(r, service, operation, body)
	if err != nil {
		service.writeError(w, err)
		return
	}
	fault.spoil(answer)
	encoded, err := service.encode(answer)
	if err != nil {
		service.writeError(w, fail("KMSInternalException", "the answer cannot be encoded"))
		return
	}
	s.write(w, r, service, fault, encoded)
}

// service is the protocol of one of AWS's services.
type service struct {
	name        string   // in the scope of signatures
	signed      []string // headers that a signature must cover
	contentType string
	operations  func() map[string]operation
	encode      func(answer any) ([]byte, error)
	encodeError func(e *apiError) []byte
	status      func(code string) int
}

func kmsService() *service {
	return &service{
		name: "kms", signed: []string{"host", "x-amz-date", "x-amz-target"}, contentType: "application/x-amz-json-1.1",
		operations: operations, encode: json.Marshal, encodeError: errorJSON, status: statusOf,
	}
}

// serviceOf returns the service and the operation that a request is for, or nil.
func serviceOf(r *http.Request, body []byte) (*service, string) {
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		return nil, ""
	}
	if operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService."); ok {
		return kmsService(), operation
	}
	if action := stsAction(r, body); action != "" {
		return stsService(), action
	}
	return nil, ""
}

// answer executes a request.
func (s *Server) answer(r *http.Request, service *service, operation string, body []byte) (any, error) {
	do, ok := service.operations()[operation]
	if !ok {
		return nil, fail("UnknownOperationException", "this server does not know the operation")
	}
	who, region, err := s.authenticate(r, service, body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return do(&call{server: s, who: who, region: region, operation: operation}, body)
}
