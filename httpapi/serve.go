package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// cutTime is how long requests that were cut off at the end of DrainTime have
// to say so to their callers.
const cutTime = time.Second

// accepting is what /readyz goes by.
type accepting struct {
	serving  atomic.Int32 // calls of Serve that accept connections
	stopping atomic.Bool  // the last of them was told to stop
	unfit    atomic.Bool  // Config.Ready objected when it was last asked
}

// ErrCut is returned by Serve when requests were still in progress at the end
// of DrainTime and had to be cut off.
var ErrCut = errors.New("httpapi: requests were cut off when the server stopped")

// Serve answers requests on ln until ctx ends. Then it accepts no more, lets
// requests in progress go on for DrainTime, cuts off what is left, and returns:
// nil if nothing was cut, else ErrCut. It closes ln in every case, and returns
// only when the codec is no longer at work for it. A listener beyond loopback gives a
// *ListenError unless the Server was made with InsecureListenAnywhere.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.accepting.serving.Add(1)
	s.accepting.stopping.Store(false)
	return s.serve(ctx, ln, s, func() {
		s.accepting.stopping.Store(true)
		s.accepting.serving.Add(-1)
	})
}

// ServeAdmin serves AdminHandler on ln, which must be another listener than
// Serve's, and stops as Serve does. Stop it after Serve, so that /readyz can say
// that the server is stopping.
func (s *Server) ServeAdmin(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, s.AdminHandler(), func() {})
}

func (s *Server) serve(ctx context.Context, ln net.Listener, handler http.Handler, stopping func()) error {
	if err := s.checkListener(ln.Addr()); err != nil {
		stopping()
		_ = ln.Close() // the refusal is what matters
		return err
	}
	// Requests outlive ctx while they drain; cut ends them.
	base, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(errDraining)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	requests := &tracker{next: handler}
	server := &http.Server{
		Handler:                      requests,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" would pass by our checks
		ReadHeaderTimeout:            s.limits.HeaderTime,
		ReadTimeout:                  s.limits.ReadTime,
		WriteTimeout:                 s.limits.WriteTime,
		IdleTimeout:                  s.limits.IdleTime,
		MaxHeaderBytes:               s.limits.HeaderBytes,
		ErrorLog:                     slog.NewLogLogger(connectionLog{s.logger}, slog.LevelError),
		BaseContext:                  func(net.Listener) context.Context { return base },
		Protocols:                    &protocols,
	}
	var failure, cutOff error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(limitConnections(ln, s.limits.Connections)); !errors.Is(err, http.ErrServerClosed) {
			failure = fmt.Errorf("httpapi: serve: %w", err)
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	stopping()
	if !within(base, s.limits.DrainTime, server.Shutdown) {
		cut(errDraining)
		if !within(context.WithoutCancel(ctx), cutTime, server.Shutdown) {
			_ = server.Close() // what it could not close has closed itself
		}
		cutOff = ErrCut
	}
	<-ended
	// Shutdown and Close look at connections; a handler may still be at work.
	requests.wait()
	return errors.Join(failure, cutOff)
}

// within runs a shutdown with a bound on time and reports whether that sufficed.
func within(ctx context.Context, bound time.Duration, shutdown func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return !errors.Is(shutdown(ctx), context.DeadlineExceeded)
}

// tracker knows when the handlers that it started have returned.
type tracker struct {
	next   http.Handler
	mu     sync.RWMutex // read-locked by each handler
	closed bool
}

func (t *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		panic(http.ErrAbortHandler) //nolint:forbidigo // its connection is closed: nobody would read an answer
	}
	t.next.ServeHTTP(w, r)
}

// wait waits for the handlers in progress, and lets no more begin.
func (t *tracker) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// connectionLog is the slog.Handler of what net/http has to say about
// connections. Only trouble with accepting is passed on word for word; the rest
// may quote callers.
type connectionLog struct {
	logger *slog.Logger
}

// Enabled implements slog.Handler.
func (connectionLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (l connectionLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: Accept error") {
		l.logger.LogAttrs(ctx, slog.LevelError, "cannot accept connections", slog.String("cause", printable(r.Message)))
	} else {
		l.logger.LogAttrs(ctx, slog.LevelDebug, "net/http reported a broken connection")
	}
	return nil
}

// WithAttrs implements slog.Handler; net/http has no attributes.
func (l connectionLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler; net/http has no groups.
func (l connectionLog) WithGroup(string) slog.Handler { return l }
