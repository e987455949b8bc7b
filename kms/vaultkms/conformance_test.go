package vaultkms_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// What a worker needs and nothing more: without the right to read the key, the
// first Wrap finds out about it in another way.
const blindWorker = `
path "+/transit/encrypt/*" { capabilities = ["update"] }
path "+/transit/decrypt/*" { capabilities = ["update"] }
`

// administrator has all rights that a Key needs.
const administrator = `
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/rewrap/*" { capabilities = ["update"] }
path "transit/keys/*" { capabilities = ["read", "update"] }
`

// workersKey is a key with a worker's rights, which do not include managing it.
type workersKey struct {
	kms.Key
	kms.Prober
	kms.Closer
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := startVault(t)
	s.EnableTransit(t, "team/transit")
	for _, tc := range []struct {
		name, mount, policy string
		params              map[string]any
		open                func(cfg vaultkms.Config) (kms.Key, error)
		lacks               map[kmstest.Power]string
	}{
		{
			"AES", mount, administrator,
			map[string]any{"type": "aes256-gcm96"},
			func(cfg vaultkms.Config) (kms.Key, error) { return vaultkms.New(cfg) },
			map[kmstest.Power]string{kmstest.PowerRewrapper: "Vault's rewrap ignores associated data"},
		},
		{
			"derived AES", mount, administrator,
			map[string]any{"type": "aes256-gcm96", "derived": true},
			func(cfg vaultkms.Config) (kms.Key, error) { return vaultkms.NewDerived(cfg) },
			nil,
		},
		{
			"ChaCha20 as a worker that may not read the key", "team/transit", blindWorker,
			map[string]any{"type": "chacha20-poly1305"},
			func(cfg vaultkms.Config) (kms.Key, error) {
				key, err := vaultkms.New(cfg)
				return workersKey{key, key, key}, err
			},
			map[kmstest.Power]string{
				kmstest.PowerRewrapper: "Vault's rewrap ignores associated data",
				kmstest.PowerRotator:   "a worker's token may not",
				kmstest.PowerRetirer:   "a worker's token may not",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			policy := strings.ReplaceAll(strings.ToLower(tc.name), " ", "-")
			s.WritePolicy(t, policy, tc.policy)
			token := s.Token(t, policy)
			tokenFile := filepath.Join(t.TempDir(), "token")
			writeFile(t, tokenFile, token)
			f := newFaulty(t, s)

			var made atomic.Int64
			nameOf := func(key kms.Key) string { return key.ID()[strings.LastIndexByte(key.ID(), '/')+1:] }
			open := func(t testing.TB, name string, timeout time.Duration) kms.Key {
				t.Helper()
				key, err := tc.open(vaultkms.Config{
					Mount: tc.mount, Name: name, Address: f.URL, Timeout: timeout, Auth: vaultkms.Auth{TokenFile: tokenFile},
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = key.(kms.Closer).Close() })
				return key
			}
			create := func(t testing.TB) kms.Key {
				t.Helper()
				name := fmt.Sprintf("%s-%d", policy, made.Add(1))
				s.CreateKey(t, tc.mount, name, tc.params)
				return open(t, name, 0)
			}
			lacks := map[kmstest.Power]string{
				kmstest.PowerDisable:         "a transit key has no off switch",
				kmstest.PowerPendingDeletion: "Vault deletes a key at once",
				kmstest.FaultWrongKey:        "Vault's answers do not name the key",
				kmstest.FaultRequestDamaged:  "Vault's requests have no checksum but TLS's",
			}
			maps.Copy(lacks, tc.lacks)
			faults := f.faults()
			faults[kmstest.FaultDenied] = func(t testing.TB, _ kms.Key) func() {
				t.Helper()
				s.WritePolicy(t, policy, `path "cubbyhole/none" { capabilities = ["read"] }`)
				return func() { s.WritePolicy(t, policy, tc.policy) }
			}
			faults[kmstest.FaultExpired] = func(t testing.TB, _ kms.Key) func() {
				t.Helper()
				s.Revoke(t, token)
				return func() {
					token = s.Token(t, policy)
					writeFile(t, tokenFile, token)
				}
			}
			kmstest.Run(t, kmstest.Harness{
				NewKey:   create,
				OtherKey: create,
				Reopen:   func(t testing.TB, key kms.Key) kms.Key { t.Helper(); return open(t, nameOf(key), 0) },
				Hasty:    func(t testing.TB, key kms.Key) kms.Key { t.Helper(); return open(t, nameOf(key), 300*time.Millisecond) },
				Rotate:   func(t testing.TB, key kms.Key) { t.Helper(); s.RotateKey(t, tc.mount, nameOf(key)) },
				DisableVersion: func(t testing.TB, key kms.Key, version string) {
					t.Helper()
					s.ConfigureKey(t, tc.mount, nameOf(key), map[string]any{"min_decryption_version": next(t, version)})
				},
				DestroyVersion: func(t testing.TB, key kms.Key, version string) {
					t.Helper()
					above := next(t, version)
					s.ConfigureKey(t, tc.mount, nameOf(key), map[string]any{"min_decryption_version": above, "min_encryption_version": above})
					s.Do(t, http.MethodPost, tc.mount+"/keys/"+nameOf(key)+"/trim", map[string]any{"min_available_version": above})
				},
				Faults:      faults,
				VersionTold: true,
				Credentials: []string{token},
				Lacks:       lacks,
			})
		})
	}
}

// TestConformanceOfARealVault runs against the key that WAXSEAL_TEST_VAULT_KEY
// names, if it is set, with the tester's own VAULT_ADDR, VAULT_TOKEN and so on.
func TestConformanceOfARealVault(t *testing.T) {
	for name, value := range testersSettings {
		t.Setenv(name, value)
	}
	kmstest.RunReal(t, "WAXSEAL_TEST_VAULT_KEY", kms.NewRegistry(vaultkms.NewBackend()))
}

func next(t testing.TB, version string) int {
	t.Helper()
	n, err := strconv.Atoi(version)
	if err != nil {
		t.Fatal(err)
	}
	return n + 1
}

// faulty is a proxy in front of a real Vault where things go wrong that the
// server itself cannot be made to do.
type faulty struct {
	*proxy
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
}

func newFaulty(t testing.TB, s *vaulttest.Server) *faulty {
	t.Helper()
	f := new(faulty)
	f.proxy = newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		fault := f.fault.Load()
		if fault != nil {
			(*fault)(w, r)
		}
		return fault != nil
	})
	return f
}

// answering returns a fault where the proxy answers itself.
func (f *faulty) answering(answer http.HandlerFunc) func(testing.TB, kms.Key) func() {
	return func(testing.TB, kms.Key) func() {
		fault := func(w http.ResponseWriter, r *http.Request) { answer(w, r) }
		f.fault.Store(&fault)
		return func() { f.fault.Store(nil) }
	}
}

// altering returns a fault where Vault's answers are changed on the way.
func (f *faulty) altering(alter func(path string, answer map[string]any)) func(testing.TB, kms.Key) func() {
	return func(testing.TB, kms.Key) func() {
		f.setAlter(alter)
		return func() { f.setAlter(nil) }
	}
}

func (f *faulty) faults() map[kmstest.Power]func(t testing.TB, key kms.Key) func() {
	const quota = `request path \"transit/encrypt/k\": rate limit quota exceeded`
	refuseWith := func(status int, message, retryAfter string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			refuse(w, status, message)
		}
	}
	return map[kmstest.Power]func(t testing.TB, key kms.Key) func(){
		kmstest.FaultThrottled:    f.answering(refuseWith(http.StatusTooManyRequests, quota, "")),
		kmstest.FaultThrottledFor: f.answering(refuseWith(http.StatusTooManyRequests, quota, strconv.Itoa(int(kmstest.ThrottledFor.Seconds())))),
		kmstest.FaultServerError:  f.answering(refuseWith(http.StatusInternalServerError, "1 error occurred:\n\t* internal error\n\n", "")),
		kmstest.FaultNotTheKMS: f.answering(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html><title>Please log in</title></html>")
		}),
		kmstest.FaultDown: f.answering(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		}),
		kmstest.FaultReset: f.answering(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"data":{"batch_results":[{"ciphertext":"vault:v1:`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}),
		kmstest.FaultHugeAnswer: f.answering(func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat(" ", 1<<20))
			for range 64 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}),
		kmstest.FaultStall: func(testing.TB, kms.Key) func() {
			over := make(chan struct{})
			heal := f.answering(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-over:
				case <-r.Context().Done():
				}
			})(nil, nil)
			return func() {
				heal()
				close(over)
			}
		},
		kmstest.FaultShortPlaintext: f.altering(func(_ string, answer map[string]any) {
			for _, item := range results(answer) {
				if text, ok := item["plaintext"].(string); ok && text != "" {
					item["plaintext"] = base64.StdEncoding.EncodeToString([]byte(text)[:kms.DataKeySize/2])
				}
			}
		}),
		// Vault has no checksums; what it repeats of the request shows which request it
		// answers.
		kmstest.FaultAnswerDamaged: f.altering(func(_ string, answer map[string]any) {
			items := results(answer)
			for i, item := range items {
				item["reference"] = strconv.Itoa(i + 1)
			}
			if len(items) == 0 {
				answer["data"] = "damaged"
			}
		}),
	}
}
