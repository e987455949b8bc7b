package gcpkms

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/api/option"

	"github.com/waxseal/waxseal/kms/internal/driver"
)

const (
	// defaultEndpoint is where Cloud KMS is reached unless the environment or a
	// Config says otherwise.
	defaultEndpoint = "cloudkms.googleapis.com:443"

	// defaultTimeout bounds one request without a deadline of its caller. Cloud KMS answers
	// in some tens of milliseconds; one that is stuck should not hold a worker for the 60 s
	// that Google's client waits.
	defaultTimeout = 10 * time.Second
)

// Config says which key to open and how to reach Cloud KMS. Name is required.
type Config struct {
	// Name is the key's resource name,
	// "projects/P/locations/L/keyRings/R/cryptoKeys/K", without a version.
	Name string

	// Endpoint is the "host:port" of another door to Cloud KMS, such as a Private
	// Service Connect endpoint, or of an emulator; default cloudkms.googleapis.com:443. It is
	// not part of what is recorded.
	Endpoint string
	// InsecurePlaintext speaks to an emulator: without TLS, and without any
	// credentials. Every data key can be read on the way, so Endpoint must be a
	// loopback address.
	InsecurePlaintext bool

	// Timeout bounds each request, on top of the caller's deadline; default 10 s.
	Timeout time.Duration

	// ClientOptions are passed on to Google's client, for credentials that are not
	// the environment's. Not together with InsecurePlaintext.
	ClientOptions []option.ClientOption
}

// New returns the key that cfg names. Credentials are Google's Application Default
// Credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names, the ones that "gcloud
// auth application-default login" left, or those of the machine, workload or service
// account that the process runs as. New looks for them once, which is a request to Google's
// metadata server if there is no file; with InsecurePlaintext there are none.
//
// New does not reach Cloud KMS. Each key has a connection of its own; NewBackend is for
// programs that open many. A Config that cannot be used gives an *kms.Error of class
// Invalid that lists everything wrong with it. Credentials that are missing or cannot be
// read give class Unavailable: they may be there in a moment.
func New(cfg Config) (*Key, error) {
	return cfg.open(func(cfg Config) (*connection, func() error, error) {
		conn, err := cfg.dial(1)
		if err != nil {
			return nil, nil, err
		}
		return conn, conn.client.Close, nil
	})
}

// open makes the key of cfg over the connection that connect returns, together with the
// function that releases it.
func (cfg Config) open(connect func(Config) (*connection, func() error, error)) (*Key, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	k := &Key{id: keyID(cfg.Name), name: cfg.Name, endpoint: cfg.Endpoint, timeout: cfg.Timeout, generation: maxGeneration}
	if k.endpoint == "" {
		k.endpoint = defaultEndpoint
	}
	conn, release, err := connect(cfg)
	if err != nil {
		return nil, k.noClient(len(cfg.ClientOptions) > 0, err)
	}
	k.conn, k.release = conn, sync.OnceValue(release)
	return k, nil
}

// check lists all that is wrong with cfg after its defaults are filled in.
func (cfg Config) check() error {
	var problems driver.Problems
	bad := problems.Bad
	if problem := nameProblem(cfg.Name); problem != "" {
		bad(problem, "name the key as projects/P/locations/L/keyRings/R/cryptoKeys/K")
	}
	if cfg.Timeout < 0 {
		bad("the timeout is negative", "leave the timeout out, or give a positive one")
	}
	if cfg.Endpoint != "" && !validEndpoint(cfg.Endpoint) {
		bad("the endpoint is not of the form host:port", "write it like cloudkms.googleapis.com:443, without https://")
	}
	if cfg.InsecurePlaintext {
		if !loopback(cfg.Endpoint) {
			bad("without TLS the endpoint must be a loopback address: every data key could be read on the way",
				"run the emulator on 127.0.0.1, or reach it through a tunnel, or leave "+paramInsecure+" out")
		}
		if len(cfg.ClientOptions) > 0 {
			bad("client options do not go with plaintext", "leave them out: an emulator takes no credentials")
		}
	}
	id := ""
	if nameProblem(cfg.Name) == "" {
		id = keyID(cfg.Name)
	}
	if err := problems.Err(driver.OpOpen, id); err != nil {
		return err
	}
	return nil
}

// validEndpoint reports whether s is a host and a port and nothing that gRPC
// would take for a resolver's scheme.
func validEndpoint(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || strings.ContainsAny(host, "/@?# ") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func loopback(endpoint string) bool {
	host, _, err := net.SplitHostPort(endpoint)
	return err == nil && driver.Loopback(host)
}
