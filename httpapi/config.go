package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope/format"
)

// Codec seals and opens payloads; *codec.Codec is one. It must be safe for concurrent use, stop when ctx ends, and not modify
// its inputs. Its errors have a kms.Class, and nothing secret in their text.
type Codec interface {
	// Encode seals all payloads for a namespace, or none.
	Encode(ctx context.Context, opts codec.EncodeOptions, payloads []*commonpb.Payload) ([]*commonpb.Payload, error)
	// Decode returns one result for each payload, in order. Without a namespace, the envelopes' own claims decide.
	Decode(ctx context.Context, opts codec.DecodeOptions, payloads []*commonpb.Payload) []codec.Decoded
}

// Config says how to serve. All fields but Codec are optional, and their zero values are safe: loopback only, pages of
// loopback origins only, bounded.
type Config struct {
	// Codec does the work. Required.
	Codec Codec

	// DefaultNamespace is the namespace of encode requests that name none. Empty refuses such requests. Decoding never uses
	// it.
	DefaultNamespace string

	// PathPrefix is what a proxy puts before our paths, such as "/codec". Without it, the segment before "/encode" or
	// "/decode" would count as a namespace.
	PathPrefix string

	// Strict makes every decode request fail if one payload cannot be opened, as "?strict=true" does for one request. It is
	// for servers of workers; in a Web UI, people prefer to see the rest of the page.
	Strict bool

	// AllowedOrigins are the browser origins that may use the server, exactly as browsers write them
	// ("https://temporal.example.com"). None means loopback origins of any port, as of a Web UI for development.
	AllowedOrigins []string

	// AllowCredentials lets browsers send cookies and client certificates. Needs AllowedOrigins.
	AllowCredentials bool

	// AllowPrivateNetwork lets pages of the allowed origins reach this server on a private network from a public one (the
	// Access-Control-Request-Private-Network preflight).
	AllowPrivateNetwork bool

	// AllowedHosts are further host names, without port, that requests may use. Loopback names always work. With
	// InsecureListenAnywhere and no AllowedHosts, every name does.
	AllowedHosts []string

	// InsecureListenAnywhere lets Serve take a listener that is not on loopback although callers are not authenticated:
	// every program that reaches the port can then open payloads.
	InsecureListenAnywhere bool

	// Ready reports, for /readyz, why the server cannot work. May be nil. Its error is logged and not in the answer.
	Ready func(ctx context.Context) error

	// Logger gets one line for each request. Nil means no log.
	Logger *slog.Logger

	// Metrics is where the server registers its metrics and what /metrics shows. Nil means a new registry with Go's runtime
	// metrics.
	Metrics *prometheus.Registry

	// Limits bounds what requests may take. Zero fields have defaults.
	Limits Limits
}

// ConfigError lists everything that is wrong with a Config.
type ConfigError struct {
	Problems []string
}

// Error implements error.
func (e *ConfigError) Error() string {
	return "httpapi: check configuration: " + strings.Join(e.Problems, "; ")
}

// Hint says what to do next.
func (e *ConfigError) Hint() string {
	return "correct the settings named above; docs/codec-server.md describes each of them"
}

// New returns a Server, or a *ConfigError with everything that is wrong with config. It starts nothing: the Server is an
// http.Handler, and Serve runs it.
func New(config Config) (*Server, error) {
	rules, problems := newCallers(config)
	var bad []string
	config.Limits, bad = config.Limits.withDefaults()
	problems = append(problems, bad...)
	if config.Codec == nil {
		problems = append(problems, "Codec is missing")
	}
	if config.DefaultNamespace != "" && !validNamespace(config.DefaultNamespace) {
		problems = append(problems, fmt.Sprintf("DefaultNamespace is not printable text of at most %d bytes", format.MaxNamespace))
	}
	if p := config.PathPrefix; p != "" && (p[0] != '/' || strings.HasSuffix(p, "/") || strings.Contains(p, "//")) {
		problems = append(problems, fmt.Sprintf("PathPrefix %q is not like /codec: one slash before each segment, none at the end", p))
	}
	if len(problems) > 0 {
		return nil, &ConfigError{Problems: problems}
	}
	counters, err := newMetrics(config.Metrics)
	if err != nil {
		return nil, &ConfigError{Problems: []string{"Metrics: " + err.Error()}}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	limits := &config.Limits
	return &Server{
		config: config, metrics: counters, callers: rules,
		slots: make(chan struct{}, limits.Requests), held: budget{limit: limits.HeldBytes}, sealing: budget{limit: int64(limits.Sealing)},
	}, nil
}
