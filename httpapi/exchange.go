package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// The headers that are ours.
const (
	headerNamespace = "X-Namespace"
	headerRequestID = "Waxseal-Request-Id"
	headerUndecoded = "Waxseal-Undecoded"
)

const (
	textPlain       = "text/plain; charset=utf-8"
	applicationJSON = "application/json"
)

// exchange is one request and its outcome, which end logs and counts. Only w and r hold unchecked text of the caller.
type exchange struct {
	w     http.ResponseWriter
	r     *http.Request
	id    string
	start time.Time

	route     route
	namespace string
	strict    bool
	held      int64 // taken from Server.held
	memory    int64 // that grow has counted
	sealing   int64 // taken from Server.sealing
	bytesIn   int
	payloads  int
	undecoded int

	why     reason
	cause   error // the failure behind why, or the first one behind undecoded
	offset  int   // in the body, where a parse failed
	status  int   // 0 until something is written
	written int
	cut     bool // the answer could not be written to its end
}

// begin makes the exchange of a request. The request ID is never the caller's: a chosen one could mislead readers of the log.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{w: w, r: r, id: rand.Text(), start: time.Now(), route: routeNone}
	s.metrics.inFlight.Inc()
	h := w.Header()
	h.Set(headerRequestID, x.id)
	// Answers are plaintext: no cache may keep them.
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	return x
}

// reply writes a whole answer at once.
func (x *exchange) reply(status int, contentType string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.status = status
	x.w.WriteHeader(status)
	n, err := x.w.Write(body)
	x.written, x.cut = n, err != nil && x.r.Method != http.MethodHead
}

// refuse answers with the row of the problem table for why.
func (x *exchange) refuse(why reason) {
	x.why = why
	p := problemTable[why]
	h := x.w.Header()
	h.Del(headerUndecoded)
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	switch why {
	case notPost:
		h.Set("Allow", "POST, OPTIONS")
	case notGet:
		h.Set("Allow", "GET, HEAD, OPTIONS")
	default:
	}
	x.reply(p.status, textPlain, fmt.Appendf(nil, "waxseal: %s; %s (request %s)\n", p.text, p.hint, x.id))
}

// end recovers from a panic, then logs and counts the request.
func (s *Server) end(x *exchange) {
	recovered := recover()
	started := x.status != 0
	if recovered != nil {
		// The value may hold a payload; its type and the stack do not.
		s.config.Logger.LogAttrs(x.r.Context(), slog.LevelError, "request panicked", slog.String("request", x.id),
			slog.String("type", fmt.Sprintf("%T", recovered)), slog.String("stack", stack()))
		if started {
			x.why, x.cut = panicked, true
		} else {
			x.refuse(panicked)
		}
	}
	s.held.give(x.held)
	s.sealing.give(x.sealing)
	took := time.Since(x.start)
	s.metrics.record(x, took)
	s.log(x, took)
	if recovered != nil && started {
		// The caller must not take a part for the whole answer.
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to cut a connection
	}
}

// log writes the line of a request. It holds fixed words and checked values, never a body, a header or a query.
func (s *Server) log(x *exchange, took time.Duration) {
	level := slog.LevelInfo
	switch {
	case x.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case x.undecoded > 0 || x.cut || x.why != answered:
		level = slog.LevelWarn
	}
	ctx := context.WithoutCancel(x.r.Context())
	if !s.config.Logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs,
		slog.String("request", x.id), slog.String("method", knownMethod(x.r.Method)), slog.String("route", x.route.String()),
		slog.String("namespace", x.namespace), slog.Int("status", x.status), slog.Int("payloads", x.payloads),
		slog.Int("undecoded", x.undecoded), slog.Int("bytesIn", x.bytesIn), slog.Int("bytesOut", x.written), slog.Float64("seconds", took.Seconds()))
	if x.strict {
		attrs = append(attrs, slog.Bool("strict", true))
	}
	if x.why != answered {
		attrs = append(attrs, slog.String("problem", problemTable[x.why].name))
	}
	if x.offset > 0 {
		attrs = append(attrs, slog.Int("offset", x.offset))
	}
	if x.cut {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	if x.cause != nil {
		attrs = append(attrs, slog.String("class", kms.ClassOf(x.cause).String()), slog.String("cause", describe(x.cause)))
	}
	s.config.Logger.LogAttrs(ctx, level, "request", attrs...)
}

// knownMethod keeps methods that callers invent out of the log.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return "other"
}

// maxFrames bounds the stack that the log shows of a panic.
const maxFrames = 24

// stack names the functions of a panic in progress, without their arguments: these may be parts of a secret.
func stack() string {
	pcs := make([]uintptr, maxFrames)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var b strings.Builder
	for {
		frame, more := frames.Next()
		fmt.Fprintf(&b, "%s:%d", frame.Function, frame.Line)
		if !more {
			return b.String()
		}
		b.WriteString(" < ")
	}
}
