package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
)

const (
	noUI         = -1
	readyTimeout = 2 * time.Minute // a loaded two-core machine needs seconds; this is for the hopeless case
)

// options is the parsed command line.
type options struct {
	port, uiPort, httpPort int
	uiCodecEndpoint        string
	uiCodecPassToken       bool
	namespaces             []string
	dbFile                 string
	searchAttributes       map[string]enumspb.IndexedValueType
	logLevel               string
}

const usage = `temporal-server: a Temporal server and its Web UI in one process, on 127.0.0.1, for tests.

Usage:
  temporal-server [flags]

When everything answers it prints one JSON line to standard output:
  {"ready":true,"grpc":"127.0.0.1:7233","http":"127.0.0.1:40123","ui":"http://127.0.0.1:8233","after":"412ms"}
It serves until SIGTERM or Ctrl-C. Exit codes: 0 stopped, 1 could not start, 2 bad command line.

Examples:
  temporal-server --ui-port 8233 --ui-codec-endpoint http://127.0.0.1:8081
  temporal-server --port 0 --namespaces default,payments --db /tmp/t/temporal.db --search-attributes Customer=Keyword

Flags:
`

// parseOptions reads the command line. It prints help to out and returns
// flag.ErrHelp when asked for it.
func parseOptions(args []string, out io.Writer) (options, error) {
	var o options
	var namespaces, attributes string
	fs := flag.NewFlagSet("temporal-server", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are returned; help is printed below
	fs.IntVar(&o.port, "port", 7233, "gRPC `port` of the frontend; 0 picks a free one")
	fs.IntVar(&o.httpPort, "http-port", 0, "`port` of the frontend's HTTP API (Nexus uses it); 0 picks a free one")
	fs.IntVar(&o.uiPort, "ui-port", noUI, "`port` of the Web UI; 0 picks a free one, -1 means no Web UI")
	fs.StringVar(&o.uiCodecEndpoint, "ui-codec-endpoint", "", "codec server `URL` that the Web UI uses for everybody")
	fs.BoolVar(&o.uiCodecPassToken, "ui-codec-pass-token", false, "let the Web UI pass the user's access token to the codec server")
	fs.StringVar(&namespaces, "namespaces", "default", "comma separated `names`, made before the server starts")
	fs.StringVar(&o.dbFile, "db", "", "SQLite database `file`, made when absent; all data is in this one file. Without it everything is in memory")
	fs.StringVar(&attributes, "search-attributes", "", "comma separated `name=Type`; types: "+strings.Join(attributeTypes(), ", ")+". They are set on namespaces that this start creates")
	fs.StringVar(&o.logLevel, "log-level", "error", "`level` of the log on standard error: debug, info, warn, error")
	err := fs.Parse(args)
	if err == flag.ErrHelp { //nolint:errorlint // the flag package returns it bare
		fmt.Fprint(out, usage)
		fs.SetOutput(out)
		fs.PrintDefaults()
		return o, err
	}
	if err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return o, o.complete(namespaces, attributes)
}

// complete parses the list flags and checks what flag types cannot.
func (o *options) complete(namespaces, attributes string) error {
	for name, port := range map[string]int{"--port": o.port, "--http-port": o.httpPort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("%s %d is not a port", name, port)
		}
	}
	if o.uiPort < noUI || o.uiPort > 65535 {
		return fmt.Errorf("--ui-port %d is not a port", o.uiPort)
	}
	switch o.logLevel {
	case "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("--log-level %q is none of debug, info, warn, error", o.logLevel)
	}
	seen := map[string]bool{}
	for n := range strings.SplitSeq(namespaces, ",") {
		n = strings.TrimSpace(n)
		if n == "" {
			return fmt.Errorf("--namespaces %q holds an empty name", namespaces)
		}
		if !seen[n] {
			o.namespaces = append(o.namespaces, n)
		}
		seen[n] = true
	}
	if attributes == "" {
		return nil
	}
	o.searchAttributes = map[string]enumspb.IndexedValueType{}
	for a := range strings.SplitSeq(attributes, ",") {
		name, typ, ok := strings.Cut(strings.TrimSpace(a), "=")
		if !ok || name == "" {
			return fmt.Errorf("--search-attributes: %q is not name=Type", a)
		}
		t, err := enumspb.IndexedValueTypeFromString(typ)
		if err != nil || t == enumspb.INDEXED_VALUE_TYPE_UNSPECIFIED {
			return fmt.Errorf("--search-attributes: %q is none of %s", typ, strings.Join(attributeTypes(), ", "))
		}
		o.searchAttributes[name] = t
	}
	return nil
}

// attributeTypes lists the search attribute types in the API's order.
func attributeTypes() []string {
	var names []string
	for t := enumspb.INDEXED_VALUE_TYPE_TEXT; t <= enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST; t++ {
		names = append(names, t.String())
	}
	return names
}
