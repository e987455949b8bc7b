package vaultkms_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// states returns the state of each version, and checks that the last one wraps.
func states(t testing.TB, key *vaultkms.Key) string {
	t.Helper()
	versions, err := key.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, v := range versions {
		if v.ID != fmt.Sprint(i+1) || v.Primary != (i == len(versions)-1) {
			t.Errorf("version %d is %+v", i+1, v)
		}
		// Vault keeps to itself when those were made that do not unwrap.
		if made := time.Since(v.Created); v.State == kms.VersionEnabled && (made < -time.Second || made > time.Minute) {
			t.Errorf("version %s was made %v ago", v.ID, made)
		}
		out = append(out, v.State.String())
	}
	return strings.Join(out, ", ")
}

func TestVersionsAreManagedOldestFirst(t *testing.T) {
	s := startVault(t, "k")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	ctx := t.Context()
	plain := dataKeys(4)
	var wrapped []kms.Wrapped
	for i := range plain {
		wrapped = append(wrapped, mustWrap(t, key, plain[i:i+1], nil)...)
		if i < 3 {
			if v, err := key.Rotate(ctx); err != nil || v.ID != fmt.Sprint(i+2) || !v.Primary || v.State != kms.VersionEnabled || v.Created.IsZero() {
				t.Fatalf("Rotate: %+v, %v", v, err)
			}
		}
	}
	want := func(want string) {
		t.Helper()
		if got := states(t, key); got != want {
			t.Errorf("versions are %s, want %s", got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	destroy := func(version string, wait time.Duration) error {
		t.Helper()
		at, err := key.Destroy(ctx, version, wait)
		if (err == nil) != (time.Since(at).Abs() < time.Minute) {
			t.Errorf("Destroy of %s gives %v with error %v", version, at, err)
		}
		return err
	}
	want("enabled, enabled, enabled, enabled")
	wantError(t, key.Disable(ctx, "2"), kms.Invalid, "older versions before this one")
	wantError(t, key.Disable(ctx, "4"), kms.Invalid, "rotate the key first")
	must(key.Disable(ctx, "1"))
	must(key.Disable(ctx, "1")) // it is
	must(key.Disable(ctx, "2"))
	want("disabled, disabled, enabled, enabled")
	mustUnwrap(t, key, wrapped[2:], nil, plain[2:])
	wantError(t, unwrapError(t, key, wrapped[1], nil), kms.Disabled, "min_decryption_version")

	wantError(t, key.Enable(ctx, "1"), kms.Invalid, "newer versions before this one")
	must(key.Enable(ctx, "2"))
	must(key.Enable(ctx, "2"))
	must(key.Enable(ctx, "4"))
	want("disabled, enabled, enabled, enabled")
	mustUnwrap(t, key, wrapped[1:], nil, plain[1:])

	wantError(t, destroy("2", 0), kms.Invalid, "disable it first")
	wantError(t, destroy("1", time.Hour), kms.Invalid, "wait before you ask")
	must(destroy("1", 0))
	want("destroyed, enabled, enabled, enabled")
	mustWrap(t, key, plain[:1], nil)
	wantError(t, destroy("1", 0), kms.NotFound, "backup")
	wantError(t, key.Enable(ctx, "1"), kms.NotFound, "backup")
	wantError(t, key.Disable(ctx, "1"), kms.NotFound, "backup")
	// A min_encryption_version is there now and does not stand in the way.
	must(key.Disable(ctx, "2"))
	must(key.Disable(ctx, "3"))
	wantError(t, destroy("3", 0), kms.Invalid, "older versions before this one")
	must(destroy("2", 0))
	want("destroyed, destroyed, disabled, enabled")
	must(key.Enable(ctx, "3"))
	mustUnwrap(t, key, wrapped[2:], nil, plain[2:])

	for _, version := range []string{"0", "5", "-1", "01", "+1", "x", "1 ", "99999999999999999999"} {
		for what, err := range map[string]error{"Disable": key.Disable(ctx, version), "Enable": key.Enable(ctx, version), "Destroy": destroy(version, 0)} {
			if kms.ClassOf(err) != kms.NotFound {
				t.Errorf("%s of %q: %v", what, version, err)
			}
		}
	}
	for what, err := range map[string]error{
		"Disable": key.Disable(ctx, ""), "Enable": key.Enable(ctx, ""), "Destroy": destroy("", 0), "Restore": key.Restore(ctx, "1"), "Restore of all": key.Restore(ctx, ""),
	} {
		var e *kms.Error
		if !errors.Is(err, errors.ErrUnsupported) || !errors.As(err, &e) || e.Class != kms.Invalid || e.Hint() == "" {
			t.Errorf("%s of the key: %v", what, err)
		}
	}
}

// What an administrator may not do is said with the path and the capability.
func TestManagingIsDenied(t *testing.T) {
	s := startVault(t, "k")
	s.RotateKey(t, mount, "k")
	ctx := t.Context()
	blind := newKey(t, vaultkms.Config{Address: s.Addr, Token: tokenFor(t, s, "encrypt")})
	reader := newKey(t, vaultkms.Config{Address: s.Addr, Token: tokenFor(t, s, "read")})
	for _, tc := range []struct {
		name string
		key  *vaultkms.Key
		hint string
		call func(key *vaultkms.Key) error
	}{
		{"list", blind, "grants read on transit/keys/k", func(k *vaultkms.Key) error { _, err := k.Versions(ctx); return err }},
		{"rotate blindly", blind, "grants read on transit/keys/k", func(k *vaultkms.Key) error { _, err := k.Rotate(ctx); return err }},
		{"rotate", reader, "grants update on transit/keys/k/rotate", func(k *vaultkms.Key) error { _, err := k.Rotate(ctx); return err }},
		{"disable", reader, "grants update on transit/keys/k/config", func(k *vaultkms.Key) error { return k.Disable(ctx, "1") }},
	} {
		wantError(t, tc.call(tc.key), kms.Denied, tc.hint)
	}
	if got := states(t, newKey(t, vaultkms.Config{Address: s.Addr})); got != "enabled, enabled" {
		t.Errorf("versions are %s", got)
	}
	s.ConfigureKey(t, mount, "k", map[string]any{"min_decryption_version": 2})
	s.WritePolicy(t, "read", policies["read"]+`path "transit/keys/k/config" { capabilities = ["update"] }`)
	_, err := reader.Destroy(ctx, "1", 0)
	wantError(t, err, kms.Denied, "grants update on transit/keys/k/trim")
	s.WritePolicy(t, "read", policies["read"])
	wantError(t, reader.Enable(ctx, "1"), kms.Denied, "grants update on transit/keys/k/config")
}

// A key that is not there is not made, and another engine is not written to.
func TestRotateMakesNoKey(t *testing.T) {
	s := startVault(t)
	s.Do(t, http.MethodPost, "sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "1"}})
	s.Do(t, http.MethodPost, "kv/keys/k", map[string]any{"type": "aes256-gcm96"})
	_, err := newKey(t, vaultkms.Config{Address: s.Addr}).Rotate(t.Context())
	wantError(t, err, kms.NotFound, "vault write -f transit/keys/k")
	_, err = newKey(t, vaultkms.Config{Address: s.Addr, Mount: "kv"}).Rotate(t.Context())
	wantError(t, err, kms.NotFound, "vault secrets enable")
	if s.HasKey(t, mount, "k") || s.HasKey(t, "kv", "k/rotate") {
		t.Error("Rotate made something")
	}
}

// A rotation with a lost answer is not sent again: it may have happened.
func TestRotateIsSentOnce(t *testing.T) {
	s := startVault(t, "k")
	lose := false
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasSuffix(r.URL.Path, "/rotate") && lose {
			s.RotateKey(t, mount, "k")
			panic(http.ErrAbortHandler)
		}
		return false
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	works(t, key) // a connection lies idle
	lose = true
	_, err := key.Rotate(t.Context())
	wantError(t, err, kms.Unavailable, "")
	lose = false
	if got := states(t, key); got != "enabled, enabled" {
		t.Errorf("versions are %s", got)
	}
}

// Vault before 1.12 answered changes without a body.
func TestSilentAnswers(t *testing.T) {
	s := startVault(t, "k")
	p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasSuffix(r.URL.Path, "/rotate") {
			s.RotateKey(t, mount, "k")
			w.WriteHeader(http.StatusNoContent)
			return true
		}
		return false
	})
	key := newKey(t, vaultkms.Config{Address: p.URL})
	if v, err := key.Rotate(t.Context()); err != nil || v.ID != "2" {
		t.Errorf("%+v, %v", v, err)
	}
	if diff := cmp.Diff(map[string]int{keyPath: 2, "POST /v1/transit/keys/k/rotate": 1}, p.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestVersionsThatMakeNoSense(t *testing.T) {
	for name, data := range map[string]string{
		"latest below bound":   `"latest_version":1,"min_decryption_version":2`,
		"bound below the gone": `"latest_version":3,"min_decryption_version":1,"min_available_version":2`,
		"very many":            `"latest_version":2000000000`,
		"negative":             `"latest_version":-1`,
	} {
		server := fakeServer(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"data":{"type":"aes256-gcm96",%s}}`, data)
		})
		_, err := newKey(t, vaultkms.Config{Address: server.URL}).Versions(t.Context())
		if err == nil || kms.ClassOf(err) != kms.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}
