package gcpkms_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// The roles of the documentation, as they stand there, permit what their holders do,
// and no more: over TLS, each with a token of its own.
func TestDocumentedRoles(t *testing.T) {
	text, err := os.ReadFile("../../docs/kms/gcp.md")
	if err != nil {
		t.Fatal(err)
	}
	custom := map[string][]string{} // title → permissions
	for _, block := range strings.Split(string(text), "\n```yaml\ntitle: ")[1:] {
		body, _, found := strings.Cut(block, "\n```\n")
		title, permissions, listed := strings.Cut(body, "\nstage: GA\nincludedPermissions:\n- ")
		if !found || !listed {
			t.Fatalf("no end, or no permissions: %q", body)
		}
		custom[title] = strings.Split(permissions, "\n- ")
	}
	if len(custom) != 2 {
		t.Fatalf("%d custom roles, want 2", len(custom))
	}
	s := startServer(t)
	front, trust := trustedFront(t, s)
	for _, tc := range []struct {
		who   string
		roles []string
		can   []string
	}{
		{"worker", []string{"roles/cloudkms.cryptoKeyEncrypterDecrypter"}, []string{"wrap", "unwrap", "probe"}},
		{"codec", []string{"roles/cloudkms.cryptoKeyDecrypter"}, []string{"unwrap", "probe"}},
		{"viewer", []string{"roles/cloudkms.viewer"}, []string{"probe", "versions"}},
		{"rotation", custom["Waxseal rotation"], []string{"probe", "versions", "rotate", "make primary"}},
		{
			"retirement", append(custom["Waxseal rotation"], custom["Waxseal retirement"]...),
			[]string{"probe", "versions", "rotate", "make primary", "disable", "destroy", "restore", "enable"},
		},
		{"admin", []string{"roles/cloudkms.admin"}, []string{"probe", "versions", "rotate", "make primary", "disable", "destroy", "restore", "enable"}},
		{"nobody", nil, nil},
	} {
		t.Run(tc.who, func(t *testing.T) {
			name := strings.Replace(keyName, "payments", "of-"+tc.who, 1)
			if err := s.AddKey(name); err != nil {
				t.Fatal(err)
			}
			member, token := "serviceAccount:"+tc.who+"@acme-prod.iam.gserviceaccount.com", "ya29."+tc.who
			s.SignIn(member, token)
			s.SignIn("user:all", "ya29.all")
			for _, g := range []struct {
				member string
				roles  []string
			}{{member, tc.roles}, {"user:all", []string{"roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.admin"}}} {
				if err := s.Grant(g.member, name, g.roles...); err != nil {
					t.Fatal(err)
				}
			}
			all := keyWithToken(t, front, trust, name, "ya29.all", 0)
			wrapped := mustWrap(t, all, newDataKeys(1))[0]
			if _, err := all.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.can, able(t, keyWithToken(t, front, trust, name, token, 0), all, wrapped)); diff != "" {
				t.Errorf("able to do (-want +got):\n%s", diff)
			}
			// On another key of the same ring none of it is permitted.
			if err := s.AddKey(name + "-2"); err != nil {
				t.Fatal(err)
			}
			other := keyWithToken(t, front, trust, name+"-2", token, 0)
			for _, op := range operations(t, other, wrapped) {
				if err := op.do(); kms.ClassOf(err) != kms.Denied {
					t.Errorf("%s with another key: %v", op.name, err)
				}
			}
		})
	}
}

type operation struct {
	name string
	do   func() error
}

// operations is all that can be done with a key, in an order in which it can.
// Version 1 is not the primary.
func operations(t *testing.T, key *gcpkms.Key, wrapped kms.Wrapped) []operation {
	t.Helper()
	ctx := t.Context()
	return []operation{
		{"wrap", func() error { _, err := key.Wrap(ctx, newDataKeys(1), ec); return err }},
		{"unwrap", func() error { return unwrapError(ctx, t, key, wrapped) }},
		{"probe", func() error { _, err := key.Probe(ctx); return err }},
		{"versions", func() error { _, err := key.Versions(ctx); return err }},
		{"rotate", func() error { _, err := key.Rotate(ctx); return err }},
		{"make primary", func() error { return key.MakePrimary(ctx, "2") }},
		{"disable", func() error { return key.Disable(ctx, "1") }},
		{"destroy", func() error { _, err := key.Destroy(ctx, "1", 0); return err }},
		{"restore", func() error { return key.Restore(ctx, "1") }},
		{"enable", func() error { return key.Enable(ctx, "1") }},
	}
}

// able lists what key's holder is able to do; what it may not, all does for it, so
// that the next operation meets the right state.
func able(t *testing.T, key, all *gcpkms.Key, wrapped kms.Wrapped) []string {
	t.Helper()
	var out []string
	instead := operations(t, all, wrapped)
	for i, op := range operations(t, key, wrapped) {
		err := op.do()
		switch {
		case err == nil:
			out = append(out, op.name)
			continue
		case kms.ClassOf(err) != kms.Denied:
			t.Errorf("%s: neither permitted nor denied: %v", op.name, err)
		}
		if slices.Contains([]string{"disable", "destroy", "restore", "enable"}, op.name) {
			if err := instead[i].do(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}
