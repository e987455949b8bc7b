package gcpkms

import (
	"context"
	"net/url"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// sharedConnections is how many connections the keys of one endpoint share. Google's
// front ends take some 100 requests at a time on each.
const sharedConnections = 4

// NewBackend returns a Backend like the constant of that name, with keys that share what
// they can: all keys at one endpoint use the same few connections, and the same credentials
// and access token. That is for programs that open many keys, such as one for each
// namespace. Credentials are looked for when the first of them is opened; the last Close
// closes the connections.
func NewBackend() kms.Backend {
	return sharing{driver.NewSessions[target](func(c *connection) error { return c.client.Close() })}
}

// sharing is a Backend with state of its own.
type sharing struct {
	sessions *driver.Sessions[target, *connection]
}

// target identifies the connections of a URI.
type target struct {
	endpoint  string
	plaintext bool
}

var _ kms.Matcher = sharing{}

// Scheme implements kms.Backend.
func (sharing) Scheme() string { return Scheme }

// Open implements kms.Backend, as Backend documents it.
func (s sharing) Open(_ context.Context, uri *url.URL) (kms.Key, error) {
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
func (sharing) MayRecord(uri *url.URL, id string) bool { return Backend.MayRecord(uri, id) }

func (s sharing) connect(cfg Config) (*connection, func() error, error) {
	return s.sessions.Use(target{cfg.Endpoint, cfg.InsecurePlaintext}, func() (*connection, error) { return cfg.dial(sharedConnections) })
}
