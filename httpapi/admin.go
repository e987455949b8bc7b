package httpapi

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waxseal/waxseal/kms"
)

// AdminHandler answers operators, on a listener of its own that only they and
// their tools can reach: GET /livez (the process answers), /readyz (it serves,
// is not stopping, and Config.Ready has no objection; else 503) and /metrics
// (Prometheus). It tells nothing about payloads, and no cause of a failure.
func (s *Server) AdminHandler() http.Handler {
	text := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", textPlain)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // a prober that has left needs no answer
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.accepting.stopping.Load():
			text(w, http.StatusServiceUnavailable, "stopping\n")
		case s.accepting.serving.Load() == 0:
			text(w, http.StatusServiceUnavailable, "not serving yet\n")
		case !s.fit(r.Context()):
			text(w, http.StatusServiceUnavailable, "not ready; the server's log says why\n")
		default:
			text(w, http.StatusOK, "ok\n")
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// Pages have no business here, neither those of a name that was made to
		// resolve to loopback nor any that tell their origin.
		if why := s.callers.check(r); why != answered || r.Header.Get("Origin") != "" {
			http.Error(w, "not for web pages", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// fit asks Config.Ready, within CodecTime. The log has a line when its answer
// changes, not one for each probe.
func (s *Server) fit(ctx context.Context) bool {
	if s.ready == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.CodecTime)
	defer cancel()
	err := s.ready(ctx)
	switch was := s.accepting.unfit.Swap(err != nil); {
	case err != nil && !was:
		s.logger.LogAttrs(ctx, slog.LevelError, "not ready", slog.String("class", kms.ClassOf(err).String()), slog.String("cause", describe(err)))
	case err == nil && was:
		s.logger.LogAttrs(ctx, slog.LevelInfo, "ready again")
	}
	return err == nil
}
