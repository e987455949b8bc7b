package vaultkms_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

func TestOpenURI(t *testing.T) {
	t.Setenv("VAULT_TOKEN", markedToken)
	registry := kms.NewRegistry(vaultkms.Backend)
	for _, tc := range []struct{ uri, id string }{
		{"hashivault://transit/payments", "hashivault://transit/payments"},
		{"hashivault://team-a/sub.mount/transit/Key_1.b-c", "hashivault://team-a/sub.mount/transit/Key_1.b-c"},
		{"hashivault://Transit/Payments", "hashivault://Transit/Payments"},
		{"hashivault://transit/payments?namespace=org/team-a", "hashivault://transit/payments?namespace=org/team-a"},
		{"hashivault://transit/payments?namespace=org%2Fteam-a", "hashivault://transit/payments?namespace=org/team-a"},
		{"hashivault://transit/payments?namespace=root", "hashivault://transit/payments"},
		{"hashivault://transit/payments?address=https://vault.example.com:8200/prefix", "hashivault://transit/payments"},
		{"hashivault://transit/payments?address=http://localhost:8200", "hashivault://transit/payments"},
		{"hashivault://transit/payments?address=http://[::1]:8200&insecure-plain-http=false", "hashivault://transit/payments"},
		{"hashivault://transit/payments?address=http://vault:8200&insecure-plain-http=true", "hashivault://transit/payments"},
	} {
		key, err := registry.Open(t.Context(), tc.uri)
		if err != nil {
			t.Errorf("%s: %v", tc.uri, err)
			continue
		}
		if key.ID() != tc.id {
			t.Errorf("%s: ID %q, want %q", tc.uri, key.ID(), tc.id)
		}
		if !registry.MayRecord(tc.uri, tc.id) || registry.MayRecord(tc.uri, tc.id+"x") {
			t.Errorf("%s: MayRecord does not know its ID", tc.uri)
		}
		again, err := registry.Open(t.Context(), key.ID())
		if err != nil || again.ID() != key.ID() {
			t.Errorf("the ID %q does not open the same key: %v", key.ID(), err)
		}
	}
}

// The ID has no address: the locations distinguish keys of two clusters.
func TestLocation(t *testing.T) {
	t.Setenv("VAULT_TOKEN", markedToken)
	t.Setenv("VAULT_ADDR", "https://one.example.com:8200/")
	for _, backend := range []kms.Backend{vaultkms.Backend, vaultkms.NewBackend()} {
		for uri, want := range map[string]string{
			"hashivault://transit/k": "https://one.example.com:8200",
			"hashivault://transit/k?address=https://one.example.com:8200":  "https://one.example.com:8200",
			"hashivault://transit/k?address=https://two.example.com:8200":  "https://two.example.com:8200",
			"hashivault://transit/k?derived=true&address=http://localhost": "http://localhost",
		} {
			key, err := kms.NewRegistry(backend).Open(t.Context(), uri)
			if err != nil {
				t.Fatal(err)
			}
			if at, ok := kms.As[kms.Locator](key); !ok || at.Location() != want {
				t.Errorf("%s is not at %s", uri, want)
			}
		}
	}
	t.Setenv("VAULT_NAMESPACE", "team-a/")
	for _, registry := range []*kms.Registry{kms.NewRegistry(vaultkms.Backend), kms.NewRegistry(vaultkms.NewBackend())} {
		if !registry.MayRecord("hashivault://transit/k", "hashivault://transit/k?namespace=team-a") || registry.MayRecord("hashivault://transit/k", "hashivault://transit/k") {
			t.Error("MayRecord does not know VAULT_NAMESPACE")
		}
	}
}

func TestOpenBadURI(t *testing.T) {
	t.Setenv("VAULT_TOKEN", markedToken)
	registry := kms.NewRegistry(vaultkms.Backend)
	for _, tc := range []struct{ uri, says string }{
		{"hashivault://transit", "does not name a mount and a key"},
		{"hashivault://transit/", "the key's name is missing"},
		{"hashivault:///transit/payments", "does not name a mount and a key"},
		{"hashivault://transit//payments", "the mount is missing or has"},
		{"hashivault://transit/payments/", "the key's name is missing"},
		{"hashivault://transit/../payments", "the mount is missing or has"},
		{"hashivault://transit/..", "the key's name is missing or has"},
		{"hashivault://transit/pay%2Fments", "the key's name is missing or has"},
		{"hashivault://transit/pay@ments", "the key's name is missing or has"},
		{"hashivault://transit/-payments", "the key's name is missing or has"},
		{"hashivault://transit/payments.", "the key's name is missing or has"},
		{"hashivault://transit:8200/payments", "the mount is missing or has"},
		{"hashivault://transit/payments#2", "after #"},
		{"hashivault://transit/payments?role=worker", `"role" needs auth=approle`},
		{"hashivault://transit/payments?auth=ldap", "none that we know"},
		{"hashivault://transit/payments?token=hush", `unknown parameter "token"`},
		{"hashivault://transit/payments?derived=yes", "neither true nor false"},
		{"hashivault://transit/payments?namespce=a", `unknown parameter "namespce"`},
		{"hashivault://transit/payments?namespace=", `"namespace" needs one value`},
		{"hashivault://transit/payments?namespace=a&namespace=b", `"namespace" needs one value`},
		{"hashivault://transit/payments?namespace=a//b", "the Vault namespace has"},
		{"hashivault://transit/payments?namespace=a%20b", "the Vault namespace has"},
		{"hashivault://transit/payments?a=%zz", "cannot be parsed"},
		{"hashivault://transit/payments?insecure-plain-http=yes", "neither true nor false"},
		{"hashivault://transit/payments?address=http://vault.example.com:8200", "would show the token and every data key"},
		{"hashivault://transit/payments?address=http://localhost.example.com", "would show the token and every data key"},
		{"hashivault://transit/payments?address=vault.example.com", "does not start with https://"},
		{"hashivault://transit/payments?address=https://", "names no host"},
		{"hashivault://transit/payments?address=https://user:secret@vault", "user name or password"},
		{"hashivault://transit/payments?address=https://vault/%3Fx=y", "query or a fragment"},
		{"hashivault://transit/payments?address=https://va%25ult", "not a URL"},
		{"hashivault://transit/" + strings.Repeat("k", 1100), "longer than the 1024 bytes"},
	} {
		key, err := registry.Open(t.Context(), tc.uri)
		if err == nil {
			t.Errorf("%s: opened as %q", tc.uri, key.ID())
			continue
		}
		if !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %q does not say %q", tc.uri, err, tc.says)
		}
		wantError(t, err, kms.Invalid, "")
		var e *kms.Error
		if errors.As(err, &e); e.Hint() == "" {
			t.Errorf("%s: no hint", tc.uri)
		}
		if strings.Contains(err.Error()+e.Hint(), "secret") || strings.Contains(err.Error(), markedToken) {
			t.Errorf("%s: a secret is in %q", tc.uri, err)
		}
	}
}

// A URI that the registry did not check first.
func TestOpenForeignURI(t *testing.T) {
	for _, uri := range []string{"awskms://transit/payments", "hashivault://user:secret@transit/payments"} {
		_, err := vaultkms.Backend.Open(context.WithoutCancel(t.Context()), mustParse(t, uri))
		wantError(t, err, kms.Invalid, "hashivault://mount/key")
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("a secret is in %q", err)
		}
	}
}

func TestNewListsAllProblems(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  vaultkms.Config
		says []string
	}{
		{"zero", vaultkms.Config{}, []string{"mount", "key's name", "no token"}},
		{
			"everything",
			vaultkms.Config{Mount: "a b", Name: "c/d", Namespace: "é", Address: "gopher://x", Token: "t\n", Timeout: -1},
			[]string{"mount", "key's name", "namespace", "address", "token", "timeout"},
		},
	} {
		_, err := vaultkms.New(tc.cfg)
		wantError(t, err, kms.Invalid, "VAULT_TOKEN")
		for _, s := range tc.says {
			if err != nil && !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not name %q", tc.name, err, s)
			}
		}
	}
	// Where the key is known, the error names it.
	_, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "k"})
	if err == nil || !strings.Contains(err.Error(), "with hashivault://transit/k") {
		t.Errorf("%v does not name the key", err)
	}
	// A process without a token is refused, by Vault or by us.
	wantError(t, err, kms.Denied, "VAULT_TOKEN")
}

func TestBadEnvironment(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no-such-file")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, value string }{
		{"VAULT_SKIP_VERIFY", "hush-hush"},
		{"VAULT_CACERT", missing},
		{"VAULT_CLIENT_CERT", empty},
		{"VAULT_CLIENT_TIMEOUT", "hush-hush"},
		{"VAULT_RATE_LIMIT", "hush-hush"},
		{"VAULT_PROXY_ADDR", "http://user:hush-hush@%zz"},
		{"VAULT_HEADERS", "hush-hush"},
		{"VAULT_DISABLE_REDIRECTS", "hush-hush"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(tc.name, tc.value)
			_, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "k", Token: markedToken})
			wantError(t, err, kms.Invalid, "check the value")
			if err != nil && (!strings.Contains(err.Error(), tc.name) || strings.Contains(err.Error(), "hush")) {
				t.Errorf("%q does not name the variable, or quotes it", err)
			}
		})
	}
	t.Run("VAULT_ADDR", func(t *testing.T) {
		t.Setenv("VAULT_ADDR", "https://user:hush-hush@vault")
		_, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "k", Token: markedToken})
		wantError(t, err, kms.Invalid, "set VAULT_ADDR")
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q quotes the address", err)
		}
	})
}

func TestTokenFromEnvironment(t *testing.T) {
	s := startVault(t, "k")
	t.Setenv("VAULT_TOKEN", s.RootToken)
	t.Setenv("VAULT_ADDR", s.Addr)
	key, err := kms.NewRegistry(vaultkms.Backend).Open(t.Context(), "hashivault://transit/k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = key.(kms.Closer).Close() })
	plain := dataKeys(2)
	mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
}
