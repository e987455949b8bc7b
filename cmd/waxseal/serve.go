package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/codec/codecmetrics"
	"github.com/waxseal/waxseal/httpapi"
)

// server is one run of serve.
type server struct {
	app           *app
	keys          source
	log           logFlags
	listen, admin string
	http          httpapi.Config
}

// insecureFlag lets every caller in, and says so.
const insecureFlag = "insecure-listen-without-authentication"

func (a *app) serveCommand() *cobra.Command {
	s := server{app: a, keys: source{app: a}}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the codec server for the Web UI, the CLI and other SDKs",
		Long: `Run the codec server: the Temporal Web UI, the temporal command line and codecs
in other languages send it sealed payloads and get them back opened, and the
other way round.

Without --config it seals and opens every namespace under a local keyring, which
it makes when there is none, and prints what to set where.

Nobody is asked who they are, so it listens on loopback only, answers only pages
of loopback origins unless --origin says otherwise, and refuses other addresses.
On SIGINT or SIGTERM it finishes the requests in progress and stops.`,
		Example: `  # A local keyring, http://127.0.0.1:8081.
  waxseal serve

  # The keys and rules of a policy file; a Web UI that is elsewhere.
  waxseal serve --config waxseal.yaml --origin https://temporal.example.com

  # Health and metrics on an address of their own, logs for machines.
  waxseal serve --admin-listen 127.0.0.1:9081 --log-format json`,
		Args: noArguments, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.keys.config == "" && !cmd.Flags().Changed("default-namespace") {
				s.http.DefaultNamespace = defaultNamespace
			}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&s.listen, "listen", "127.0.0.1:8081", "`address` to listen on; port 0 takes a free one")
	s.keys.flags(cmd)
	f.StringArrayVar(&s.http.AllowedOrigins, "origin", nil, "`origin` of a Web UI that may use the server, as in https://temporal.example.com; may be repeated; default: loopback origins")
	f.StringVar(&s.http.DefaultNamespace, "default-namespace", "", "`namespace` to seal for when a request names none (default \""+defaultNamespace+"\", without --config)")
	f.BoolVar(&s.http.Strict, "strict", false, "fail a decode request if one of its payloads cannot be opened, in place of returning that one sealed")
	f.StringVar(&s.http.PathPrefix, "path-prefix", "", "`path` that a proxy puts before ours, such as /codec")
	f.StringArrayVar(&s.http.AllowedHosts, "allow-host", nil, "further host `name` that requests may address the server by, without port; may be repeated")
	f.BoolVar(&s.http.AllowCredentials, "allow-credentials", false, "let browsers send cookies and client certificates; needs --origin")
	f.BoolVar(&s.http.AllowPrivateNetwork, "allow-private-network", false, "let pages from the public network reach this server on a private one")
	f.StringVar(&s.admin, "admin-listen", "", "`address` for /livez, /readyz and /metrics; default: none")
	s.log.flags(cmd)
	f.BoolVar(&s.http.InsecureListenAnywhere, insecureFlag, false, "listen on addresses other than loopback although nobody is asked who they are: WHOEVER REACHES THE PORT CAN OPEN PAYLOADS")
	return cmd
}

func (s *server) run(ctx context.Context) error {
	logger, err := s.log.logger(s.app)
	if err != nil {
		return err
	}
	s.keys.made = func(path string) {
		logger.LogAttrs(ctx, slog.LevelWarn, "made a new keyring: what is sealed under it opens with this file alone", slog.String("keyring", path))
	}
	s.http.Metrics = codecmetrics.NewRegistry()
	if s.keys.hooks, err = codecmetrics.New(s.http.Metrics); err != nil {
		return err
	}
	c, err := s.keys.forSealing(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	s.http.Codec, s.http.Logger = c, logger
	api, err := httpapi.New(s.http)
	if err != nil {
		return inFlags(err)
	}
	ln, err := s.open(ctx, api, "--listen", s.listen)
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }() // for failures before Serve, which closes it too
	attrs := []slog.Attr{slog.String("url", urlOf(ln))}
	var admin net.Listener
	if s.admin != "" {
		if admin, err = s.open(ctx, api, "--admin-listen", s.admin); err != nil {
			return err
		}
		defer func() { _ = admin.Close() }() // likewise
		attrs = append(attrs, slog.String("adminUrl", urlOf(admin)))
	}
	if !isLoopback(ln) {
		logger.LogAttrs(ctx, slog.LevelWarn, "anyone who reaches this address can open payloads", slog.String("flag", "--"+insecureFlag))
	}
	if s.keys.config == "" {
		if err := s.printSettings(urlOf(ln)); err != nil {
			return err
		}
	}
	logger.LogAttrs(ctx, slog.LevelInfo, "listening", attrs...)
	err = serve(ctx, api, ln, admin)
	logger.LogAttrs(ctx, slog.LevelInfo, "stopped")
	return served(err)
}

// served is how a server ended.
func served(err error) error {
	if errors.Is(err, httpapi.ErrCut) {
		return advise(err, "their callers saw an error and may try again")
	}
	return err
}

// serve serves until ctx ends or a listener fails. The admin listener, if any, stops last: it reports the stop.
func serve(ctx context.Context, api *httpapi.Server, ln, admin net.Listener) error {
	if admin == nil {
		return api.Serve(ctx, ln)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	adminCtx, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	ended := make(chan error, 1)
	go func() {
		defer stop() // no server without its health
		ended <- api.ServeAdmin(adminCtx, admin)
	}()
	err := api.Serve(ctx, ln)
	stopAdmin()
	return errors.Join(err, <-ended)
}

// open listens; the hint of an error names the flag to change.
func (s *server) open(ctx context.Context, api *httpapi.Server, flag, address string) (net.Listener, error) {
	ln, err := api.Listen(ctx, address)
	var refused *httpapi.ListenError
	switch {
	case err == nil:
		return ln, nil
	case errors.As(err, &refused):
		return nil, advise(err, "listen on 127.0.0.1 and let a proxy that authenticates stand in front; to let whoever reaches the port open payloads, say --"+insecureFlag)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, advise(err, "another program listens there, perhaps another waxseal: stop it, or choose another address with "+flag+"; port 0 takes a free one")
	case errors.Is(err, syscall.EACCES):
		return nil, advise(err, "choose a port above 1023 with "+flag)
	}
	return nil, advise(err, "give an address of this machine as host:port, such as "+flag+" 127.0.0.1:8081")
}

// inFlags names flags in place of the fields of a ConfigError.
func inFlags(err error) error {
	var bad *httpapi.ConfigError
	if !errors.As(err, &bad) {
		return err
	}
	words := strings.NewReplacer(
		"AllowedHosts", "--allow-host", "AllowedOrigins", "--origin", "AllowCredentials", "--allow-credentials",
		"DefaultNamespace", "--default-namespace", "PathPrefix", "--path-prefix",
	)
	return &usageError{text: words.Replace(strings.Join(bad.Problems, "; ")), hint: "waxseal serve --help tells about each flag"}
}

func urlOf(ln net.Listener) string { return "http://" + ln.Addr().String() }

func isLoopback(ln net.Listener) bool {
	tcp, ok := ln.Addr().(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
