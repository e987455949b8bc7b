package vaultkms_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// state is the state of its storage that Vault Enterprise sends in X-Vault-Index.
func state(local int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "v1:cluster:%d:0:%064x", local, 0))
}

// A community server sends no state and gets none.
func TestNoIndexNoneDemanded(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, nil)
	key := newKey(t, vaultkms.Config{Address: p.URL})
	works(t, key)
	for _, name := range []string{"X-Vault-Index", "X-Vault-Inconsistent"} {
		if got := p.lastHeader().Values(name); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// The newest state that an answer named is demanded from then on. Not tested against Vault
// Enterprise.
func TestIndexIsDemanded(t *testing.T) {
	s := startVault(t, "k")
	var now atomic.Int64
	p := newProxy(t, s, func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		if n := now.Load(); n > 0 {
			w.Header().Set("X-Vault-Index", state(int(n)))
		}
		return false
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	for _, step := range []struct {
		tell int64
		want string
	}{{3, ""}, {7, state(3)}, {5, state(7)}, {0, state(7)}, {9, state(7)}, {0, state(9)}} {
		now.Store(step.tell)
		if _, err := key.Unwrap(t.Context(), []kms.Wrapped{{Blob: []byte(someBlob)}}, nil); err != nil {
			t.Fatal(err)
		}
		header := p.lastHeader()
		if got := strings.Join(header.Values("X-Vault-Index"), " "); got != step.want {
			t.Errorf("told %d: index %q, want %q", step.tell, got, step.want)
		}
		if header.Get("X-Vault-Inconsistent") != "" { // most servers refuse it
			t.Errorf("told %d: asked to forward without need", step.tell)
		}
	}
	// What cannot be one, because it is far too long, is not repeated.
	s2 := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Index") != "" {
			t.Error("repeated")
		}
		w.Header().Set("X-Vault-Index", strings.Repeat("A", 1000))
		refuse(w, http.StatusServiceUnavailable, "no")
	})
	far := newKey(t, vaultkms.Config{Address: s2.URL})
	for range 2 {
		_ = unwrapError(t, far, kms.Wrapped{Blob: []byte(someBlob)}, nil)
	}
}

// A standby that is behind gets the request to forward. The Vault of these tests refuses
// that, as any does without the setting, and does not get it again.
func TestForwardingIsNotAllowed(t *testing.T) {
	s := startVault(t, "k")
	var behind atomic.Int64
	var forwards []string
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/transit/encrypt/") {
			forwards = append(forwards, r.Header.Get("X-Vault-Inconsistent"))
		}
		return behind.Add(-1) >= 0 && refuse(w, http.StatusPreconditionFailed, "required index state not present")
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	works(t, key)
	for _, want := range [][]string{{"", "forward-active-node", ""}, {"", ""}} {
		forwards = nil
		behind.Store(1)
		works(t, key)
		if diff := cmp.Diff(want, forwards); diff != "" {
			t.Errorf("asked to forward (-want +got):\n%s", diff)
		}
	}
}

// A standby that forwards on request answers at the second attempt.
func TestForwardingIsAllowed(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		forwarded := r.Header.Get("X-Vault-Inconsistent") == "forward-active-node"
		r.Header.Del("X-Vault-Inconsistent")
		return !forwarded && refuse(w, http.StatusPreconditionFailed, "required index state not present")
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	for range 2 {
		works(t, key)
	}
	if diff := cmp.Diff(map[string]int{keyPath: 2, encryptPath: 4, decryptPath: 4}, p.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// A standby that is behind gets a few more attempts, and no more than that.
func TestNodeThatIsBehind(t *testing.T) {
	s := startVault(t, "k")
	var mu sync.Mutex
	behind := 0
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if behind == 0 || !strings.HasPrefix(r.URL.Path, "/v1/transit/encrypt/") {
			return false
		}
		behind--
		return refuse(w, http.StatusPreconditionFailed, "required index state not present")
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	works(t, key)
	p.take()
	for _, tc := range []struct{ behind, requests int }{{1, 3}, {3, 4}} {
		mu.Lock()
		behind = tc.behind
		mu.Unlock()
		works(t, key)
		if got := p.take()[encryptPath]; got != tc.requests {
			t.Errorf("%d requests to a node that is behind %d times", got, tc.behind)
		}
	}
	mu.Lock()
	behind = 1000
	mu.Unlock()
	_, err := key.Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Unavailable, "allow_forwarding_via_header")
	if got := p.take()[encryptPath]; got != 4 {
		t.Errorf("%d requests", got)
	}
}

// After a failover or a restore another cluster answers, which does not take the
// other's state, or never reaches it. That must not last.
func TestStateOfAnotherCluster(t *testing.T) {
	s := startVault(t, "k")
	for name, refusal := range map[string]struct {
		status  int
		message string
	}{
		"cannot read it":   {http.StatusBadRequest, "invalid state header HMAC (mismatch)"},
		"never reaches it": {http.StatusPreconditionFailed, "required index state not present"},
	} {
		t.Run(name, func(t *testing.T) {
			var moved atomic.Bool
			p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				if moved.Load() {
					return r.Header.Get("X-Vault-Index") != "" && refuse(w, refusal.status, refusal.message)
				}
				w.Header().Set("X-Vault-Index", state(1))
				return false
			})
			key := newKey(t, vaultkms.Config{Address: p.URL})
			works(t, key)
			moved.Store(true)
			if refusal.status == http.StatusPreconditionFailed {
				_, err := key.Wrap(t.Context(), dataKeys(1), nil)
				wantError(t, err, kms.Unavailable, "")
			}
			works(t, key)
		})
	}
}

// An answer in another order, or of another request, opens nothing.
func TestAnswersMixedUp(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, nil)
	key := newKey(t, vaultkms.Config{Address: p.URL})
	plain := dataKeys(3)
	wrapped := mustWrap(t, key, plain, nil)
	p.setAlter(func(_ string, answer map[string]any) {
		if items := results(answer); len(items) > 1 {
			data := answer["data"].(map[string]any)
			data["batch_results"] = []any{items[1], items[0], items[2]}
		}
	})
	both3 := func(check func(err error)) {
		_, err := key.Wrap(t.Context(), plain, nil)
		check(err)
		_, err = key.Unwrap(t.Context(), wrapped, nil)
		check(err)
	}
	both3(func(err error) { wantError(t, err, kms.Unavailable, "proxy, or a cache") })
	// A server from before references is taken at its word.
	p.setAlter(func(_ string, answer map[string]any) {
		for _, item := range results(answer) {
			delete(item, "reference")
		}
	})
	both3(func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	mustUnwrap(t, key, wrapped, nil, plain)
}
