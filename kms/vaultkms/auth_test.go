package vaultkms_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

const workerPolicy = `
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/keys/*" { capabilities = ["read"] }
`

// startAppRole starts a server with a key and a role that may use it.
func startAppRole(t testing.TB, params map[string]any) (s *vaulttest.Server, roleID, secretID string) {
	t.Helper()
	s = startVault(t, "k")
	s.WritePolicy(t, "worker", workerPolicy)
	s.EnableAuth(t, "approle", "approle")
	all := map[string]any{"token_policies": "worker"}
	maps.Copy(all, params)
	roleID, secretID = s.AppRole(t, "approle", "worker", all)
	return s, roleID, secretID
}

// authKey opens the key "k" as auth says.
func authKey(t testing.TB, address string, auth vaultkms.Auth) *vaultkms.Key {
	t.Helper()
	key, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "k", Address: address, Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = key.Close() })
	return key
}

// works sees that key wraps and unwraps.
func works(t testing.TB, key kms.Key) {
	t.Helper()
	plain := dataKeys(1)
	mustUnwrap(t, key, mustWrap(t, key, plain, kms.Context{"n": "v"}), kms.Context{"n": "v"}, plain)
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	// As a Vault agent does it: the file is never half written.
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// tokens collects which tokens a proxy saw, and how many logins.
type tokens struct {
	mu     sync.Mutex
	seen   map[string]int
	logins int
}

func (c *tokens) watch(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/login") {
		c.logins++
	} else if strings.HasPrefix(r.URL.Path, "/v1/transit/") {
		if c.seen == nil {
			c.seen = make(map[string]int)
		}
		c.seen[r.Header.Get("X-Vault-Token")]++
	}
	return false
}

func (c *tokens) counts() (different, logins int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen), c.logins
}

// A token of two seconds that lives five at most: a worker does not notice.
func TestAppRoleAcrossExpiry(t *testing.T) {
	t.Parallel()
	s, roleID, secretID := startAppRole(t, map[string]any{"token_ttl": "2s", "token_max_ttl": "5s"})
	var seen tokens
	p := newProxy(t, s, seen.watch)
	key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID)})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	plain := dataKeys(1)
	first := mustWrap(t, key, plain, nil)
	for start := time.Now(); ; <-tick.C {
		works(t, key)
		mustUnwrap(t, key, first, nil, plain)
		if different, _ := seen.counts(); different >= 3 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal("the token never changed")
		}
	}
	p.mu.Lock()
	renewals := p.aboutTokens["POST /v1/auth/token/renew-self"]
	p.mu.Unlock()
	if different, logins := seen.counts(); logins > different || renewals == 0 {
		t.Errorf("%d logins for %d tokens, %d renewals", logins, different, renewals)
	}
}

// A token that is revoked under load costs one login, and no error.
func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	s, roleID, secretID := startAppRole(t, nil)
	var seen tokens
	var last atomic.Value
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		last.Store(r.Header.Get("X-Vault-Token"))
		return seen.watch(w, r, body)
	})
	key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID)})
	works(t, key)
	s.Revoke(t, last.Load().(string))
	plain := dataKeys(1)
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			if _, err := key.Wrap(t.Context(), plain, nil); err != nil {
				t.Errorf("Wrap: %v", err)
			}
		})
	}
	callers.Wait()
	if different, logins := seen.counts(); different != 2 || logins != 2 {
		t.Errorf("%d logins, %d tokens", logins, different)
	}
}

// What a policy forbids is no reason to log in again and again.
func TestPolicyCausesNoLogin(t *testing.T) {
	s, roleID, secretID := startAppRole(t, map[string]any{"token_policies": "default"})
	var seen tokens
	p := newProxy(t, s, seen.watch)
	key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID)})
	for range 10 {
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Denied, "grants update on transit/encrypt/k")
	}
	if _, logins := seen.counts(); logins != 1 {
		t.Errorf("%d logins", logins)
	}
}

func TestAppRoleSecretIDs(t *testing.T) {
	s, roleID, secretID := startAppRole(t, map[string]any{"token_ttl": "1h"})
	const secretIDPath = "auth/approle/role/worker/secret-id"
	file := filepath.Join(t.TempDir(), "secret-id")

	t.Run("in a file that changes", func(t *testing.T) {
		var last atomic.Value
		p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			last.Store(r.Header.Get("X-Vault-Token"))
			return false
		})
		writeFile(t, file, secretID+"\n")
		key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretIDFile: file})
		works(t, key)
		s.Do(t, http.MethodPost, secretIDPath+"/destroy", map[string]any{"secret_id": secretID})
		secretID = s.SecretID(t, "approle", "worker")
		writeFile(t, file, secretID+"\n")
		s.Revoke(t, last.Load().(string))
		works(t, key)
	})
	t.Run("wrapped", func(t *testing.T) {
		var last atomic.Value
		p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			last.Store(r.Header.Get("X-Vault-Token"))
			return false
		})
		wrapped := s.Wrapped(t, http.MethodPost, secretIDPath)
		key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(wrapped), SecretIDWrapped: true})
		works(t, key)
		s.Revoke(t, last.Load().(string))
		works(t, key) // it is unwrapped once and kept
		other := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(wrapped), SecretIDWrapped: true})
		_, err := other.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Denied, "another program has unwrapped this one")
	})
	t.Run("wrapped in a file, by the environment", func(t *testing.T) {
		writeFile(t, file, s.Wrapped(t, http.MethodPost, secretIDPath)+"\n")
		t.Setenv("VAULT_ADDR", s.Addr)
		t.Setenv(vaultkms.EnvAuthMethod, "approle")
		t.Setenv(vaultkms.EnvRoleID, roleID)
		t.Setenv(vaultkms.EnvSecretIDFile, file)
		t.Setenv(vaultkms.EnvSecretIDWrapped, "true")
		works(t, authKey(t, "", vaultkms.Auth{}))
	})
	t.Run("wrapped by another program", func(t *testing.T) {
		s.EnableAuth(t, "theirs", "approle")
		s.AppRole(t, "theirs", "worker", nil)
		for _, path := range []string{"auth/theirs/role/worker/secret-id", "auth/token/create"} {
			wrapped := s.Wrapped(t, http.MethodPost, path)
			key := authKey(t, s.Addr, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(wrapped), SecretIDWrapped: true})
			_, err := key.Wrap(t.Context(), dataKeys(1), nil)
			wantError(t, err, kms.Denied, "find out where it comes from")
			s.Do(t, http.MethodPost, "sys/wrapping/lookup", map[string]any{"token": wrapped}) // it was not used up
		}
	})
	t.Run("what is unwrapped is none", func(t *testing.T) {
		wrapped := s.Wrapped(t, http.MethodPost, secretIDPath)
		p := newProxy(t, s, nil)
		p.setAlter(func(path string, answer map[string]any) {
			if path == "/v1/sys/wrapping/unwrap" {
				answer["data"] = map[string]any{"else": 1}
			}
		})
		key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(wrapped), SecretIDWrapped: true})
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Unavailable, "is Vault's")
	})
	t.Run("Vault goes down between looking and unwrapping", func(t *testing.T) {
		wrapped := s.Wrapped(t, http.MethodPost, secretIDPath)
		p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			return r.URL.Path == "/v1/sys/wrapping/unwrap" && refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
		})
		key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(wrapped), SecretIDWrapped: true})
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Unavailable, "unseal Vault")
	})
	t.Run("none is demanded", func(t *testing.T) {
		open, _ := s.AppRole(t, "approle", "open", map[string]any{"token_policies": "worker"})
		s.Do(t, http.MethodPost, "auth/approle/role/open", map[string]any{"bind_secret_id": false, "token_bound_cidrs": "127.0.0.0/8"})
		works(t, authKey(t, s.Addr, vaultkms.Auth{RoleID: open}))
	})
}

func TestLoginIsRefused(t *testing.T) {
	s, roleID, secretID := startAppRole(t, nil)
	missing := filepath.Join(t.TempDir(), "none")
	empty := filepath.Join(t.TempDir(), "empty")
	writeFile(t, empty, "\n")
	words := filepath.Join(t.TempDir(), "words")
	writeFile(t, words, "two words")
	for _, tc := range []struct {
		name  string
		auth  vaultkms.Auth
		class kms.Class
		hint  string
	}{
		{"wrong secret ID", vaultkms.Auth{RoleID: roleID, SecretID: "wrong"}, kms.Denied, "secret ID"},
		{"no secret ID", vaultkms.Auth{RoleID: roleID}, kms.Denied, "secret ID"},
		{"wrong role ID", vaultkms.Auth{RoleID: "wrong", SecretID: vaultkms.Token(secretID)}, kms.Denied, "role ID"},
		{"no such mount", vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID), Mount: "none"}, kms.Denied, ""},
		{"another engine", vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID), Mount: "token"}, kms.Denied, ""},
		{"wrong wrapping token", vaultkms.Auth{RoleID: roleID, SecretID: "hvs.wrong", SecretIDWrapped: true}, kms.Denied, "wrap a new secret ID"},
		{"file is missing", vaultkms.Auth{RoleID: roleID, SecretIDFile: missing}, kms.Unavailable, "the file is there"},
		{"file is empty", vaultkms.Auth{RoleID: roleID, SecretIDFile: empty}, kms.Unavailable, "the file is there"},
		{"file holds words", vaultkms.Auth{RoleID: roleID, SecretIDFile: words}, kms.Unavailable, "nothing else"},
		{"file cannot be", vaultkms.Auth{RoleID: roleID, SecretIDFile: filepath.Join(words, "below")}, kms.Unavailable, "readable"},
		{"file is a folder", vaultkms.Auth{RoleID: roleID, SecretIDFile: t.TempDir()}, kms.Unavailable, "readable"},
		{"token's file is missing", vaultkms.Auth{TokenFile: missing}, kms.Unavailable, "the file is there"},
		{"no JWT", vaultkms.Auth{Method: vaultkms.AuthKubernetes, Role: "worker", JWTFile: missing}, kms.Unavailable, "the file is there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := authKey(t, s.Addr, tc.auth)
			both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, tc.class, tc.hint) })
		})
	}
	good := vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID)}
	t.Run("sealed", func(t *testing.T) {
		key := authKey(t, s.Addr, good)
		s.Seal(t)
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "unseal Vault") })
	})
	t.Run("down", func(t *testing.T) {
		key := authKey(t, s.Addr, good)
		s.Stop()
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "VAULT_ADDR") })
	})
}

// A token that Vault gives and then does not take, for another namespace's say.
func TestLoginsTokenIsNotTaken(t *testing.T) {
	s, roleID, secretID := startAppRole(t, nil)
	var seen tokens
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		seen.watch(w, r, body)
		return strings.HasPrefix(r.URL.Path, "/v1/transit/") && refuse(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
	})
	key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID)})
	for range 20 {
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Denied, "auth namespace")
	}
	if _, logins := seen.counts(); logins != 1 {
		t.Errorf("%d logins", logins)
	}
}

// Ten callers, and then a thousand more: the endpoint gets one request.
func TestBurstDoesNotHammerTheLogin(t *testing.T) {
	s, roleID, _ := startAppRole(t, nil)
	var seen tokens
	p := newProxy(t, s, seen.watch)
	key := authKey(t, p.URL, vaultkms.Auth{RoleID: roleID, SecretID: "wrong"})
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			for range 100 {
				if _, err := key.Wrap(t.Context(), dataKeys(1), nil); kms.ClassOf(err) != kms.Denied {
					t.Errorf("%v", err)
				}
			}
		})
	}
	callers.Wait()
	if _, logins := seen.counts(); logins != 1 {
		t.Errorf("%d logins", logins)
	}
}

func TestLoginIsThrottled(t *testing.T) {
	s, roleID, secretID := startAppRole(t, nil)
	s.Do(t, http.MethodPost, "sys/quotas/rate-limit/logins", map[string]any{"path": "auth/approle/", "rate": 1, "interval": "1h"})
	auth := vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID)}
	for range 10 {
		key := authKey(t, s.Addr, auth)
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		if err == nil {
			continue
		}
		wantError(t, err, kms.Throttled, "rate limit quota")
		return
	}
	t.Error("the quota never bit")
}

// A Vault agent writes another token into its sink; readers of the sink follow, at once if
// the old one is refused.
func TestTokenFile(t *testing.T) {
	s := startVault(t, "k")
	s.WritePolicy(t, "worker", workerPolicy)
	file := filepath.Join(t.TempDir(), "sink")
	first, second := s.Token(t, "worker"), s.Token(t, "worker")
	writeFile(t, file, first+"\n")
	var last atomic.Value
	p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		last.Store(r.Header.Get("X-Vault-Token"))
		return false
	})
	t.Setenv(vaultkms.EnvTokenFile, file)
	key := authKey(t, p.URL, vaultkms.Auth{})
	works(t, key)
	if last.Load() != first {
		t.Error("not the token of the file")
	}
	writeFile(t, file, second)
	s.Revoke(t, first)
	works(t, key)
	if last.Load() != second {
		t.Error("not the new token of the file")
	}
	third := s.Token(t, "worker")
	writeFile(t, file, third)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for last.Load() != third { // without any error to go by
		works(t, key)
		<-tick.C
	}
	// A file that is gone, or the same as before, is no reason to stop.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	works(t, key)
	s.Revoke(t, third)
	_, err := key.Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Denied, "valid token")
}

// A token that was given to us and can be renewed is, in time.
func TestGivenTokenIsRenewedInVault(t *testing.T) {
	t.Parallel()
	s := startVault(t, "k")
	s.WritePolicy(t, "worker", workerPolicy)
	token := s.TokenWith(t, map[string]any{"policies": []string{"worker"}, "ttl": "2s", "renewable": true})
	p := newProxy(t, s, nil)
	key := authKey(t, p.URL, vaultkms.Auth{Token: vaultkms.Token(token)})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < 4*time.Second; <-tick.C { // twice its time
		works(t, key)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.aboutTokens["GET /v1/auth/token/lookup-self"] != 1 || p.aboutTokens["POST /v1/auth/token/renew-self"] < 2 {
		t.Errorf("requests about the token: %v", p.aboutTokens)
	}
}

func TestKeysShareOneLogin(t *testing.T) {
	s, roleID, secretID := startAppRole(t, nil)
	for i := range 50 {
		s.CreateKey(t, mount, fmt.Sprint("tenant-", i), nil)
	}
	var seen tokens
	p := newProxy(t, s, seen.watch)
	t.Setenv("VAULT_ADDR", p.URL)
	t.Setenv(vaultkms.EnvRoleID, roleID)
	t.Setenv(vaultkms.EnvSecretID, secretID)
	backend := vaultkms.NewBackend()
	registry := kms.NewRegistry(backend)
	var keys []kms.Key
	for i := range 50 {
		key, err := registry.Open(t.Context(), fmt.Sprint("hashivault://transit/tenant-", i))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	var callers sync.WaitGroup
	for _, key := range keys {
		callers.Go(func() {
			if _, err := key.Wrap(t.Context(), dataKeys(1), nil); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if different, logins := seen.counts(); different != 1 || logins != 1 {
		t.Errorf("%d logins, %d tokens for 50 keys", logins, different)
	}
	for _, key := range keys[1:] {
		if err := key.(kms.Closer).Close(); err != nil {
			t.Error(err)
		}
		if err := key.(kms.Closer).Close(); err != nil { // once is enough
			t.Error(err)
		}
	}
	works(t, keys[0]) // the others' closing does not concern it
	if err := keys[0].(kms.Closer).Close(); err != nil {
		t.Error(err)
	}
	_, err := keys[0].Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Internal, "after closing it")

	// Another login, another session; and a new one after all were closed.
	again, err := registry.Open(t.Context(), "hashivault://transit/tenant-0")
	if err != nil {
		t.Fatal(err)
	}
	root, err := registry.Open(t.Context(), "hashivault://transit/tenant-1?auth=approle&role=wrong")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = again.(kms.Closer).Close(), root.(kms.Closer).Close() })
	works(t, again)
	_, err = root.Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Denied, "role ID")
	if text := fmt.Sprintf("%v %+v %#v", backend, backend, backend); strings.Contains(text, secretID) {
		t.Errorf("the secret ID is in %s", text)
	}
}

func TestBadAuth(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  map[string]string
		cfg  vaultkms.Auth
		says string
	}{
		{"unknown method", map[string]string{vaultkms.EnvAuthMethod: "ldap"}, vaultkms.Auth{}, "none that we know"},
		{"no role ID", map[string]string{vaultkms.EnvAuthMethod: "approle"}, vaultkms.Auth{}, "no role ID"},
		{"two secret IDs", nil, vaultkms.Auth{RoleID: "r", SecretID: "s", SecretIDFile: "f"}, "both a secret ID and a file"},
		{"nothing wrapped", nil, vaultkms.Auth{RoleID: "r", SecretIDWrapped: true}, "no wrapped secret ID"},
		{"secret ID with line break", nil, vaultkms.Auth{RoleID: "r", SecretID: "hush\n"}, "the secret ID holds"},
		{"wrapped or not", map[string]string{vaultkms.EnvSecretIDWrapped: "hush-yes"}, vaultkms.Auth{RoleID: "r"}, "neither true nor false"},
		{"no role", map[string]string{vaultkms.EnvAuthMethod: "kubernetes"}, vaultkms.Auth{}, "no role to log in as"},
		{"two tokens", nil, vaultkms.Auth{Token: "hush", TokenFile: "f"}, "both a token and a file"},
		{"token for AppRole", nil, vaultkms.Auth{Method: vaultkms.AuthAppRole, RoleID: "r", Token: "hush"}, "token does not belong"},
		{"secret ID for Kubernetes", nil, vaultkms.Auth{Method: vaultkms.AuthKubernetes, Role: "r", SecretID: "hush"}, "secret ID does not belong"},
		{"role for a token", nil, vaultkms.Auth{Token: "hush", Role: "r"}, "JWT file does not belong"},
		{"bad mount", map[string]string{vaultkms.EnvAuthMount: "../x"}, vaultkms.Auth{RoleID: "r"}, "mount of the login"},
		{"bad namespace", map[string]string{vaultkms.EnvAuthNamespace: "a b"}, vaultkms.Auth{RoleID: "r"}, "namespace to log in to"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			_, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "k", Auth: tc.cfg})
			wantError(t, err, kms.Invalid, "")
			if err != nil && (!strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush")) {
				t.Errorf("%q does not say %q, or quotes a secret", err, tc.says)
			}
		})
	}
}

// What answers a login and is no Vault has not refused it.
func TestLoginIsAnsweredByAStranger(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		status     int
		class      kms.Class
		hint       string
	}{
		{"portal", `{"login":"https://portal.example"}`, 200, kms.Unavailable, "proxy in front"},
		{"token that is none", `{"auth":{"client_token":"two words"}}`, 200, kms.Unavailable, "proxy in front"},
		{"gateway", `{"message":"Forbidden"}`, 403, kms.Unavailable, "proxy in front"},
		{"gateway that wants a login", `{"message":"Unauthorized"}`, 401, kms.Unavailable, "proxy in front"},
		{"gateway that finds fault", `{"message":"Bad Request"}`, 400, kms.Unavailable, "proxy in front"},
		{"ingress", `{"status":404}`, 404, kms.Unavailable, "proxy in front"},
		{"Vault", `{"errors":["invalid role or secret ID"]}`, 400, kms.Denied, "secret ID"},
		{"Vault that wants a second factor", `{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"x"}}}`, 200, kms.Denied, "multi-factor"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := fakeServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			})
			for name, auth := range map[string]vaultkms.Auth{
				"plain":   {RoleID: "r", SecretID: "s"},
				"wrapped": {RoleID: "r", SecretID: "s", SecretIDWrapped: true},
			} {
				if name == "wrapped" && tc.class == kms.Denied {
					continue
				}
				t.Run(name, func(t *testing.T) {
					both(t, t.Context(), authKey(t, server.URL, auth), func(t *testing.T, err error) { wantError(t, err, tc.class, tc.hint) })
				})
			}
		})
	}
}
