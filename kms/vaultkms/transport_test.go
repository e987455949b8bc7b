package vaultkms_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// fakeServer answers on command. It stands for what no Vault on this machine can be made to
// do, and never for Vault's answer to a good request.
func fakeServer(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

const someBlob = "vault:v1:AAAA"

// both runs Wrap and Unwrap and hands over the error of each.
func both(t *testing.T, ctx context.Context, key kms.Key, check func(t *testing.T, err error)) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	t.Run("wrap", func(t *testing.T) {
		got, err := key.Wrap(ctx, dataKeys(1), nil)
		if got != nil {
			t.Error("answered")
		}
		check(t, err)
	})
	t.Run("unwrap", func(t *testing.T) {
		got, err := key.Unwrap(ctx, []kms.Wrapped{{Blob: []byte(someBlob)}}, nil)
		if err == nil && len(got) == 1 {
			err = got[0].Err
		}
		check(t, err)
	})
}

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		status     int
		class      kms.Class
		hint       string
	}{
		{"standby without forwarding", `{"initialized":true,"sealed":false,"standby":true}`, 429, kms.Unavailable, "active node"},
		{"quota", `{"errors":["rate limit quota exceeded"]}`, 429, kms.Throttled, "quota"},
		{"disaster recovery secondary", ``, 472, kms.Unavailable, "active node"},
		{"performance standby", ``, 473, kms.Unavailable, "active node"},
		{"index not there yet", `{"errors":["required index state not present"]}`, 412, kms.Unavailable, "active node"},
		{"not initialized", ``, 501, kms.Unavailable, "initialize"},
		{"balancer's page", `<html>Bad Gateway</html>`, 502, kms.Unavailable, "log"},
		{"overloaded", `{"errors":["overloaded, try again later"]}`, 503, kms.Unavailable, "log"},
		{"sealed", `{"errors":["Vault is sealed"]}`, 503, kms.Unavailable, "unseal"},
		{"gateway timeout", `not even JSON`, 504, kms.Unavailable, "log"},
		{"internal error that sounds like a bad item", `{"errors":["cipher: message authentication failed"]}`, 500, kms.Unavailable, "log"},
		{"unauthorized", `{"errors":[]}`, 401, kms.Denied, "policy"},
		{"firewall", `<html>Forbidden</html>`, 403, kms.Unavailable, "proxy in front"},
		{"denied", `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`, 403, kms.Denied, "policy"},
		{"bad token", `{"errors":["permission denied","invalid token"]}`, 403, kms.Denied, "valid token"},
		{"no token", `{"errors":["missing client token"]}`, 400, kms.Denied, "VAULT_TOKEN"},
		{"web server", `<html>Not Found</html>`, 404, kms.Unavailable, "proxy in front"},
		{"no such route", `{"errors":["no handler for route \"transit/encrypt/k\""]}`, 404, kms.NotFound, "vault secrets enable -path=transit"},
		{"not allowed", `{"errors":["1 error occurred:\n\t* unsupported operation\n\n"]}`, 405, kms.NotFound, "vault secrets enable"},
		{"too large", `{"errors":["http: request body too large"]}`, 413, kms.Internal, "max_request_size"},
		{"TLS port", `Client sent an HTTP request to an HTTPS server.`, 400, kms.Unavailable, "https://"},
		{"unknown", `{"errors":["no Vault says this"]}`, 400, kms.Internal, "log"},
		{"teapot", `{}`, 418, kms.Unavailable, "proxy in front"},
		{"gateway that denies in JSON", `{"message":"Forbidden"}`, 403, kms.Unavailable, "proxy in front"},
		{"gateway that wants a login, in JSON", `{"message":"Unauthorized"}`, 401, kms.Unavailable, "proxy in front"},
		{"ingress without a route, in JSON", `{"error":"not found","status":404}`, 404, kms.Unavailable, "proxy in front"},
		{"gateway that takes no such method, in JSON", `{"message":"Method Not Allowed"}`, 405, kms.Unavailable, "proxy in front"},
		{"web server's own errors", `{"errors":[{"code":404}]}`, 404, kms.Unavailable, "proxy in front"},
		{"nothing at all", `null`, 404, kms.Unavailable, "proxy in front"},
		{"balancer takes no more", ``, 429, kms.Throttled, "quota"},
		{"not JSON", `<html>Welcome to nginx</html>`, 200, kms.Unavailable, "proxy in front"},
		{"empty", ``, 200, kms.Internal, "transit engine"},
		{"nothing in it", `{}`, 200, kms.Internal, ""},
		{"no content", ``, 204, kms.Internal, "transit engine"},
		{"too many results", `{"data":{"type":"aes256-gcm96","latest_version":1,"batch_results":[{},{}]}}`, 200, kms.Internal, "transit engine"},
		{"elsewhere without saying where", ``, 307, kms.Unavailable, "active node"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet { // leave the key to the request that counts
					w.WriteHeader(http.StatusOK)
					fmt.Fprint(w, `{"data":{"type":"aes256-gcm96","latest_version":1}}`)
					return
				}
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			})
			key := newKey(t, vaultkms.Config{Address: server.URL})
			both(t, t.Context(), key, func(t *testing.T, err error) {
				wantError(t, err, tc.class, tc.hint)
				var response *vault.ResponseError
				if errors.As(err, &response) && response.StatusCode != tc.status {
					t.Errorf("the cause has status %d", response.StatusCode)
				}
			})
		})
	}
}

// An item may fail for reasons of its own in an answer that is otherwise good.
func TestItemAnswers(t *testing.T) {
	long := strings.Repeat("A", 44)
	for _, tc := range []struct {
		name, item   string
		status       int
		wrap, unwrap kms.Class
	}{
		{"unknown reason", `{"error":"no Vault says this"}`, 400, kms.Internal, kms.Internal},
		{"unknown reason inside Vault", `{"error":"no Vault says this"}`, 500, kms.Unavailable, kms.Unavailable},
		{"plaintext cut short", `{"plaintext":"AAAA","ciphertext":"` + long + `"}`, 200, kms.Internal, kms.Corrupt},
		{"plaintext too long", `{"plaintext":"` + long + `AAAA","ciphertext":"vault:v0:AAAA"}`, 200, kms.Internal, kms.Corrupt},
		{"no base64", `{"plaintext":"!"}`, 200, kms.Unavailable, kms.Unavailable},
		{"null", `null`, 200, kms.Internal, kms.Corrupt},
		{"both", `{"plaintext":"` + long + `","error":"message authentication failed"}`, 200, kms.Corrupt, kms.Corrupt},
		{"blob too large", `{"ciphertext":"vault:v1:` + strings.Repeat("AAAA", 1024) + `"}`, 200, kms.Internal, kms.Corrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					fmt.Fprint(w, `{"data":{"type":"aes256-gcm96","latest_version":1}}`)
					return
				}
				w.WriteHeader(tc.status)
				fmt.Fprintf(w, `{"data":{"batch_results":[%s]}}`, tc.item)
			})
			key := newKey(t, vaultkms.Config{Address: server.URL})
			_, err := key.Wrap(t.Context(), dataKeys(1), nil)
			wantError(t, err, tc.wrap, "")
			wantError(t, unwrapError(t, key, kms.Wrapped{Blob: []byte(someBlob)}, nil), tc.unwrap, "")
		})
	}
}

// stallAt is a place where a server may stop answering.
type stallAt int

const (
	beforeAccept stallAt = iota
	beforeHeaders
	afterHeaders
	midBody
)

func stalledServer(t *testing.T, at stallAt) (address string) {
	t.Helper()
	if at == beforeAccept {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return "http://" + l.Addr().String()
	}
	release := make(chan struct{})
	server := fakeServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if at >= afterHeaders {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusOK)
		}
		if at == midBody {
			fmt.Fprint(w, `{"data":{"type":"aes256-gcm96","latest_version":1,`)
		}
		if at >= afterHeaders {
			w.(http.Flusher).Flush()
		}
		<-release
	})
	t.Cleanup(func() { close(release) }) // runs before the server's own Close, which waits
	return server.URL
}

func TestStalledServer(t *testing.T) {
	for name, at := range map[string]stallAt{
		"before accepting": beforeAccept, "before headers": beforeHeaders, "after headers": afterHeaders, "in the body": midBody,
	} {
		t.Run(name, func(t *testing.T) {
			address := stalledServer(t, at)
			t.Run("caller's deadline", func(t *testing.T) {
				key := newKey(t, vaultkms.Config{Address: address, Timeout: time.Hour})
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				both(t, ctx, key, func(t *testing.T, err error) {
					wantError(t, err, kms.Canceled, "")
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("not the context's error: %v", err)
					}
				})
			})
			t.Run("caller gives up", func(t *testing.T) {
				key := newKey(t, vaultkms.Config{Address: address, Timeout: time.Hour})
				ctx, cancel := context.WithCancel(t.Context())
				defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
				both(t, ctx, key, func(t *testing.T, err error) {
					wantError(t, err, kms.Canceled, "")
					if !errors.Is(err, context.Canceled) {
						t.Errorf("not the context's error: %v", err)
					}
				})
			})
			t.Run("our own timeout", func(t *testing.T) {
				key := newKey(t, vaultkms.Config{Address: address, Timeout: 50 * time.Millisecond})
				both(t, t.Context(), key, func(t *testing.T, err error) {
					wantError(t, err, kms.Unavailable, "VAULT_CLIENT_TIMEOUT")
					if !strings.Contains(err.Error(), "50ms") {
						t.Errorf("does not say how long it waited: %v", err)
					}
				})
			})
			t.Run("timeout of the environment", func(t *testing.T) {
				t.Setenv("VAULT_CLIENT_TIMEOUT", "60ms")
				key := newKey(t, vaultkms.Config{Address: address})
				both(t, t.Context(), key, func(t *testing.T, err error) {
					wantError(t, err, kms.Unavailable, "VAULT_CLIENT_TIMEOUT")
					if !strings.Contains(err.Error(), "60ms") {
						t.Errorf("does not say how long it waited: %v", err)
					}
				})
			})
		})
	}
}

// However large an answer claims to be or is, little of it is read.
func TestOversizedAnswer(t *testing.T) {
	for _, status := range []int{200, 400, 500} {
		for name, handler := range map[string]func(w http.ResponseWriter, sent *atomic.Int64){
			"claims to be large": func(w http.ResponseWriter, _ *atomic.Int64) {
				w.Header().Set("Content-Length", fmt.Sprint(int64(1)<<40))
				w.WriteHeader(status)
			},
			"never ends": func(w http.ResponseWriter, sent *atomic.Int64) {
				w.WriteHeader(status)
				junk := []byte(strings.Repeat(" ", 1<<16))
				for {
					n, err := w.Write(junk)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			},
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				var sent atomic.Int64
				server := fakeServer(t, func(w http.ResponseWriter, _ *http.Request) { handler(w, &sent) })
				key := newKey(t, vaultkms.Config{Address: server.URL})
				both(t, t.Context(), key, func(t *testing.T, err error) {
					wantError(t, err, kms.Unavailable, "proxy in front")
				})
				server.Close() // waits for the handlers
				if got := sent.Load(); got > 32<<20 {
					t.Errorf("%d bytes were taken", got)
				}
			})
		}
	}
}

func TestConnectionLost(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"before headers": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"in the body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"data":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, vaultkms.Config{Address: fakeServer(t, handler).URL})
			both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "VAULT_ADDR") })
		})
	}
}

func TestRedirects(t *testing.T) {
	s := startVault(t, "k")
	// to answers everything with a redirect to what target returns.
	to := func(t *testing.T, target func(r *http.Request) string) *httptest.Server {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", target(r))
			w.WriteHeader(http.StatusTemporaryRedirect)
		}))
		t.Cleanup(server.Close)
		return server
	}
	active := func(r *http.Request) string { return s.Addr + r.URL.Path }

	t.Run("standby names the active node", func(t *testing.T) {
		key := newKey(t, vaultkms.Config{Address: to(t, active).URL})
		plain := dataKeys(3)
		mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
	})
	t.Run("twice", func(t *testing.T) {
		second := to(t, active)
		first := to(t, func(r *http.Request) string { return second.URL + r.URL.Path })
		key := newKey(t, vaultkms.Config{Address: first.URL})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "active node") })
	})
	t.Run("switched off", func(t *testing.T) {
		t.Setenv("VAULT_DISABLE_REDIRECTS", "true")
		key := newKey(t, vaultkms.Config{Address: to(t, active).URL})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "active node") })
	})
	t.Run("to another protocol", func(t *testing.T) {
		key := newKey(t, vaultkms.Config{Address: to(t, func(*http.Request) string { return "ftp://127.0.0.1/" }).URL})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "active node") })
	})
	t.Run("to another machine without TLS", func(t *testing.T) {
		key := newKey(t, vaultkms.Config{Address: to(t, func(*http.Request) string { return "http://vault.invalid/" }).URL})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "https://") })
	})
	t.Run("to a login page", func(t *testing.T) {
		var asked atomic.Int32
		login := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
		t.Cleanup(login.Close)
		host := strings.TrimPrefix(login.URL, "http://")
		for name, target := range map[string]func(*http.Request) string{
			"another path":      func(*http.Request) string { return login.URL + "/login" },
			"the path in query": func(r *http.Request) string { return login.URL + "/login?to=" + r.URL.Path },
			"with a password":   func(r *http.Request) string { return "http://me:secret@" + host + r.URL.Path },
		} {
			key := newKey(t, vaultkms.Config{Address: to(t, target).URL})
			both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "let us through") })
			if asked.Load() != 0 {
				t.Errorf("%s: the token and data keys went there", name)
			}
		}
	})
	t.Run("from TLS to none", func(t *testing.T) {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, active(r), http.StatusTemporaryRedirect)
		}))
		t.Cleanup(server.Close)
		t.Setenv("VAULT_CACERT", writeCA(t, server))
		key := newKey(t, vaultkms.Config{Address: server.URL})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "https://") })
	})
}

func TestOwnRateLimit(t *testing.T) {
	s := startVault(t, "k")
	t.Setenv("VAULT_RATE_LIMIT", "0.001:2")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	mustWrap(t, key, dataKeys(1), nil) // takes both: about the key, and with it
	both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Throttled, "VAULT_RATE_LIMIT") })
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	both(t, ctx, key, func(t *testing.T, err error) { wantError(t, err, kms.Canceled, "") })

	// Where there is room in time the request waits, and its caller may give up.
	t.Setenv("VAULT_RATE_LIMIT", "0.2:2")
	key = newKey(t, vaultkms.Config{Address: s.Addr})
	mustWrap(t, key, dataKeys(1), nil)
	ctx, cancel = context.WithCancel(t.Context())
	defer time.AfterFunc(20*time.Millisecond, cancel).Stop()
	both(t, ctx, key, func(t *testing.T, err error) { wantError(t, err, kms.Canceled, "") })
}

func TestNamespaceIsSent(t *testing.T) {
	s := startVault(t, "k") // an open source Vault takes the header and ignores it
	p := newProxy(t, s, nil)
	for _, tc := range []struct{ env, config, sent, id string }{
		{"", "", "", "hashivault://transit/k"},
		{"", "team-a", "team-a", "hashivault://transit/k?namespace=team-a"},
		{"", "/org/team-a/", "org/team-a", "hashivault://transit/k?namespace=org/team-a"},
		{"team-b", "", "team-b", "hashivault://transit/k?namespace=team-b"},
		{"team-b", "team-a", "team-a", "hashivault://transit/k?namespace=team-a"},
		{"team-b", "root", "", "hashivault://transit/k"},
	} {
		t.Setenv("VAULT_NAMESPACE", tc.env)
		t.Setenv("VAULT_HEADERS", `{"X-Team":"payments"}`)
		key := newKey(t, vaultkms.Config{Address: p.URL, Namespace: tc.config})
		if key.ID() != tc.id {
			t.Errorf("ID %q, want %q", key.ID(), tc.id)
		}
		mustWrap(t, key, dataKeys(1), nil)
		header := p.lastHeader()
		if got := header.Get("X-Vault-Namespace"); got != tc.sent {
			t.Errorf("sent namespace %q, want %q", got, tc.sent)
		}
		if header.Get("X-Team") != "payments" || header.Get("X-Vault-Request") != "true" {
			t.Errorf("headers %v", header)
		}
	}
}

// A login goes to its own namespace, or the key's; renewals and all about the
// token go where the login went. Not tested against Vault Enterprise.
func TestAuthNamespaceIsSent(t *testing.T) {
	s, roleID, secretID := startAppRole(t, map[string]any{"token_ttl": "2s"})
	for _, tc := range []struct{ env, config, key, login string }{
		{"", "", "", ""},
		{"", "", "team-a", "team-a"},
		{"", "org", "org/team-a", "org"},
		{"org", "", "org/team-a", "org"},
		{"org", "root", "team-a", ""},
	} {
		var mu sync.Mutex
		sent := map[string]string{}
		renewed := make(chan struct{})
		var once sync.Once
		p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			sent[r.URL.Path] = r.Header.Get("X-Vault-Namespace")
			if r.URL.Path == "/v1/auth/token/renew-self" {
				once.Do(func() { close(renewed) })
			}
			return false
		})
		t.Setenv(vaultkms.EnvAuthNamespace, tc.env)
		key, err := vaultkms.New(vaultkms.Config{
			Mount: mount, Name: "k", Address: p.URL, Namespace: tc.key,
			Auth: vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID), Namespace: tc.config},
		})
		if err != nil {
			t.Fatal(err)
		}
		works(t, key)
		<-renewed
		if err := key.Close(); err != nil {
			t.Error(err)
		}
		mu.Lock()
		want := map[string]string{
			"/v1/auth/approle/login": tc.login, "/v1/auth/token/renew-self": tc.login,
			"/v1/transit/keys/k": tc.key, "/v1/transit/encrypt/k": tc.key, "/v1/transit/decrypt/k": tc.key,
		}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("%+v: namespaces (-want +got):\n%s", tc, diff)
		}
		mu.Unlock()
	}
}

func TestAgentAddsTheToken(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if _, sent := r.Header["X-Vault-Token"]; sent {
			t.Error("a token was sent")
		}
		r.Header.Set("X-Vault-Token", s.RootToken)
		return false
	})
	t.Setenv("VAULT_AGENT_ADDR", p.URL)
	t.Setenv("VAULT_ADDR", "https://vault.invalid")
	key, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	plain := dataKeys(1)
	mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
}

func TestUnixSocket(t *testing.T) {
	s := startVault(t, "k")
	dir, err := os.MkdirTemp("", "v") //nolint:usetesting // t.TempDir may be too long a path for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := newUnstartedProxy(t, s, nil)
	p.Listener.Close()
	p.Listener = l
	p.Start()
	t.Cleanup(p.Close)
	key := newKey(t, vaultkms.Config{Address: "unix://" + socket})
	plain := dataKeys(1)
	mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
}
