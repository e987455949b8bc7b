package vaultkms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// maxRedirects is how often one request follows Vault: a standby node that does
// not forward names the active one, which answers itself.
const maxRedirects = 1

// errRedirect means that Vault pointed to a place where the token must not go.
var errRedirect = errors.New("vaultkms: redirect to a less protected address")

// errElsewhere means that something in front of Vault, such as a login page,
// pointed to what is not the same request at another node.
var errElsewhere = errors.New("vaultkms: redirect to another path")

// errRateLimit means that VAULT_RATE_LIMIT, our own limit, leaves no room in time.
var errRateLimit = errors.New("vaultkms: rate limit reached")

// client sends requests over the transport that Vault's own client library has set up from
// the environment. It does not use the library to send them: that reads answers without
// bound into strings that cannot be wiped, and drops Vault's reports on the items of a
// batch if one of them failed.
type client struct {
	api       *vault.Client
	http      *http.Client
	login     *login // nil where an agent adds its own token
	index     index
	address   string
	timeout   time.Duration
	redirects bool
	insecure  bool
	// authNamespace is where our token is from.
	authNamespace string
}

// request is one request to Vault.
type request struct {
	method, path string
	namespace    string // empty for root
	body         []byte // nil for none; wiped
	limit        int64  // in bytes, for the answer
	// own says that the request is about a login. It carries token, if any, and
	// neither needs a login itself nor waits for our own rate limit.
	own   bool
	token Token
	// once says that it does harm to send the request twice.
	once bool
	// forward makes a node that is behind forward the request.
	forward bool
	// silent says that an answer without a body is a good one.
	silent bool
}

// reply is Vault's answer before it is looked at. The caller wipes body.
type reply struct {
	status     int
	method     string
	url        string
	namespace  string
	retryAfter time.Duration
	body       []byte
}

// send makes one request and wipes its body, also when it fails. The error is
// net/http's, ctx's, the login's or one of ours; an answer of any status is none.
//
// The request goes out again in three cases only: the token that we got was
// refused and there is another (once), the node is behind what we have seen
// (maxStale times) or cannot make sense of it (once), or a connection that lay idle was closed (see once).
func (c *client) send(ctx context.Context, req request) (*reply, error) {
	sent := driver.NewBody(req.body)
	defer sent.Wipe()
	ctx, cancel := kms.WithLimit(ctx, c.timeout)
	defer cancel()
	if limiter := c.api.Limiter(); limiter != nil && !req.own {
		if err := limiter.Wait(ctx); err != nil {
			if ctx.Err() == nil { // the wait would outlast the deadline
				return nil, errRateLimit
			}
			return nil, stalled(ctx, err)
		}
	}
	login := c.login
	if req.own {
		login = nil
	}
	if login != nil {
		var err error
		if req.token, err = login.token(ctx); err != nil {
			return nil, stalled(ctx, err)
		}
	}
	replaced := false
	for stale := 0; ; {
		r, err := c.exchange(ctx, req, sent)
		if err != nil {
			return nil, err
		}
		switch {
		case r.status == http.StatusBadRequest && req.forward && strings.Contains(string(r.body), forwardToActive):
			c.index.noForward.Store(true)
			req.forward = false
			continue
		case r.status == http.StatusBadRequest && stale < maxStale && refuses(string(r.body)):
			c.index.forget()
			stale = maxStale
			continue
		case r.status == http.StatusPreconditionFailed && stale == maxStale:
			c.index.forget()
		case r.status == http.StatusPreconditionFailed:
			stale++
			if req.forward = !c.index.noForward.Load(); req.forward && stale == 1 {
				continue // the active node is not behind
			}
			select {
			case <-time.After(staleWait):
				continue
			case <-ctx.Done():
				return r, nil
			}
		case r.status != http.StatusForbidden:
			if login != nil {
				login.accepted.Store(true)
			}
		case login != nil && !replaced:
			replaced = true
			sure := blamesToken(string(r.body))
			token, err := login.replace(ctx, req.token, sure)
			if err != nil {
				return nil, stalled(ctx, err)
			}
			if token != req.token {
				req.token = token
				continue
			}
		}
		return r, nil
	}
}

// blamesToken reports whether an answer of 403 is about the token, and not about
// what it may do.
func blamesToken(message string) bool {
	return strings.Contains(message, "invalid token") || strings.Contains(message, "bad token")
}

// exchange makes one request, and follows Vault once to another node.
func (c *client) exchange(ctx context.Context, req request, sent *driver.Body) (*reply, error) {
	template := c.api.NewRequest(req.method, "/v1/"+req.path)
	header := template.Headers
	header.Del(vault.NamespaceHeaderName) // the environment's, where ours is another
	if req.namespace != "" {
		header.Set(vault.NamespaceHeaderName, req.namespace)
	}
	if req.token != "" {
		header.Set(vault.AuthHeaderName, string(req.token))
	}
	if req.body != nil {
		header.Set("Content-Type", "application/json")
	}
	c.index.demand(header, req.forward)

	target := template.URL
	for hop := 0; ; hop++ {
		resp, err := c.once(ctx, req, target, template.Host, header, sent)
		if err != nil {
			return nil, err
		}
		if next := redirectTarget(resp); next != nil && c.redirects && hop < maxRedirects {
			resp.Body.Close()
			if target.Scheme == "https" && next.Scheme != "https" || driver.Exposed(next) && !c.insecure {
				return nil, errRedirect
			}
			// A standby names another host and keeps the path; a prefix that a proxy
			// takes off is no part of what it sees.
			if !strings.HasSuffix(next.Path, "/v1/"+req.path) || next.User != nil {
				return nil, errElsewhere
			}
			target, template.Host = next, next.Host
			continue
		}
		answer, err := driver.ReadSecret(resp.Body, resp.ContentLength, req.limit)
		resp.Body.Close()
		if err != nil {
			return nil, stalled(ctx, err)
		}
		c.index.seen(resp.Header)
		return &reply{
			status: resp.StatusCode, method: req.method, url: target.Redacted(), namespace: req.namespace,
			retryAfter: driver.RetryAfter(resp.Header.Get("Retry-After"), resp.Header.Get("Date"), time.Now()), body: answer,
		}, nil
	}
}

// once makes one HTTP request: see driver.Send.
func (c *client) once(ctx context.Context, ask request, target *url.URL, host string, header http.Header, body *driver.Body) (*http.Response, error) {
	size := len(ask.body)
	answer, err := driver.Send(ctx, c.http, ask.once, func(ctx context.Context) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, ask.method, target.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("vaultkms: make request: %w", err)
		}
		req.Host = host
		req.Header = header.Clone()
		if size > 0 {
			req.Body, req.ContentLength = body.Reader(), int64(size)
			if !ask.once {
				req.GetBody = func() (io.ReadCloser, error) { return body.Reader(), nil }
			}
		}
		return req, nil
	})
	if err != nil {
		return nil, stalled(ctx, err)
	}
	return answer, nil
}

// stalled returns the LateError of our own timeout in place of err, if it ended ctx.
func stalled(ctx context.Context, err error) error {
	if late := kms.Late(ctx); late != nil {
		return late
	}
	return err
}

// redirectTarget returns where resp points, nil if nowhere.
func redirectTarget(resp *http.Response) *url.URL {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if next, err := resp.Location(); err == nil && (next.Scheme == "http" || next.Scheme == "https") {
			return next
		}
	}
	return nil
}
