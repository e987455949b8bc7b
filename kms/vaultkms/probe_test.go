package vaultkms_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

func mustProbe(t testing.TB, key kms.Prober) kms.Report {
	t.Helper()
	report, err := key.Probe(t.Context())
	if err != nil {
		t.Fatalf("Probe: %v", err)
	}
	return report
}

func warned(r kms.Report, of string) bool {
	return slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, of) })
}

func TestProbe(t *testing.T) {
	s, roleID, secretID := startAppRole(t, map[string]any{"token_ttl": "1h"})
	key := authKey(t, s.Addr, vaultkms.Auth{RoleID: roleID, SecretID: vaultkms.Token(secretID)})
	r := mustProbe(t, key)
	if r.Identity != "approle (policies: default, worker)" || !strings.HasPrefix(r.Key, `aes256-gcm96 transit key, version 1, in a server of version "1.`) {
		t.Errorf("identity %q, key %q", r.Identity, r.Key)
	}
	if left := time.Until(r.Expires); left < 50*time.Minute || left > time.Hour || len(r.Warnings) != 0 || !r.SkewKnown || r.Skew != 0 {
		t.Errorf("%+v", r)
	}
}

func TestProbeWarns(t *testing.T) {
	s := startVault(t, "k")
	s.CreateKey(t, mount, "loose", map[string]any{"exportable": true, "allow_plaintext_backup": true, "derived": true})
	s.RotateKey(t, mount, "loose")
	s.ConfigureKey(t, mount, "loose", map[string]any{"deletion_allowed": true, "min_decryption_version": 2})
	r := mustProbe(t, newKey(t, vaultkms.Config{Name: "loose", Address: s.Addr}))
	for _, of := range []string{"exportable", "plaintext backups", "deletion_allowed", "below 2", "root's"} {
		if !warned(r, of) {
			t.Errorf("no warning of %s: %v", of, r.Warnings)
		}
	}
	if !strings.Contains(r.Key, "version 2, derived") || !r.Expires.IsZero() {
		t.Errorf("%+v", r)
	}
	s.WritePolicy(t, "worker", workerPolicy)
	for name, tc := range map[string]struct {
		params map[string]any
		warned bool
	}{
		"ends soon":           {map[string]any{"ttl": "1h", "renewable": false}, true},
		"ends soon, renewed":  {map[string]any{"ttl": "1h", "renewable": true}, false},
		"ends later":          {map[string]any{"ttl": "48h", "renewable": false}, false},
		"renewed for a while": {map[string]any{"period": "1h"}, false},
	} {
		tc.params["policies"] = []string{"worker"}
		r := mustProbe(t, newKey(t, vaultkms.Config{Address: s.Addr, Token: vaultkms.Token(s.TokenWith(t, tc.params))}))
		if warned(r, "within a day") != tc.warned || r.Expires.IsZero() {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A token that may only open, or not even read its rights, has a key that works.
func TestProbeWithFewRights(t *testing.T) {
	s := startVault(t, "k")
	s.CreateKey(t, mount, "derived", map[string]any{"derived": true})
	for _, tc := range []struct {
		policies   []string
		noDefault  bool
		name       string
		class      kms.Class
		identified bool
	}{
		{[]string{"decrypt"}, false, "k", 0, true},
		{[]string{"encrypt"}, false, "k", 0, true},
		{[]string{"encrypt"}, true, "k", 0, false},
		{[]string{"encrypt"}, true, "derived", 0, false},
		{[]string{"decrypt"}, true, "k", kms.Denied, false},
		{nil, false, "k", kms.Denied, false},
	} {
		for _, name := range tc.policies {
			s.WritePolicy(t, name, policies[name])
		}
		token := s.TokenWith(t, map[string]any{"policies": append([]string{"none"}, tc.policies...), "no_default_policy": tc.noDefault, "ttl": "48h"})
		key := newKey(t, vaultkms.Config{Name: tc.name, Address: s.Addr, Token: vaultkms.Token(token)})
		r, err := key.Probe(t.Context())
		if tc.class != 0 {
			wantError(t, err, tc.class, "grants update on transit/encrypt/"+tc.name)
			continue
		}
		if err != nil || !strings.Contains(r.Key, "may not read") || (r.Identity != "") != tc.identified || !r.SkewKnown {
			t.Errorf("%v: %+v, %v", tc, r, err)
		}
	}
}

func TestProbeFails(t *testing.T) {
	s := startVault(t, "k")
	s.CreateKey(t, mount, "rsa", map[string]any{"type": "rsa-2048"})
	_, err := newKey(t, vaultkms.Config{Name: "rsa", Address: s.Addr}).Probe(t.Context())
	wantError(t, err, kms.Invalid, "type=aes256-gcm96")
	_, err = newKey(t, vaultkms.Config{Name: "none", Address: s.Addr}).Probe(t.Context())
	wantError(t, err, kms.NotFound, "vault write -f")
	_, err = newKey(t, vaultkms.Config{Address: s.Addr, Token: "hvs.wrong"}).Probe(t.Context())
	wantError(t, err, kms.Denied, "valid token")
	key := newKey(t, vaultkms.Config{Address: s.Addr})
	s.Seal(t)
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.Unavailable, "unseal Vault")
}

// A clock that is off shows; unknown facts are left empty.
func TestProbeSkew(t *testing.T) {
	s := startVault(t, "k")
	for _, skew := range []int64{-90, 90} {
		p := newProxy(t, s, nil)
		p.setAlter(func(path string, answer map[string]any) {
			if path == "/v1/sys/health" {
				answer["server_time_utc"] = time.Now().Unix() + skew
			}
		})
		r := mustProbe(t, newKey(t, vaultkms.Config{Address: p.URL}))
		if got := int64(r.Skew.Seconds()); got < skew-2 || got > skew+2 || !r.SkewKnown {
			t.Errorf("skew of %d s is told as %v (known: %v)", skew, r.Skew, r.SkewKnown)
		}
	}
	for name, meddle := range map[string]func(w http.ResponseWriter) bool{
		"nothing":  func(http.ResponseWriter) bool { panic(http.ErrAbortHandler) },
		"no JSON":  func(w http.ResponseWriter) bool { return refuse(w, http.StatusForbidden, "no") },
		"an error": func(w http.ResponseWriter) bool { _, _ = w.Write([]byte("<html>")); return true },
	} {
		p := newProxy(t, s, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			return (r.URL.Path == "/v1/sys/health" || r.URL.Path == "/v1/auth/token/lookup-self") && meddle(w)
		})
		r := mustProbe(t, newKey(t, vaultkms.Config{Address: p.URL}))
		if r.SkewKnown || r.Skew != 0 || r.Identity != "" || r.Key != "aes256-gcm96 transit key, version 1" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
