package gcpkms

import (
	"context"
	"net/url"
	"sync"

	"github.com/waxseal/waxseal/kms"
)

// sharedConnections is how many connections the keys of one endpoint share. Google's
// front ends take some 100 requests at a time on each.
const sharedConnections = 4

// NewBackend returns a Backend like the constant of that name whose keys share what
// they can: all keys at one endpoint use the same few connections, and the same
// credentials and access token. That is for programs that open many keys, such as
// one for each namespace. Credentials are looked for when the first of them is
// opened; the last Close closes the connections.
func NewBackend() kms.Backend {
	return &sharing{users: make(map[target]*shared)}
}

// sharing is a Backend with state of its own.
type sharing struct {
	mu    sync.Mutex
	users map[target]*shared
}

// target is all that tells the connections of URIs apart.
type target struct {
	endpoint  string
	plaintext bool
}

type shared struct {
	conn *connection
	keys int
}

var _ kms.Matcher = (*sharing)(nil)

// Scheme implements kms.Backend.
func (*sharing) Scheme() string { return Scheme }

// Open implements kms.Backend, as Backend documents it.
func (s *sharing) Open(_ context.Context, uri *url.URL) (kms.Key, error) {
	cfg, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	key, err := cfg.open(s.connect)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// MayRecord implements kms.Matcher, as Backend does.
func (*sharing) MayRecord(uri *url.URL, id string) bool { return Backend.MayRecord(uri, id) }

// connect holds the lock while it looks for credentials: whoever else opens a key
// waits for the same.
func (s *sharing) connect(cfg Config) (*connection, func() error, error) {
	at := target{cfg.Endpoint, cfg.InsecurePlaintext}
	s.mu.Lock()
	defer s.mu.Unlock()
	use := s.users[at]
	if use == nil {
		conn, err := cfg.dial(sharedConnections)
		if err != nil {
			return nil, nil, err
		}
		use = &shared{conn: conn}
		s.users[at] = use
	}
	use.keys++
	return use.conn, func() error { return s.release(at, use) }, nil
}

// release is called once for each connect.
func (s *sharing) release(at target, use *shared) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if use.keys--; use.keys > 0 {
		return nil
	}
	delete(s.users, at)
	return use.conn.client.Close()
}
