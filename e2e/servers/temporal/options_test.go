package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	enumspb "go.temporal.io/api/enums/v1"
)

func TestParseOptions(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want options
	}{
		{"defaults", nil, options{port: 7233, uiPort: noUI, namespaces: []string{"default"}, logLevel: "error"}},
		{
			"all",
			[]string{
				"--port", "1", "--http-port=2", "-ui-port", "3", "--ui-codec-endpoint", "http://x", "--ui-codec-pass-token",
				"--namespaces", "a, b,a", "--db", "f", "--search-attributes", "C=Keyword, D=Datetime", "--log-level", "warn",
			},
			options{
				port: 1, httpPort: 2, uiPort: 3, uiCodecEndpoint: "http://x", uiCodecPassToken: true,
				namespaces: []string{"a", "b"}, dbFile: "f", logLevel: "warn",
				searchAttributes: map[string]enumspb.IndexedValueType{
					"C": enumspb.INDEXED_VALUE_TYPE_KEYWORD, "D": enumspb.INDEXED_VALUE_TYPE_DATETIME,
				},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseOptions(tc.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(options{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		args       []string
	}{
		{"unknown flag", "not defined", []string{"--nope"}},
		{"argument", `unexpected argument "x"`, []string{"x"}},
		{"port", "--port -1 is not a port", []string{"--port", "-1"}},
		{"http port", "--http-port 70000 is not a port", []string{"--http-port", "70000"}},
		{"ui port", "--ui-port -2 is not a port", []string{"--ui-port", "-2"}},
		{"log level", "none of debug", []string{"--log-level", "loud"}},
		{"empty namespace", "holds an empty name", []string{"--namespaces", "a,,b"}},
		{"attribute without type", `"C" is not name=Type`, []string{"--search-attributes", "C"}},
		{"attribute without name", `"=Int" is not name=Type`, []string{"--search-attributes", "=Int"}},
		{"attribute of unknown type", `"Blob" is none of Text`, []string{"--search-attributes", "C=Blob"}},
		{"attribute unspecified", `"Unspecified" is none of Text`, []string{"--search-attributes", "C=Unspecified"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parseOptions(tc.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	var out bytes.Buffer
	if _, err := parseOptions([]string{"--help"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("got %v, want flag.ErrHelp", err)
	}
	for _, want := range []string{
		"Usage:", "Examples:", "-port", "-http-port", "-ui-port", "-ui-codec-endpoint", "-ui-codec-pass-token",
		"-namespaces", "-db", "-search-attributes", "-log-level",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q", want)
		}
	}
}

func TestReservePorts(t *testing.T) {
	p, err := reservePorts(t.Context(), options{uiPort: 0})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{0: true}
	for name, port := range map[string]int{
		"frontend": p.frontend, "http": p.http, "history": p.history, "matching": p.matching, "worker": p.worker, "ui": p.ui,
	} {
		if seen[port] {
			t.Errorf("%s has port %d, which is 0 or taken", name, port)
		}
		seen[port] = true
	}
	if p, err = reservePorts(t.Context(), options{uiPort: noUI}); err != nil || p.ui != 0 {
		t.Errorf("without a Web UI: port %d, %v", p.ui, err)
	}
}
