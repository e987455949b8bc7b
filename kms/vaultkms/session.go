package vaultkms

import (
	"context"
	"net/http"
	"net/url"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// settings is all that decides how requests reach Vault and with which identity. Keys with
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
		transport.DisableCompression = true // an inflater would hold data keys that are never wiped
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
		c.login.renew, c.login.look = c.renew, c.look
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

// NewBackend returns a Backend like the constant of that name, with keys that share
// connections and logins: all that have the same address and log in the same way use one
// token, which is renewed once. Ten thousand keys of one template are one login. The last
// of the keys with one login closes it.
//
// The settings for TLS and proxies are those of the environment when the first key of
// an address and login was opened. Safe for concurrent use.
func NewBackend() kms.Backend {
	return sharing{driver.NewSessions[settings](func(c *client) error { c.close(); return nil })}
}

// sharing is a Backend with state of its own.
type sharing struct {
	*driver.Sessions[settings, *client]
}

var _ kms.Matcher = sharing{}

// Scheme implements kms.Backend.
func (sharing) Scheme() string { return Scheme }

// Open implements kms.Backend, for the URIs that Backend takes. It does not reach
// Vault.
func (b sharing) Open(_ context.Context, uri *url.URL) (kms.Key, error) { return open(uri, b.connect) }

// MayRecord implements kms.Matcher, as Backend does.
func (sharing) MayRecord(uri *url.URL, id string) bool { return Backend.MayRecord(uri, id) }

// connect returns the client for s, and what gives it up.
func (b sharing) connect(s settings, conf *vault.Config) (*client, func(), error) {
	c, release, err := b.Use(s, func() (*client, error) { return connect(s, conf) })
	if err != nil {
		return nil, nil, err
	}
	return c, func() { _ = release() }, nil // close returns no error
}
