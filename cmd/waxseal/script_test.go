package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/payloaddoc"
)

// TestScripts runs testdata/script. Besides testscript's own commands there are
// those below; $HOME is a folder of the script's own, history/ holds a real
// workflow's history and the keyring it was sealed under.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": cmdCode, "tamper": cmdTamper, "serve": cmdServe, "end": cmdEnd, "post": cmdPost, "get": cmdGet, "mode": cmdMode, "stall": cmdStall,
			"devkms": cmdDevKMS, "rehearse": cmdRehearse,
		},
	})
}

func setup(env *testscript.Env) error {
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	for _, name := range []string{"XDG_DATA_HOME", "NO_COLOR", "VAULT_ADDR", "VAULT_TOKEN", "GODEBUG"} {
		env.Setenv(name, "")
	}
	env.Setenv("TERM", "xterm")
	env.Vars = append(env.Vars, gorace)
	env.Values[serversKey{}] = map[string]*running{}
	if err := os.CopyFS(filepath.Join(env.WorkDir, "history"), os.DirFS("testdata/history")); err != nil {
		return err
	}
	return os.Chmod(filepath.Join(env.WorkDir, "history", "keyring"), 0o600) // which git does not keep
}

// cmdCode runs waxseal and checks its exit code: code 3 decode history.json
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code number argument...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec("waxseal", args[1:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdTamper alters the last payload of a document: tamper flip|cut|KEY file.
// flip changes a bit of its ciphertext, cut removes its end, a key's ID makes it
// an envelope of that key of Vault's, whatever is in it.
func cmdTamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tamper flip|cut|KEY file")
	}
	doc, err := payloaddoc.Parse([]byte(ts.ReadFile(args[1])), codec.Encoding)
	ts.Check(err)
	with := make([]*commonpb.Payload, len(doc.Found))
	last := doc.Found[len(with)-1].Payload
	with[len(with)-1] = last
	switch args[0] {
	case "flip":
		last.Data[len(last.Data)-1] ^= 1
	case "cut":
		last.Data = last.Data[:len(last.Data)/2]
	default:
		last.Metadata[codec.MetadataKeyIDs] = []byte(args[0])
		wrapped := "vault:v1:" + base64.StdEncoding.EncodeToString(make([]byte, 60))
		last.Data, err = format.Rewrap(last.Data, []format.Recipient{{WrappedKey: []byte(wrapped)}})
		ts.Check(err)
	}
	out, err := doc.Replace(with)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), out, 0o600))
}

// cmdMode checks a file's mode: mode 600 file
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode octal file")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// cmdStall starts a server that takes connections and never answers, and sets
// STALL_ADDRESS.
func cmdStall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: stall")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed when the script ends
	ts.Check(err)
	ts.Defer(func() { _ = ln.Close() })
	ts.Setenv("STALL_ADDRESS", ln.Addr().String())
}

// serversKey is where a script keeps its running servers, by name.
type serversKey struct{}

func servers(ts *testscript.TestScript) map[string]*running {
	return ts.Value(serversKey{}).(map[string]*running)
}

// cmdServe starts waxseal serve, waits until it listens, and sets the variables
// name_URL and, if it has one, name_ADMIN: serve name argument...
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serve name argument...")
	}
	env := baseEnv(ts.Getenv("HOME"), ts.Getenv("PATH"))
	for _, name := range []string{"VAULT_ADDR", "VAULT_TOKEN", "GODEBUG", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	r, err := startServer(context.Background(), ts.MkAbs("."), env, args[1:])
	ts.Check(err)
	ts.Defer(func() { _ = r.stop(os.Kill) })
	servers(ts)[args[0]] = r
	ts.Setenv(args[0]+"_URL", r.url)
	ts.Setenv(args[0]+"_ADDRESS", strings.TrimPrefix(r.url, "http://"))
	ts.Setenv(args[0]+"_ADMIN", r.admin)
}

// cmdEnd sends a signal to a server and waits until it has ended, with exit
// code 0; what it printed can be looked at then: end name TERM|INT
func cmdEnd(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt}
	if neg || len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: end name TERM|INT")
	}
	r := servers(ts)[args[0]]
	err := r.stop(signals[args[1]])
	_, _ = io.WriteString(ts.Stdout(), r.stdout.String())
	_, _ = io.WriteString(ts.Stderr(), r.stderr.String())
	ts.Check(err)
}

// cmdPost posts a file as JSON and prints the answer; its status is on standard
// error: post url file [Header: value]...
func cmdPost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: post url file [Header: value]...")
	}
	req, err := http.NewRequest(http.MethodPost, args[0], strings.NewReader(ts.ReadFile(args[1]))) //nolint:noctx // a script has a deadline of its own
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	for _, header := range args[2:] {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	answer(ts, req)
}

// cmdGet gets a URL and prints the answer, as post does.
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: get url")
	}
	req, err := http.NewRequest(http.MethodGet, args[0], nil) //nolint:noctx // a script has a deadline of its own
	ts.Check(err)
	answer(ts, req)
}

func answer(ts *testscript.TestScript, req *http.Request) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, _ = ts.Stdout().Write(append(body, '\n')) // as files end
	_, _ = fmt.Fprintf(ts.Stderr(), "status %d\nundecoded %s\norigin %s\n", resp.StatusCode, resp.Header.Get("Waxseal-Undecoded"), resp.Header.Get("Access-Control-Allow-Origin"))
}
