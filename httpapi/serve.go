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

// cutTime is how long requests that were cut off at the end of DrainTime have to answer.
const cutTime = time.Second

// accepting is the state behind /readyz.
type accepting struct {
	serving  atomic.Int32 // calls of Serve that accept connections
	stopping atomic.Bool  // the last of them is stopping
	unfit    atomic.Bool  // Config.Ready returned an error at its last call
}

// ErrCut is returned by Serve if it cut off requests that were still in progress at the end of DrainTime.
var ErrCut = errors.New("httpapi: requests were cut off when the server stopped")

// Serve answers requests on ln until ctx ends. Then it accepts no more, lets requests in progress go on for DrainTime, and
// cuts off the rest: it returns nil if there is none, else ErrCut. It always closes ln, and returns only when the codec no
// longer works for it. For a listener beyond loopback it returns a *ListenError, unless Config.InsecureListenAnywhere is set.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.accepting.serving.Add(1)
	s.accepting.stopping.Store(false)
	return s.serve(ctx, ln, s, func() {
		s.accepting.stopping.Store(true)
		s.accepting.serving.Add(-1)
	})
}

// ServeAdmin serves AdminHandler on ln, which must be another listener than Serve's, and stops as Serve does. Stop it after
// Serve, so that /readyz can report that the server is stopping.
func (s *Server) ServeAdmin(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, s.AdminHandler(), func() {})
}

func (s *Server) serve(ctx context.Context, ln net.Listener, handler http.Handler, stopping func()) error {
	if err := s.checkListener(ln.Addr()); err != nil {
		stopping()
		_ = ln.Close() // the refusal matters
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
		DisableGeneralOptionsHandler: true, // "OPTIONS *" would bypass our checks
		ReadHeaderTimeout:            s.config.Limits.HeaderTime,
		ReadTimeout:                  s.config.Limits.ReadTime,
		WriteTimeout:                 s.config.Limits.WriteTime,
		IdleTimeout:                  s.config.Limits.IdleTime,
		MaxHeaderBytes:               s.config.Limits.HeaderBytes,
		ErrorLog:                     slog.NewLogLogger(connectionLog{s.config.Logger}, slog.LevelError),
		BaseContext:                  func(net.Listener) context.Context { return base },
		Protocols:                    &protocols,
	}
	var failure, cutOff error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(limitConnections(ln, s.config.Limits.Connections)); !errors.Is(err, http.ErrServerClosed) {
			failure = fmt.Errorf("httpapi: serve: %w", err)
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	stopping()
	if !within(base, s.config.Limits.DrainTime, server.Shutdown) {
		cut(errDraining)
		if !within(context.WithoutCancel(ctx), cutTime, server.Shutdown) {
			_ = server.Close() // fails only for connections that are closed already
		}
		cutOff = ErrCut
	}
	<-ended
	// Shutdown and Close wait for connections; a handler may still run.
	requests.wait()
	return errors.Join(failure, cutOff)
}

// within runs a shutdown and reports whether it ended in time.
func within(ctx context.Context, bound time.Duration, shutdown func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return !errors.Is(shutdown(ctx), context.DeadlineExceeded)
}

// tracker waits for the handlers that it started.
type tracker struct {
	next   http.Handler
	mu     sync.RWMutex // read-locked by each handler
	closed bool
}

func (t *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		panic(http.ErrAbortHandler) //nolint:forbidigo // its connection is closed, so no caller would read an answer
	}
	t.next.ServeHTTP(w, r)
}

// wait waits for the handlers in progress, and refuses new ones.
func (t *tracker) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// connectionLog handles net/http's messages about connections. It quotes only those about accepting, which quote no caller.
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
