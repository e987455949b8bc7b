package vaultkms_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// The policies a token may have, by what they let it do.
var policies = map[string]string{
	"read":       `path "transit/keys/*" { capabilities = ["read"] }`,
	"encrypt":    `path "transit/encrypt/*" { capabilities = ["update"] }`,
	"decrypt":    `path "transit/decrypt/*" { capabilities = ["update"] }`,
	"may-create": `path "transit/encrypt/*" { capabilities = ["create", "update"] }`,
}

func tokenFor(t testing.TB, s *vaulttest.Server, names ...string) vaultkms.Token {
	t.Helper()
	for _, name := range names {
		s.WritePolicy(t, name, policies[name])
	}
	return vaultkms.Token(s.Token(t, names...))
}

func TestPoliciesDeny(t *testing.T) {
	s := startVault(t, "k")
	ok := mustWrap(t, newKey(t, vaultkms.Config{Address: s.Addr}), dataKeys(1), nil)[0]
	for _, tc := range []struct {
		policies     []string
		wrap, unwrap bool
	}{
		{[]string{"encrypt"}, true, false},
		{[]string{"read", "encrypt"}, true, false},
		{[]string{"decrypt"}, false, true},
		{[]string{"read", "decrypt"}, false, true},
		{[]string{"read"}, false, false},
		{[]string{"encrypt", "decrypt"}, true, true},
	} {
		t.Run(fmt.Sprint(tc.policies), func(t *testing.T) {
			key := newKey(t, vaultkms.Config{Address: s.Addr, Token: tokenFor(t, s, tc.policies...)})
			_, err := key.Wrap(t.Context(), dataKeys(1), nil)
			if !tc.wrap {
				wantError(t, err, kms.Denied, "grants update on transit/encrypt/k")
			} else if err != nil {
				t.Errorf("Wrap: %v", err)
			}
			err = unwrapError(t, key, ok, nil)
			if !tc.unwrap {
				wantError(t, err, kms.Denied, "grants update on transit/decrypt/k")
			} else if err != nil {
				t.Errorf("Unwrap: %v", err)
			}
		})
	}
}

func TestBadToken(t *testing.T) {
	s := startVault(t, "k")
	working := newKey(t, vaultkms.Config{Address: s.Addr})
	ok := mustWrap(t, working, dataKeys(1), nil)[0]
	revoked := s.Token(t)
	s.Do(t, http.MethodPost, "auth/token/revoke", map[string]any{"token": revoked})
	for name, token := range map[string]string{"mistyped": "hvs.not-a-token", "revoked": revoked} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, vaultkms.Config{Address: s.Addr, Token: vaultkms.Token(token)})
			_, err := key.Wrap(t.Context(), dataKeys(1), nil)
			wantError(t, err, kms.Denied, "VAULT_TOKEN to a valid token")
			wantError(t, unwrapError(t, key, ok, nil), kms.Denied, "VAULT_TOKEN to a valid token")
		})
	}
}

func TestSealed(t *testing.T) {
	s := startVault(t, "k")
	key, fresh := newKey(t, vaultkms.Config{Address: s.Addr}), newKey(t, vaultkms.Config{Address: s.Addr})
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	s.Seal(t)
	for _, k := range []*vaultkms.Key{key, fresh} {
		_, err := k.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Unavailable, "unseal Vault")
		wantError(t, unwrapError(t, k, w, nil), kms.Unavailable, "unseal Vault")
	}
}

func TestServerDown(t *testing.T) {
	s := startVault(t, "k")
	key, fresh := newKey(t, vaultkms.Config{Address: s.Addr}), newKey(t, vaultkms.Config{Address: s.Addr})
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	s.Stop()
	for _, k := range []*vaultkms.Key{key, fresh} {
		_, err := k.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Unavailable, "VAULT_ADDR")
		wantError(t, unwrapError(t, k, w, nil), kms.Unavailable, "VAULT_ADDR")
	}
}

func TestMinDecryptionVersion(t *testing.T) {
	s := startVault(t, "k")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	plain := dataKeys(2)
	old := mustWrap(t, key, plain[:1], nil)[0]
	s.RotateKey(t, mount, "k")
	current := mustWrap(t, key, plain[1:], nil)[0]
	s.ConfigureKey(t, mount, "k", map[string]any{"min_decryption_version": 2})

	wantError(t, unwrapError(t, key, old, nil), kms.Disabled, "transit/keys/k/config")
	got, err := key.Unwrap(t.Context(), []kms.Wrapped{old, current}, nil)
	if err != nil || kms.ClassOf(got[0].Err) != kms.Disabled || got[1].Err != nil {
		t.Errorf("both in one batch: %v, %v", got, err)
	}
	s.ConfigureKey(t, mount, "k", map[string]any{"min_decryption_version": 1})
	mustUnwrap(t, key, []kms.Wrapped{old, current}, nil, plain)
}

// A key that is gone is not found; it is never made again, even with the right to do so.
func TestDeletedKey(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		policies []string
		wrap     kms.Class
	}{
		{nil, kms.NotFound}, // root
		{[]string{"read", "encrypt", "decrypt"}, kms.NotFound},
		{[]string{"may-create", "decrypt"}, kms.NotFound},
		{[]string{"read", "may-create", "decrypt"}, kms.NotFound},
		{[]string{"encrypt", "decrypt"}, kms.Denied}, // all that Vault reports
	} {
		t.Run(fmt.Sprint(tc.policies), func(t *testing.T) {
			s := startVault(t, "k")
			token := vaultkms.Token(vaulttest.RootToken)
			if tc.policies != nil {
				token = tokenFor(t, s, tc.policies...)
			}
			used := newKey(t, vaultkms.Config{Address: s.Addr, Token: token})
			w := mustWrap(t, used, dataKeys(1), kms.Context{"n": "v"})[0]
			fresh := newKey(t, vaultkms.Config{Address: s.Addr, Token: token})
			s.DeleteKey(t, mount, "k")
			for _, key := range []*vaultkms.Key{used, fresh} {
				_, err := key.Wrap(t.Context(), dataKeys(1), nil)
				hint := ""
				if tc.wrap == kms.NotFound {
					hint = "vault write -f transit/keys/k"
				}
				wantError(t, err, tc.wrap, hint)
				wantError(t, unwrapError(t, key, w, kms.Context{"n": "v"}), kms.NotFound, "restore it from a backup")
			}
			if s.HasKey(t, mount, "k") {
				t.Fatal("the key was made again")
			}
			// Another key of that name opens nothing of the old one's.
			s.CreateKey(t, mount, "k", nil)
			mustWrap(t, used, dataKeys(1), nil)
			wantError(t, unwrapError(t, used, w, kms.Context{"n": "v"}), kms.Corrupt, "")
		})
	}
}

func TestWrongKeyType(t *testing.T) {
	s := startVault(t)
	for _, tc := range []struct {
		name   string
		params map[string]any
		hint   string
		blind  bool // refused also where the key cannot be read
	}{
		{"rsa-2048", map[string]any{"type": "rsa-2048"}, "type=aes256-gcm96", true},
		{"ed25519", map[string]any{"type": "ed25519"}, "type=aes256-gcm96", true},
		{"hmac", map[string]any{"type": "hmac", "key_size": 32}, "type=aes256-gcm96", true},
		{"aes128-gcm96", map[string]any{"type": "aes128-gcm96"}, "type=aes256-gcm96", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.CreateKey(t, mount, tc.name, tc.params)
			key := newKey(t, vaultkms.Config{Name: tc.name, Address: s.Addr})
			blind := newKey(t, vaultkms.Config{Name: tc.name, Address: s.Addr, Token: tokenFor(t, s, "encrypt", "decrypt")})
			for _, ec := range []kms.Context{nil, {"namespace": "n"}} {
				got, err := key.Wrap(t.Context(), dataKeys(1), ec)
				wantError(t, err, kms.Invalid, tc.hint)
				if got != nil {
					t.Error("Wrap answered")
				}
				_, err = blind.Wrap(t.Context(), dataKeys(1), ec)
				if tc.blind {
					wantError(t, err, kms.Invalid, tc.hint)
				} else if err != nil {
					t.Errorf("without reading the key: %v", err)
				}
			}
		})
	}
	t.Run("unwrap", func(t *testing.T) {
		s.CreateKey(t, mount, "k", nil)
		w := mustWrap(t, newKey(t, vaultkms.Config{Address: s.Addr}), dataKeys(1), kms.Context{"n": "v"})[0]
		key := newKey(t, vaultkms.Config{Name: "rsa-2048", Address: s.Addr})
		wantError(t, unwrapError(t, key, w, kms.Context{"n": "v"}), kms.Invalid, "type=aes256-gcm96")
	})
}

// A key-value engine would store what is sent to it. Data keys never get that far.
func TestMountIsNotTransit(t *testing.T) {
	s := startVault(t)
	s.Do(t, http.MethodPost, "sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "1"}})
	s.WritePolicy(t, "kv-writer", `path "kv/encrypt/*" { capabilities = ["create", "update"] }`)
	s.Do(t, http.MethodPost, "kv/keys/decoy", map[string]any{"some": "secret"})
	s.Do(t, http.MethodPost, "kv/keys/lookalike", map[string]any{"type": "aes256-gcm96"})
	for _, tc := range []struct {
		name  string
		cfg   vaultkms.Config
		class kms.Class
	}{
		{"no mount", vaultkms.Config{Mount: "none"}, kms.NotFound},
		{"key-value 2", vaultkms.Config{Mount: "secret"}, kms.NotFound},
		{"key-value 1", vaultkms.Config{Mount: "kv"}, kms.NotFound},
		{"key-value 1 with a secret where the key would be", vaultkms.Config{Mount: "kv", Name: "decoy"}, kms.NotFound},
		{"key-value 1 with a secret that looks like a key", vaultkms.Config{Mount: "kv", Name: "lookalike"}, kms.NotFound},
		{"key-value 1 that takes all", vaultkms.Config{Mount: "kv", Token: vaultkms.Token(s.Token(t, "kv-writer"))}, kms.Internal},
		{"cubbyhole", vaultkms.Config{Mount: "cubbyhole"}, kms.NotFound},
		{"system", vaultkms.Config{Mount: "sys"}, kms.NotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Address = s.Addr
			p := newProxy(t, s, func(_ http.ResponseWriter, _ *http.Request, body []byte) bool {
				if containsDataKey(body) {
					t.Error("a data key was sent")
				}
				return false
			})
			tc.cfg.Address = p.URL
			_, err := newKey(t, tc.cfg).Wrap(t.Context(), [][]byte{markedDataKey()}, nil)
			wantError(t, err, tc.class, "")
		})
	}
}

func TestQuota(t *testing.T) {
	s := startVault(t, "k")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	s.Do(t, http.MethodPost, "sys/quotas/config", map[string]any{"enable_rate_limit_response_headers": true})
	s.Do(t, http.MethodPost, "sys/quotas/rate-limit/transit", map[string]any{"path": "transit/", "rate": 1, "interval": "1h"})
	wantEventually := func(call func() error) {
		t.Helper()
		for range 10 {
			if err := call(); err != nil {
				wantError(t, err, kms.Throttled, "rate limit quota")
				var e *kms.Error
				if errors.As(err, &e) && (e.RetryAfter <= 0 || e.RetryAfter > time.Hour) {
					t.Errorf("to be left alone for %v", e.RetryAfter)
				}
				return
			}
		}
		t.Error("the quota never bit")
	}
	wantEventually(func() error { return unwrapError(t, key, w, nil) })
	wantEventually(func() error { _, err := key.Wrap(t.Context(), dataKeys(1), nil); return err })
}

func TestCanceledBeforeAsking(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, nil)
	key := newKey(t, vaultkms.Config{Address: p.URL})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := key.Wrap(ctx, nil, nil); got != nil || kms.ClassOf(err) != kms.Canceled {
		t.Errorf("Wrap: %v", err)
	}
	if got, err := key.Unwrap(ctx, nil, nil); got != nil || kms.ClassOf(err) != kms.Canceled {
		t.Errorf("Unwrap: %v", err)
	}
	if got := p.take(); len(got) != 0 {
		t.Errorf("requests: %v", got)
	}
}
