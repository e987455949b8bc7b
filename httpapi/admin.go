package httpapi

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waxseal/waxseal/kms"
)

// AdminHandler answers GET /livez (200 while the process answers), /readyz (200 while the server serves, is not stopping,
// and Config.Ready returns nil; else 503) and /metrics (Prometheus). Give it a listener that only operators can reach. Its
// answers hold nothing about payloads and no cause of a failure.
func (s *Server) AdminHandler() http.Handler {
	text := func(w http.ResponseWriter, status int, body string) {
		w.Header().Set("Content-Type", textPlain)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // fails only if the prober has left
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
		// Web pages are refused, by their host name or their origin.
		if why := s.callers.check(r); why != answered || r.Header.Get("Origin") != "" {
			http.Error(w, "not for web pages", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// fit calls Config.Ready, within CodecTime. It logs a line when the answer changes, not one for each probe.
func (s *Server) fit(ctx context.Context) bool {
	if s.config.Ready == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.CodecTime)
	defer cancel()
	err := s.config.Ready(ctx)
	switch was := s.accepting.unfit.Swap(err != nil); {
	case err != nil && !was:
		s.config.Logger.LogAttrs(ctx, slog.LevelError, "not ready", slog.String("class", kms.ClassOf(err).String()), slog.String("cause", describe(err)))
	case err == nil && was:
		s.config.Logger.LogAttrs(ctx, slog.LevelInfo, "ready again")
	}
	return err == nil
}
