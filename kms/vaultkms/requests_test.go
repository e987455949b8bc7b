package vaultkms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

const (
	encryptPath = "POST /v1/transit/encrypt/k"
	decryptPath = "POST /v1/transit/decrypt/k"
	keyPath     = "GET /v1/transit/keys/k"
)

func TestOneRequestForABatch(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, nil)
	key := newKey(t, vaultkms.Config{Address: p.URL})
	ec := kms.Context{"namespace": "payments"}

	mustWrap(t, key, dataKeys(1), ec)
	if diff := cmp.Diff(map[string]int{keyPath: 1, encryptPath: 1}, p.take()); diff != "" {
		t.Errorf("first Wrap (-want +got):\n%s", diff)
	}
	for _, tc := range []struct{ items, requests int }{{1, 1}, {2, 1}, {100, 1}, {160, 1}, {161, 2}, {1000, 7}} {
		plain := dataKeys(tc.items)
		wrapped := mustWrap(t, key, plain, ec)
		if diff := cmp.Diff(map[string]int{encryptPath: tc.requests}, p.take()); diff != "" {
			t.Errorf("Wrap of %d (-want +got):\n%s", tc.items, diff)
		}
		mustUnwrap(t, key, wrapped, ec, plain)
		if diff := cmp.Diff(map[string]int{decryptPath: tc.requests}, p.take()); diff != "" {
			t.Errorf("Unwrap of %d (-want +got):\n%s", tc.items, diff)
		}
	}

	// Nothing to send, nothing sent.
	mustWrap(t, key, nil, ec)
	mustUnwrap(t, key, nil, ec, nil)
	if _, err := key.Wrap(t.Context(), [][]byte{make([]byte, 31)}, ec); kms.ClassOf(err) != kms.Internal {
		t.Errorf("short data key: %v", err)
	}
	if err := unwrapError(t, key, kms.Wrapped{Blob: []byte("vault:v1:no base64")}, ec); kms.ClassOf(err) != kms.Corrupt {
		t.Errorf("foreign blob: %v", err)
	}
	if got := p.take(); len(got) != 0 {
		t.Errorf("requests for nothing: %v", got)
	}
}

// The limit that OpenBao has by default: 1,000 strings in one request.
func TestRequestStaysBelowStringLimit(t *testing.T) {
	s := startVault(t, "k")
	var most atomic.Int64
	p := newProxy(t, s, func(_ http.ResponseWriter, _ *http.Request, body []byte) bool {
		strings := int64(0)
		for decoder := json.NewDecoder(bytes.NewReader(body)); ; {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			if _, is := token.(string); is {
				strings++
			}
		}
		most.Store(max(most.Load(), strings))
		return false
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	plain, ec := dataKeys(500), kms.Context{"namespace": "n"}
	mustUnwrap(t, key, mustWrap(t, key, plain, ec), ec, plain)
	if got := most.Load(); got == 0 || got >= 1000 {
		t.Errorf("a request holds %d strings", got)
	}
}

func TestBadItemsCostNoRequest(t *testing.T) {
	s := startVault(t, "k", "other")
	p := newProxy(t, s, nil)
	key := newKey(t, vaultkms.Config{Address: p.URL})
	other := newKey(t, vaultkms.Config{Name: "other", Address: s.Addr})
	ec := kms.Context{"namespace": "payments"}
	plain := dataKeys(50)
	wrapped := mustWrap(t, key, plain, ec)
	wrapped[7] = mustWrap(t, other, plain[:1], ec)[0]
	wrapped[33] = kms.Wrapped{Blob: bytes.Replace(wrapped[33].Blob, []byte(":v1:"), []byte(":v9:"), 1)}
	p.take()

	got, err := key.Unwrap(t.Context(), wrapped, ec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{decryptPath: 1}, p.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for i, u := range got {
		switch i {
		case 7:
			wantError(t, u.Err, kms.Corrupt, "sealed under")
		case 33:
			wantError(t, u.Err, kms.NotFound, "backup")
		default:
			if u.Err != nil || !bytes.Equal(u.DataKey, plain[i]) {
				t.Errorf("item %d: error %v", i, u.Err)
			}
		}
	}
}

// A server that refuses a batch without naming the item at fault gets each item by itself,
// a few at a time.
func TestBadItemIsFoundWithoutItemResults(t *testing.T) {
	for _, message := range []string{"cipher: message authentication failed", "some message that no Vault has today"} {
		s := startVault(t, "k")
		var inFlight, most atomic.Int64
		p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if r.URL.Path != "/v1/transit/decrypt/k" {
				return false
			}
			var batch struct {
				Items []struct{} `json:"batch_input"`
			}
			if err := json.Unmarshal(body, &batch); err != nil {
				t.Errorf("request: %v", err)
			}
			if len(batch.Items) == 1 {
				most.Store(max(most.Load(), inFlight.Add(1)))
				defer inFlight.Add(-1)
				if bytes.Contains(body, []byte("vault:v3:")) {
					return refuse(w, http.StatusServiceUnavailable, "overloaded, try again later")
				}
				return bytes.Contains(body, []byte("vault:v2:")) && refuse(w, http.StatusBadRequest, message)
			}
			return refuse(w, http.StatusBadRequest, message)
		})
		key := newKey(t, vaultkms.Config{Address: p.URL})
		plain := dataKeys(40)
		wrapped := mustWrap(t, key, plain, nil)
		wrapped[5].Blob = bytes.Replace(wrapped[5].Blob, []byte(":v1:"), []byte(":v2:"), 1)
		wrapped[9].Blob = bytes.Replace(wrapped[9].Blob, []byte(":v1:"), []byte(":v3:"), 1)
		p.take()

		got, err := key.Unwrap(t.Context(), wrapped, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range got {
			if i == 5 || i == 9 {
				if u.Err == nil || u.DataKey != nil {
					t.Errorf("item %d was not refused", i)
				}
				if unavailable := kms.ClassOf(u.Err) == kms.Unavailable; unavailable != (i == 9) {
					t.Errorf("item %d: %v", i, u.Err)
				}
			} else if u.Err != nil || !bytes.Equal(u.DataKey, plain[i]) {
				t.Errorf("item %d: error %v", i, u.Err)
			}
		}
		if n := p.take()[decryptPath]; n != 41 {
			t.Errorf("%d requests, want 41", n)
		}
		if most.Load() > 4 {
			t.Errorf("%d requests at a time", most.Load())
		}
	}
}

// What is wrong with the key or the caller is not looked for in the items.
func TestWholeRefusalIsNotSearched(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status  int
		message string
		class   kms.Class
	}{
		{http.StatusBadRequest, "encryption key not found", kms.NotFound},
		{http.StatusForbidden, "permission denied", kms.Denied},
		{http.StatusServiceUnavailable, "Vault is sealed", kms.Unavailable},
		{http.StatusTooManyRequests, "request path \"transit/decrypt/k\": rate limit quota exceeded", kms.Throttled},
	} {
		s := startVault(t, "k")
		p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			return r.URL.Path == "/v1/transit/decrypt/k" && refuse(w, tc.status, tc.message)
		})
		key := newKey(t, vaultkms.Config{Address: p.URL})
		wrapped := mustWrap(t, key, dataKeys(10), nil)
		p.take()
		got, err := key.Unwrap(t.Context(), wrapped, nil)
		if got != nil || kms.ClassOf(err) != tc.class {
			t.Errorf("%s: %v", tc.message, err)
		}
		if diff := cmp.Diff(map[string]int{decryptPath: 1}, p.take()); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", tc.message, diff)
		}
	}
}

func refuse(w http.ResponseWriter, status int, message string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{message}})
	return true
}

// Of several requests for one call some may fail: of Unwrap the others count, of
// Wrap none.
func TestSomeRequestsFail(t *testing.T) {
	s := startVault(t, "k")
	var failEncrypt, failDecrypt atomic.Bool // apart, because a request that was given up may arrive late
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		failNext := &failEncrypt
		if r.URL.Path == "/v1/transit/decrypt/k" {
			failNext = &failDecrypt
		}
		return r.Method == http.MethodPost && failNext.CompareAndSwap(true, false) && refuse(w, http.StatusBadGateway, "no")
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	plain := dataKeys(450)
	wrapped := mustWrap(t, key, plain, nil)

	failDecrypt.Store(true)
	got, err := key.Unwrap(t.Context(), wrapped, nil)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, u := range got {
		if u.Err != nil {
			failed++
			if kms.ClassOf(u.Err) != kms.Unavailable || u.DataKey != nil {
				t.Fatalf("item %d: %v", i, u.Err)
			}
		} else if !bytes.Equal(u.DataKey, plain[i]) {
			t.Fatalf("item %d is not the data key that was wrapped", i)
		}
	}
	if failed != 160 && failed != 130 {
		t.Errorf("%d items failed, want those of one request", failed)
	}

	failEncrypt.Store(true)
	if got, err := key.Wrap(t.Context(), plain, nil); got != nil || kms.ClassOf(err) != kms.Unavailable {
		t.Errorf("Wrap: %d answers, %v", len(got), err)
	}
	// An item that is bad by itself keeps its own error when all others fail.
	failDecrypt.Store(true)
	got, err = key.Unwrap(t.Context(), []kms.Wrapped{wrapped[0], {}}, nil)
	if err != nil || kms.ClassOf(got[0].Err) != kms.Unavailable || kms.ClassOf(got[1].Err) != kms.Corrupt {
		t.Errorf("Unwrap: %v, %v", got, err)
	}
}

func TestManyFirstCallersAskOnceForTheKey(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, nil)
	key := newKey(t, vaultkms.Config{Address: p.URL})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := key.Wrap(t.Context(), dataKeys(1), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[string]int{keyPath: 1, encryptPath: 32}, p.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// While one caller waits for the answer about the key, another that gives up is let go.
func TestVerifyingHoldsNobody(t *testing.T) {
	s := startVault(t, "k")
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method == http.MethodGet {
			once.Do(func() { close(asked) })
			<-release
		}
		return false
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	first := make(chan error)
	go func() {
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		first <- err
	}()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := key.Wrap(ctx, dataKeys(1), nil)
	wantError(t, err, kms.Canceled, "")
	close(release)
	if err := <-first; err != nil {
		t.Errorf("first Wrap: %v", err)
	}
}

// What could not be read is read again.
func TestVerifyingIsTriedAgain(t *testing.T) {
	s := startVault(t)
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	_, err := key.Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.NotFound, "vault write -f transit/keys/k")
	s.CreateKey(t, mount, "k", nil)
	plain := dataKeys(1)
	mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
}

// A connection that the server closed while it was idle is no outage.
func TestIdleConnectionClosed(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, nil)
	key := newKey(t, vaultkms.Config{Address: p.URL})
	for range 20 {
		plain := dataKeys(1)
		wrapped := mustWrap(t, key, plain, nil)
		p.CloseClientConnections()
		mustUnwrap(t, key, wrapped, nil, plain)
		p.CloseClientConnections()
	}
}

func TestVersionIsRecorded(t *testing.T) {
	s := startVault(t, "k")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	for version := 1; version <= 11; version++ {
		w := mustWrap(t, key, dataKeys(1), nil)[0]
		if want := fmt.Sprint(version); w.Version != want || !bytes.HasPrefix(w.Blob, []byte("vault:v"+want+":")) {
			t.Errorf("version %q, blob %.12s, want version %s", w.Version, w.Blob, want)
		}
		s.RotateKey(t, mount, "k")
	}
}

// Vault's own tools can open what we wrapped: the plaintext is the data key, the associated
// data that of kms.Context.
func TestVaultItselfOpensIt(t *testing.T) {
	s := startVault(t, "k")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	ec := kms.Context{"namespace": "payments", "workflowType": "Charge"}
	plain := dataKeys(1)
	w := mustWrap(t, key, plain, ec)[0]
	answer := s.Do(t, http.MethodPost, "transit/decrypt/k", map[string]any{"ciphertext": string(w.Blob), "associated_data": ec.AssociatedData()})
	got, err := json.Marshal(plain[0])
	if err != nil {
		t.Fatal(err)
	}
	if data := answer["data"].(map[string]any); `"`+data["plaintext"].(string)+`"` != string(got) {
		t.Error("Vault opens something else")
	}
}
