package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// The ports to listen on. They lie below those that systems give to connections
// of their own, or one of those could take the port while it is closed.
const (
	firstPort = 20_000
	ports     = 10_000
	portTries = 100
)

const (
	// reopenFor bounds how long the proxy tries to open the port again, and reopenEvery
	// is the pause between tries: another program that took the port may release it.
	reopenFor     = 10 * time.Second
	reopenEvery   = 50 * time.Millisecond
	headerTimeout = 10 * time.Second
)

// Proxy passes HTTP requests on to one server, as its Mode says. Safe for
// concurrent use. Close it.
type Proxy struct {
	// URL is http://127.0.0.1:port. It stays the same when the port is closed and
	// opened again.
	URL string

	address   string
	transport *http.Transport
	forward   *httputil.ReverseProxy
	mode      atomic.Uint32
	passed    atomic.Int64
	failed    atomic.Int64

	mu     sync.Mutex   // orders changes of mode
	server *http.Server // nil while the port is closed
	served chan struct{}

	throttle sync.Mutex
	next     time.Time // when the next request may pass a throttled KMS
}

// Open listens on a port of its own and passes requests on to target, a URL
// without a path.
func Open(ctx context.Context, target string) (*Proxy, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("faultproxy: open: %q is not the URL of a server", target)
	}
	p := &Proxy{transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}}
	p.forward = &httputil.ReverseProxy{
		Transport: p.transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			p.failed.Add(1)
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	var l net.Listener
	for range portTries {
		p.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.N(ports))) //nolint:gosec // any port will do
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", p.address); err == nil {
			p.URL = "http://" + p.address
			p.serve(l)
			return p, nil
		}
	}
	return nil, fmt.Errorf("faultproxy: open: find a port: %w", err)
}

// Set changes the mode. When it returns the port is closed and connections are
// reset, or the port is open. It fails only when another program has taken the closed
// port; the mode is then still Cut.
func (p *Proxy) Set(ctx context.Context, m Mode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m == Cut {
		p.mode.Store(uint32(m))
		return p.hangUp()
	}
	if p.server == nil {
		l, err := p.reopen(ctx)
		if err != nil {
			return err
		}
		p.mode.Store(uint32(m))
		p.serve(l)
	}
	p.mode.Store(uint32(m))
	return nil
}

// Mode returns the mode.
func (p *Proxy) Mode() Mode { return Mode(p.mode.Load()) } //nolint:gosec // it was a Mode

// Counts returns how many requests were passed on and how many failed or got no answer.
// Callers that find the port closed are not counted: nothing listens that could count.
func (p *Proxy) Counts() (passed, failed int64) { return p.passed.Load(), p.failed.Load() }

// Close closes the port and all connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.transport.CloseIdleConnections()
	return p.hangUp()
}

// hangUp is called with mu held.
func (p *Proxy) hangUp() error {
	if p.server == nil {
		return nil
	}
	err := p.server.Close()
	<-p.served
	p.server = nil
	if err != nil {
		return fmt.Errorf("faultproxy: close the port: %w", err)
	}
	return nil
}

func (p *Proxy) reopen(ctx context.Context) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, reopenFor)
	defer cancel()
	again := time.NewTicker(reopenEvery)
	defer again.Stop()
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.address)
		if err == nil {
			return l, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("faultproxy: open the port again: %w", err)
		}
	}
}

// serve is called with mu held, or before anybody else knows p.
func (p *Proxy) serve(l net.Listener) {
	p.server = &http.Server{
		Handler: http.HandlerFunc(p.handle), ReadHeaderTimeout: headerTimeout, ErrorLog: p.forward.ErrorLog,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // closing resets the connection; without it, it ends in order
			}
			return ctx
		},
	}
	p.served = make(chan struct{})
	go func(s *http.Server, served chan struct{}) {
		defer close(served)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.failed.Add(1) // callers see what is wrong: they get no answer
		}
	}(p.server, p.served)
}

func (p *Proxy) handle(w http.ResponseWriter, r *http.Request) {
	// Read the whole body first. While it is unread, net/http does not notice that the
	// caller of a slow server went away. And if the server answers before its end was
	// read, net/http closes it and cuts the answer short (golang.org/issue/40747).
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.failed.Add(1)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	switch p.Mode() {
	case Slow:
		late := time.NewTimer(SlowBy)
		defer late.Stop()
		select {
		case <-late.C:
		case <-r.Context().Done():
			p.failed.Add(1)
			return
		}
	case Flaky:
		if rand.Float64() < FlakyShare { //nolint:gosec // chance, no secret
			p.fail(w)
			return
		}
	case Throttled:
		if !p.mayPass() {
			p.failed.Add(1)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"errors":["request path: rate limit quota exceeded"]}`)
			return
		}
	case Healthy, Cut:
	}
	p.passed.Add(1)
	p.forward.ServeHTTP(w, r)
}

// fail fails a request in one of four ways.
func (p *Proxy) fail(w http.ResponseWriter) {
	n := p.failed.Add(1)
	if statuses := []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable}; n%2 == 0 {
		w.WriteHeader(statuses[n/2%3])
		return
	}
	if h, ok := w.(http.Hijacker); ok {
		if c, _, err := h.Hijack(); err == nil {
			_ = c.Close()
		}
	}
}

// mayPass says whether a throttled KMS answers one more.
func (p *Proxy) mayPass() bool {
	p.throttle.Lock()
	defer p.throttle.Unlock()
	now := time.Now()
	if now.Before(p.next) {
		return false
	}
	p.next = now.Add(ThrottleTo)
	return true
}
