package vaultkms_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// testersSettings are the tester's own settings for Vault.
var testersSettings = map[string]string{}

// TestMain takes them away: they are for TestConformanceOfARealVault only.
func TestMain(m *testing.M) {
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "VAULT_") {
			testersSettings[name] = value
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

const mount = "transit"

// startVault starts a server with a transit engine and these keys.
func startVault(t testing.TB, keys ...string) *vaulttest.Server {
	t.Helper()
	s := vaulttest.Start(t)
	s.EnableTransit(t, mount)
	for _, name := range keys {
		s.CreateKey(t, mount, name, nil)
	}
	return s
}

// newKey opens a key as cfg says; mount, name, address and token have defaults.
func newKey(t testing.TB, cfg vaultkms.Config) *vaultkms.Key {
	t.Helper()
	if cfg.Mount == "" {
		cfg.Mount = mount
	}
	if cfg.Name == "" {
		cfg.Name = "k"
	}
	if cfg.Token == "" {
		cfg.Token = vaulttest.RootToken
	}
	key, err := vaultkms.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := key.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return key
}

func dataKeys(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, kms.DataKeySize)
		rand.Read(out[i])
	}
	return out
}

func mustWrap(t testing.TB, key kms.Key, dataKeys [][]byte, ec kms.Context) []kms.Wrapped {
	t.Helper()
	wrapped, err := key.Wrap(t.Context(), dataKeys, ec)
	if err != nil {
		t.Fatalf("Wrap: %v", err)
	}
	if len(wrapped) != len(dataKeys) {
		t.Fatalf("Wrap of %d gave %d", len(dataKeys), len(wrapped))
	}
	return wrapped
}

func mustUnwrap(t testing.TB, key kms.Key, wrapped []kms.Wrapped, ec kms.Context, want [][]byte) {
	t.Helper()
	got, err := key.Unwrap(t.Context(), wrapped, ec)
	if err != nil {
		t.Fatalf("Unwrap: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("Unwrap of %d gave %d", len(want), len(got))
	}
	for i, u := range got {
		if u.Err != nil || !bytes.Equal(u.DataKey, want[i]) {
			t.Fatalf("item %d of %d: not the data key that was wrapped (error %v)", i, len(got), u.Err)
		}
	}
}

// wantError checks class and hint of err, and that it says nothing of Vault's.
func wantError(t testing.TB, err error, class kms.Class, hint string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %v", class)
		return
	}
	var e *kms.Error
	if !errors.As(err, &e) {
		t.Errorf("%T is not a *kms.Error: %v", err, err)
		return
	}
	if e.Class != class {
		t.Errorf("class %v, want %v: %v", e.Class, class, err)
	}
	if !strings.Contains(e.Hint(), hint) {
		t.Errorf("hint %q does not say %q (%v)", e.Hint(), hint, err)
	}
}

// unwrapError returns the error that Unwrap has for one blob.
func unwrapError(t testing.TB, key kms.Key, w kms.Wrapped, ec kms.Context) error {
	t.Helper()
	got, err := key.Unwrap(t.Context(), []kms.Wrapped{w}, ec)
	if err != nil {
		if got != nil {
			t.Error("Unwrap gave both an error and an answer")
		}
		return err
	}
	if len(got) != 1 || (got[0].DataKey != nil) == (got[0].Err != nil) {
		t.Fatalf("Unwrap answered %d items, or both or neither of data key and error", len(got))
	}
	return got[0].Err
}

// proxy stands between a Key and Vault, counts and meddles.
type proxy struct {
	*httptest.Server
	mu      sync.Mutex
	counts  map[string]int
	headers []http.Header
	// aboutTokens are renewals and look-ups, which no call waits for.
	aboutTokens map[string]int
	// alter, if any, changes Vault's answers.
	alter func(path string, answer map[string]any)
}

// newProxy returns a proxy in front of s. meddle, if not nil, may answer a
// request itself and then returns true; it gets the body, which it may read.
func newProxy(t testing.TB, s *vaulttest.Server, meddle func(w http.ResponseWriter, r *http.Request, body []byte) bool) *proxy {
	t.Helper()
	p := newUnstartedProxy(t, s, meddle)
	p.Start()
	t.Cleanup(p.Close)
	return p
}

func newUnstartedProxy(t testing.TB, s *vaulttest.Server, meddle func(w http.ResponseWriter, r *http.Request, body []byte) bool) *proxy {
	t.Helper()
	target, err := url.Parse(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport = transport
	quiet := log.New(io.Discard, "", 0) // clients that give up or do not trust us are part of the tests
	forward.ErrorLog = quiet
	p := &proxy{counts: map[string]int{}, aboutTokens: map[string]int{}}
	forward.ModifyResponse = p.modify
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client gave up
		}
		p.mu.Lock()
		if about := strings.HasPrefix(r.URL.Path, "/v1/auth/token/"); about {
			p.aboutTokens[r.Method+" "+r.URL.Path]++ // comes in its own time
		} else {
			p.counts[r.Method+" "+r.URL.Path]++
			p.headers = append(p.headers, r.Header.Clone())
		}
		p.mu.Unlock()
		if meddle != nil && meddle(w, r, body) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, r)
	}))
	p.Config.ErrorLog = quiet
	return p
}

// modify lets alter change an answer that is JSON.
func (p *proxy) modify(resp *http.Response) error {
	p.mu.Lock()
	alter := p.alter
	p.mu.Unlock()
	if alter == nil || resp.ContentLength == 0 {
		return nil
	}
	var answer map[string]any
	err := json.NewDecoder(resp.Body).Decode(&answer)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	alter(resp.Request.URL.Path, answer)
	body, err := json.Marshal(answer)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return err
}

// setAlter changes answers from now on.
func (p *proxy) setAlter(alter func(path string, answer map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alter = alter
}

// results returns the items of a batch in an answer.
func results(answer map[string]any) []map[string]any {
	data, _ := answer["data"].(map[string]any)
	items, _ := data["batch_results"].([]any)
	var out []map[string]any
	for _, item := range items {
		if fields, ok := item.(map[string]any); ok {
			out = append(out, fields)
		}
	}
	return out
}

// take returns the counts since it was last called.
func (p *proxy) take() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.counts
	p.counts = map[string]int{}
	return counts
}

func (p *proxy) lastHeader() http.Header {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.headers[len(p.headers)-1]
}

func mustParse(t testing.TB, uri string) *url.URL {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
