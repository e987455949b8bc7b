package vaultkms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	vault "github.com/hashicorp/vault/api"
)

// maxRedirects is how often one request follows Vault: a standby node that does
// not forward names the active one, which answers itself.
const maxRedirects = 1

// errRedirect means that Vault pointed to a place where the token must not go.
var errRedirect = errors.New("vaultkms: redirect to a less protected address")

// errElsewhere means that something in front of Vault, such as a login page,
// pointed to what is not the same request at another node.
var errElsewhere = errors.New("vaultkms: redirect to another path")

// errStalled means that our own timeout ended the request, not the caller's context.
var errStalled = errors.New("vaultkms: no answer in time")

// errRateLimit means that VAULT_RATE_LIMIT, our own limit, leaves no room in time.
var errRateLimit = errors.New("vaultkms: rate limit reached")

// client sends requests over the transport that Vault's own client library has
// set up from the environment. It sends them itself, because the library reads
// answers without bound into strings that cannot be wiped, and throws away what
// Vault says about each item of a batch when one of them failed.
type client struct {
	api       *vault.Client
	http      *http.Client
	token     tokenSource
	address   string
	namespace string
	timeout   time.Duration
	redirects bool
	insecure  bool
}

// reply is Vault's answer before it is looked at. The caller wipes body.
type reply struct {
	status int
	method string
	url    string
	body   []byte
}

// send makes one request and wipes body, also when it fails. It reads at most
// limit bytes of the answer. The error is net/http's, ctx's or one of ours; an
// answer of any status is none.
func (c *client) send(ctx context.Context, method, path string, body []byte, limit int64) (*reply, error) {
	sent := &secretBody{buf: body}
	defer sent.wipe()
	// The caller's own deadline must stay apart from ours: one means that it gave
	// up, the other that Vault is stuck.
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errStalled)
	defer cancel()
	if limiter := c.api.Limiter(); limiter != nil {
		if err := limiter.Wait(ctx); err != nil {
			if ctx.Err() == nil { // the wait would outlast the deadline
				return nil, errRateLimit
			}
			return nil, stalled(ctx, err)
		}
	}
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	template := c.api.NewRequest(method, "/v1/"+path)
	header := template.Headers
	header.Del(vault.NamespaceHeaderName) // the environment's, where ours is another
	if c.namespace != "" {
		header.Set(vault.NamespaceHeaderName, c.namespace)
	}
	if token != "" {
		header.Set(vault.AuthHeaderName, string(token))
	}
	if body != nil {
		header.Set("Content-Type", "application/json")
	}

	target := template.URL
	for hop := 0; ; hop++ {
		resp, err := c.once(ctx, method, target, template.Host, header, sent, len(body))
		if err != nil {
			return nil, err
		}
		if next := redirectTarget(resp); next != nil && c.redirects && hop < maxRedirects {
			resp.Body.Close()
			if target.Scheme == "https" && next.Scheme != "https" || exposed(next) && !c.insecure {
				return nil, errRedirect
			}
			// A standby names another host and keeps the path; a prefix that a proxy
			// takes off is no part of what it sees.
			if !strings.HasSuffix(next.Path, "/v1/"+path) || next.User != nil {
				return nil, errElsewhere
			}
			target, template.Host = next, next.Host
			continue
		}
		answer, err := readSecret(resp.Body, resp.ContentLength, limit)
		resp.Body.Close()
		if err != nil {
			return nil, stalled(ctx, err)
		}
		return &reply{status: resp.StatusCode, method: method, url: target.Redacted(), body: answer}, nil
	}
}

// once makes one HTTP request. A connection that lay idle may be closed already,
// by a restart or by a balancer, and to find that out is no failure of Vault's:
// the request goes out once more over a new one. Encrypting or decrypting the
// same twice does no harm.
func (c *client) once(ctx context.Context, method string, target *url.URL, host string, header http.Header, body *secretBody, size int) (*http.Response, error) {
	reused := false
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	for again := false; ; again = true {
		req, err := http.NewRequestWithContext(traced, method, target.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("vaultkms: make request: %w", err)
		}
		req.Host = host
		req.Header = header.Clone()
		if size > 0 {
			req.Body, req.ContentLength = body.reader(), int64(size)
			req.GetBody = func() (io.ReadCloser, error) { return body.reader(), nil }
		}
		resp, err := c.http.Do(req)
		if err == nil {
			return resp, nil
		}
		if again || !reused || ctx.Err() != nil {
			return nil, stalled(ctx, err)
		}
		c.http.CloseIdleConnections() // the others are likely closed as well
	}
}

// stalled turns an error that our own timeout caused into errStalled.
func stalled(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
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
