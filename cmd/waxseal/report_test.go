package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/httpapi"
	"github.com/waxseal/waxseal/kms"
)

func TestExitCode(t *testing.T) {
	down := &kms.Error{Class: kms.Unavailable, KeyID: "hashivault://transit/k"}
	busy := &kms.Error{Class: kms.Throttled, KeyID: "hashivault://transit/k"}
	denied := &kms.Error{Class: kms.Denied}
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"none", nil, 0},
		{"any", errors.New("x"), 1},
		{"denied", denied, 1},
		{"usage", fmt.Errorf("x: %w", &usageError{}), 2},
		{"interrupted", errInterrupted, 130},
		{"down", fmt.Errorf("x: %w", down), 4},
		{"throttled", busy, 4},
		{"down, with other advice", advise(down, "wait"), 4},
		{"our own time limit", &kms.Error{Class: kms.Unavailable}, 4},
		{"a local keyring that is busy", &kms.Error{Class: kms.Unavailable, KeyID: "local:///x#y"}, 4},
		{"a wrong setting", fmt.Errorf("x: %w", &kms.Error{Class: kms.Invalid}), 1},
		{"a bug", &kms.Error{Class: kms.Internal}, 1},
		{"partly", &partialError{done: true, causes: []cause{{err: down}}}, 3},
		{"none of it, all for now", &partialError{causes: []cause{{err: down}, {err: busy}}}, 4},
		{"none of it, some for good", &partialError{causes: []cause{{err: down}, {err: errors.New("x")}}}, 1},
		{"none of it, for a wrong setting", &partialError{causes: []cause{{err: &kms.Error{Class: kms.Invalid}}}}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := exitCode(tc.err); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestHints(t *testing.T) {
	a, b := &usageError{hint: "a"}, &usageError{hint: "b"}
	for _, tc := range []struct {
		name string
		err  error
		want []string
	}{
		{"none", errors.New("x"), nil},
		{"its own", a, []string{"a"}},
		{"wrapped", fmt.Errorf("x: %w", a), []string{"a"}},
		{"the outermost", advise(a, "c"), []string{"c"}},
		{"behind one without", &kms.Error{Err: a}, []string{"a"}},
		{"several", fmt.Errorf("x: %w", errors.Join(a, errors.New("x"), b, a)), []string{"a", "b"}},
		{"a cause without an error", &kms.Error{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, hints(tc.err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReportPartial(t *testing.T) {
	e := &partialError{total: 9, done: true, verdict: "verdict"}
	e.fail("a", advise(errors.New("one\x1b"), "hint one"))
	e.fail("b", errors.New("two"))
	e.fail("c", errors.New("two"))
	for i := range 5 {
		e.fail("d", fmt.Errorf("more %d", i))
	}
	var out bytes.Buffer
	a := &app{err: &out, lookup: os.LookupEnv}
	a.report(fmt.Errorf("x: %w", e))
	want := `waxseal: warning: verdict
waxseal: warning: a: one\x1b
waxseal: hint: hint one
waxseal: warning: b and 1 more: two
waxseal: warning: d: more 0
waxseal: warning: d: more 1
waxseal: warning: d: more 2
waxseal: warning: and 2 more causes
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if e.count() != "8 of 9 payloads" || e.none() != "none of 9 payloads" {
		t.Errorf("%s, %s", e.count(), e.none())
	}
}

func TestInFlags(t *testing.T) {
	other := errors.New("x")
	if got := inFlags(other); !errors.Is(got, other) {
		t.Errorf("got %v", got)
	}
	err := inFlags(&httpapi.ConfigError{Problems: []string{"AllowedOrigins: a", "DefaultNamespace is b"}})
	if err.Error() != "--origin: a; --default-namespace is b" || exitCode(err) != exitUsage {
		t.Errorf("got %v", err)
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{""}},
		{"fits", "one two", []string{"one two"}},
		{"just fits", "one three", []string{"one three"}},
		{"does not", "one two three", []string{"one two", "three"}},
		{"a long word", "a wordthatislong b", []string{"a", "wordthatislong", "b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for line := range wrap(tc.text, 9) {
				got = append(got, line)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for line := range wrap("one two three", 3) {
		if line != "one" {
			t.Errorf("went on after a break: %q", line)
		}
		break
	}
	if got := flagUsage(&pflag.Flag{Name: "x", Hidden: true}); got != "" {
		t.Errorf("a hidden flag: %q", got)
	}
}

func TestShortAge(t *testing.T) {
	for _, tc := range []struct {
		age  time.Duration
		want string
	}{
		{-time.Second, "0s"},
		{59 * time.Second, "59s"},
		{time.Minute, "1m"},
		{time.Hour, "1h"},
		{47 * time.Hour, "47h"},
		{48 * time.Hour, "2d"},
		{1000 * 24 * time.Hour, "1000d"},
	} {
		if got := shortAge(tc.age); got != tc.want {
			t.Errorf("%v: got %s, want %s", tc.age, got, tc.want)
		}
	}
}

func TestVersionText(t *testing.T) {
	for _, tc := range []struct {
		name string
		v    versionInfo
		want string
	}{
		{"released", versionInfo{Version: "v1.2.3", Commit: "abc"}, "waxseal          v1.2.3 (commit abc)\n"},
		{"modified", versionInfo{Version: "v1.2.3", Commit: "abc", Modified: true}, "waxseal          v1.2.3 (commit abc, modified)\n"},
		{"without a commit", versionInfo{Version: "unknown"}, "waxseal          unknown\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := tc.v.write(&out); err != nil || !strings.HasPrefix(out.String(), tc.want) {
				t.Errorf("got %q, %v", out.String(), err)
			}
		})
	}
}

// full is a standard output that takes nothing, as a full disk.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// What cannot be written to standard output is a failure of every command.
func TestFullDisk(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	run := func(room int, args ...string) (code int, said string) {
		var errs bytes.Buffer
		a := &app{in: strings.NewReader(`{"data":"aGk="}`), out: &full{room}, err: &errs, lookup: os.LookupEnv}
		code = a.main(t.Context(), args)
		return code, errs.String()
	}
	const plenty = 1 << 20
	if code, said := run(plenty, "keys", "create", "a"); code != exitOK {
		t.Fatal(said)
	}
	for _, args := range [][]string{
		{"version"},
		{"version", "--json"},
		{"encode"},
		{"decode"},
		{"inspect"},
		{"inspect", "--json"},
		{"inspect", "testdata/history/history.json"},
		{"inspect", "--long", "testdata/history/history.json"},
		{"keys", "list"},
		{"keys", "list", "--json"},
		{"keys", "create", "b"},
		{"keys", "create", "c", "--json"},
		{"keys", "rotate", "a"},
		{"keys", "rotate", "a", "--json"},
		{"keys", "rotate", "a", "--if-older-than", "1h"},
		{"keys", "rotate", "a", "--if-older-than", "1h", "--json"},
		{"keys", "disable", "a", "1"},
		{"keys", "disable", "a", "--all", "--json"},
		{"keys", "destroy", "a", "1", "--yes"},
		{"keys", "restore", "a", "1"},
		{"keys", "enable", "a", "--all"},
		{"--version"},
		{"doctor", "--calls", "0"},
		{"doctor", "--calls", "1"},
		{"doctor", "--json"},
		{"dev", "kms", "--aws-listen", "127.0.0.1:0", "--gcp-listen", "127.0.0.1:0"},
		{"serve", "--listen", "127.0.0.1:0", "--log-format", "json"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			code, said := run(0, args...)
			if code != exitFailure || !strings.Contains(said, "waxseal: error: no space left\n") {
				t.Errorf("exit code %d, standard error %q", code, said)
			}
		})
	}
	// And wherever in the output the disk is full.
	for room := 0; ; room++ {
		code, said := run(room, "inspect", "testdata/history/history.json")
		if code == exitOK {
			break
		}
		if code != exitFailure || !strings.Contains(said, "no space left") {
			t.Fatalf("at %d bytes: exit code %d, standard error %q", room, code, said)
		}
	}
}

func TestVersionOfTheLinker(t *testing.T) {
	version, commit = "v9.8.7", "abc"
	t.Cleanup(func() { version, commit = "", "" })
	if v := readVersion(); v.Version != "v9.8.7" || v.Commit != "abc" || v.Modified {
		t.Errorf("got %+v", v)
	}
}

func TestReadFails(t *testing.T) {
	_, err := readAll(t.Context(), iotest.ErrReader(errFull), "standard input")
	if err == nil || err.Error() != "read standard input: no space left" || len(hints(err)) != 1 {
		t.Errorf("got %v", err)
	}
}

// Names in paths come from the document, and must not pass for lines of ours.
func TestPathsAreOneLine(t *testing.T) {
	var out bytes.Buffer
	a := &app{err: &out, lookup: func(string) (string, bool) { return "", false }}
	e := &partialError{verdict: "some failed"}
	e.fail("a\nwaxseal: note: all is well\x1b[2J", errors.New("x"))
	a.report(e)
	want := "waxseal: error: some failed\nwaxseal: error: a\\nwaxseal: note: all is well\\x1b[2J: x\n"
	if got := out.String(); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestPrintJSONIsPrintable(t *testing.T) {
	const text = "a\u009b2Jb\u202ec\x7fd\U000e0001e\x1bfé\n<"
	var out bytes.Buffer
	if err := (&app{out: &out}).printJSON(map[string]string{"k": text}); err != nil {
		t.Fatal(err)
	}
	const want = "{\n  \"k\": \"a\\u009b2Jb\\u202ec\\u007fd\\udb40\\udc01e\\u001bfé\\n<\"\n}\n"
	if got := out.String(); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["k"] != text {
		t.Errorf("read back %q, %v", back["k"], err)
	}
}

// A small history must not open into more than there is memory for.
func TestDecodeIsBounded(t *testing.T) {
	dir := t.TempDir()
	payload := `{"data":"` + strings.Repeat("AAAA", 100_000) + `"}`
	var sealed, out, said bytes.Buffer
	a := &app{in: strings.NewReader("[" + payload + "," + payload + "," + payload + "]"), out: &sealed, err: &said, lookup: func(string) (string, bool) { return "", false }}
	if code := a.main(t.Context(), []string{"encode", "--data-dir", dir}); code != exitOK {
		t.Fatalf("encode: %d %s", code, &said)
	}
	a.out = &out
	d := decoder{app: a, keys: source{app: a, dataDir: dir}, room: 700_000}
	err := d.decode(t.Context(), sealed.Bytes())
	if code := exitCode(err); code != exitPartly || !errors.Is(err, envelope.ErrNoRoom) {
		t.Errorf("got %d, %v", code, err)
	}
	if n := strings.Count(out.String(), payload); n != 2 {
		t.Errorf("%d payloads were opened, want 2", n)
	}
}
