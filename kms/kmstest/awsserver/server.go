package awsserver

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
	// DefaultAccount owns all keys.
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

// Server is AWS KMS of one account in some Regions: an http.Handler that listens
// on loopback. It is safe for concurrent use.
type Server struct {
	regions  []string
	http     *http.Server
	listener net.Listener
	served   chan struct{}
	stop     chan struct{} // closed by Close: lets go of stalled requests

	mu         sync.Mutex
	keys       map[keyName]*Key
	aliases    map[keyName]*Key
	identities map[string]*identity
	denied     map[denial]bool
	always     map[string]Fault
	scripts    map[string][]Fault
	counts     map[string]int
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
	listener, err := net.Listen("tcp", cfg.Address) //nolint:noctx // listening on loopback does not wait
	if err != nil {
		return nil, fmt.Errorf("awsserver: start: %w", err)
	}
	s := &Server{
		regions: slices.Clone(cfg.Regions), listener: listener,
		served: make(chan struct{}), stop: make(chan struct{}),
		keys: map[keyName]*Key{}, aliases: map[keyName]*Key{},
		identities: map[string]*identity{DefaultAccessKeyID: {secret: DefaultSecretAccessKey, all: true}},
		denied:     map[denial]bool{}, always: map[string]Fault{}, scripts: map[string][]Fault{}, counts: map[string]int{},
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // ends with Close
	}()
	return s, nil
}

// URL is the address for clients: their BaseEndpoint, or AWS_ENDPOINT_URL_KMS.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends the server and every request under way. It may be called once.
func (s *Server) Close() error {
	close(s.stop)
	err := s.http.Close()
	<-s.served
	return err
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
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.counts)
}

// ServeHTTP implements http.Handler. The order of checks: protocol, size, fault
// on command, signature, permission, input, key.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !ok || r.Method != http.MethodPost || r.URL.Path != "/" {
		writeError(w, fail("UnknownOperationException", "not a request of AWS KMS"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		writeError(w, fail("SerializationException", "the request cannot be read"))
		return
	}
	s.mu.Lock()
	s.counts[operation]++
	fault := s.nextFault(operation)
	s.mu.Unlock()
	if !s.before(w, r, fault) {
		return
	}
	answer, err := s.answer(r, operation, body)
	if err != nil {
		writeError(w, err)
		return
	}
	fault.spoil(answer)
	encoded, err := json.Marshal(answer)
	if err != nil {
		writeError(w, fail("KMSInternalException", "the answer cannot be encoded"))
		return
	}
	s.write(w, r, fault, encoded)
}

// answer does what the request asks for.
func (s *Server) answer(r *http.Request, operation string, body []byte) (any, error) {
	do, ok := operations()[operation]
	if !ok {
		return nil, fail("UnknownOperationException", "this server does not know the operation")
	}
	who, region, err := s.authenticate(r, body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return do(&call{server: s, who: who, region: region, operation: operation}, body)
}
