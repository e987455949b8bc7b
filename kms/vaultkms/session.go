package vaultkms

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
)

// settings is all that decides how requests reach Vault and as whom. Keys with
// equal settings can share a client.
type settings struct {
	address  string
	viaAgent bool
	timeout  time.Duration
	insecure bool
	auth     Auth
}

// connect returns a client with a login of its own.
func connect(s settings, conf *vault.Config) (*client, error) {
	if transport, ok := conf.HttpClient.Transport.(*http.Transport); ok {
		transport.MaxIdleConnsPerHost = maxIdleConns
		transport.DisableCompression = true // an inflater would hold data keys that nobody wipes
	}
	api, err := vault.NewClient(conf)
	if err != nil {
		return nil, badEnvironment(err)
	}
	api.ClearToken() // it read VAULT_TOKEN on its own; ours comes with each request
	c := &client{
		api:       api,
		http:      conf.HttpClient,
		address:   s.address,
		timeout:   s.timeout,
		redirects: !conf.DisableRedirects,
		insecure:  s.insecure,

		authNamespace: s.auth.Namespace,
	}
	if method := newMethod(c, s.auth); method != nil {
		c.login = newLogin(method, s.timeout)
		c.login.renew, c.login.look = c.renew(s.auth.Namespace), c.look(s.auth.Namespace)
	}
	return c, nil
}

// close stops the login and closes idle connections.
func (c *client) close() {
	if c.login != nil {
		c.login.close()
	}
	c.http.CloseIdleConnections()
}

// Shared is a kms.Backend whose keys share connections and logins: all that have
// the same address and log in the same way are served by one token, which is
// renewed once. Ten thousand keys of one template are one login. Backend, by
// contrast, gives every key connections and a login of its own.
//
// The settings for TLS and proxies are those of the environment when the first
// key of an address and login was opened. Safe for concurrent use.
type Shared struct {
	mu       sync.Mutex
	sessions map[settings]*session
}

// session is a client that several keys use.
type session struct {
	client *client
	keys   int
}

var (
	_ kms.Backend = (*Shared)(nil)
	_ kms.Matcher = (*Shared)(nil)
)

// NewBackend returns a Shared for one kms.Registry.
func NewBackend() *Shared { return &Shared{sessions: make(map[settings]*session)} }

// Scheme implements kms.Backend.
func (b *Shared) Scheme() string { return Scheme }

// Open implements kms.Backend, for the URIs that Backend takes. It does not reach
// Vault. When the last of the keys with one login is closed, what served them is.
func (b *Shared) Open(_ context.Context, uri *url.URL) (kms.Key, error) {
	return open(uri, b.connect)
}

// MayRecord implements kms.Matcher, as Backend does.
func (b *Shared) MayRecord(uri *url.URL, id string) bool { return Backend.MayRecord(uri, id) }

// connect returns the client for s, and what gives it up.
func (b *Shared) connect(s settings, conf *vault.Config) (*client, func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	shared, ok := b.sessions[s]
	if !ok {
		c, err := connect(s, conf)
		if err != nil {
			return nil, nil, err
		}
		shared = &session{client: c}
		b.sessions[s] = shared
	}
	shared.keys++
	return shared.client, func() {
		b.mu.Lock()
		shared.keys--
		last := shared.keys == 0
		if last {
			delete(b.sessions, s)
		}
		b.mu.Unlock()
		if last {
			shared.client.close()
		}
	}, nil
}

// String keeps the credentials in the map from being printed.
func (b *Shared) String() string { return "vaultkms.Shared" }

// GoString returns the same.
func (b *Shared) GoString() string { return b.String() }
