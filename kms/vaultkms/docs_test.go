package vaultkms_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

const docPath = "../../docs/kms/vault.md"

// fenced returns the contents of the fenced blocks of one language, in order.
func fenced(t testing.TB, markdown, language string) []string {
	t.Helper()
	var out []string
	for {
		_, rest, found := strings.Cut(markdown, "\n```"+language+"\n")
		if !found {
			return out
		}
		block, after, found := strings.Cut(rest, "\n```\n")
		if !found {
			t.Fatalf("a block of %s has no end", language)
		}
		out, markdown = append(out, block+"\n"), "\n"+after
	}
}

// setUpByTheBook does what the "Set up" section says, in a folder of its own,
// and returns the tokens and the AppRole that come out of it.
func setUpByTheBook(t *testing.T, s *vaulttest.Server) (worker, codecServer vaultkms.Token, role vaultkms.Auth) {
	t.Helper()
	text, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Set up\n")
	if !found {
		t.Fatal("there is no section Set up")
	}
	section, _, _ = strings.Cut(section, "\n## ")

	dir := t.TempDir()
	policies := fenced(t, section, "hcl")
	if len(policies) != 3 {
		t.Fatalf("%d policies, want 3", len(policies))
	}
	for _, policy := range policies {
		first, _, _ := strings.Cut(policy, "\n")
		name, found := strings.CutPrefix(first, "# ")
		if !found || filepath.Ext(name) != ".hcl" || filepath.Base(name) != name {
			t.Fatalf("a policy does not begin with its file name: %q", first)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, logins, found := strings.Cut(string(text), "\n## Logins\n")
	if !found {
		t.Fatal("there is no section Logins")
	}
	logins, _, _ = strings.Cut(logins, "\n## ")
	script := exec.CommandContext(t.Context(), "/bin/sh", "-eu", "-c", strings.Join(append(fenced(t, section, "sh"), fenced(t, logins, "sh")...), ""))
	script.Dir = dir
	script.Env = []string{
		"VAULT_ADDR=" + s.Addr, "VAULT_TOKEN=" + s.RootToken, "HOME=" + dir,
		"PATH=" + filepath.Dir(vaulttest.Binary(t)) + ":" + os.Getenv("PATH"),
	}
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	token := func(name string) vaultkms.Token {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || len(b) == 0 {
			t.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
		return vaultkms.Token(strings.TrimSpace(string(b)))
	}
	role = vaultkms.Auth{RoleID: string(token("worker.role-id")), SecretIDFile: filepath.Join(dir, "worker.secret-id")}
	return token("worker.token"), token("codec-server.token"), role
}

func TestDocumentedSetUp(t *testing.T) {
	s := vaulttest.Start(t)
	workerToken, codecServerToken, role := setUpByTheBook(t, s)
	adminToken := vaultkms.Token(s.Token(t, "waxseal-admin"))
	s.CreateKey(t, mount, "salaries", nil)

	// The key that the documented configuration names.
	text, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	const uri = "hashivault://transit/payments"
	if yaml := fenced(t, string(text), "yaml"); len(yaml) == 0 || !strings.Contains(yaml[0], `"`+uri+`"`) {
		t.Errorf("the configuration does not name %s", uri)
	}
	open := func(token vaultkms.Token, name string) *vaultkms.Key {
		return newKey(t, vaultkms.Config{Name: name, Address: s.Addr, Token: token})
	}
	ec := kms.Context{"namespace": "payments-prod"}
	worker, codecServer := open(workerToken, "payments"), open(codecServerToken, "payments")
	if worker.ID() != uri {
		t.Errorf("ID %q", worker.ID())
	}
	plain := dataKeys(3)
	wrapped := mustWrap(t, worker, plain, ec)
	mustUnwrap(t, worker, wrapped, ec, plain)
	mustUnwrap(t, codecServer, wrapped, ec, plain)
	if got := len(wrapped[0].Blob); got != 89 {
		t.Errorf("a wrapped data key has %d bytes, the document says 89", got)
	}

	byRole, err := vaultkms.New(vaultkms.Config{Mount: mount, Name: "payments", Address: s.Addr, Auth: role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = byRole.Close() })
	mustUnwrap(t, byRole, mustWrap(t, byRole, plain, ec), ec, plain)

	_, err = codecServer.Wrap(t.Context(), plain, ec)
	wantError(t, err, kms.Denied, "transit/encrypt/payments")
	secret := mustWrap(t, open(vaulttest.RootToken, "salaries"), plain[:1], ec)[0]
	for _, token := range []vaultkms.Token{workerToken, codecServerToken, adminToken} {
		_, err := open(token, "salaries").Wrap(t.Context(), plain, ec)
		wantError(t, err, kms.Denied, "")
		wantError(t, unwrapError(t, open(token, "salaries"), secret, ec), kms.Denied, "")
		_, err = open(token, "no-such-key").Wrap(t.Context(), plain, ec)
		wantError(t, err, kms.Denied, "")
	}
	wantError(t, unwrapError(t, open(adminToken, "payments"), wrapped[0], ec), kms.Denied, "")

	// What none of them needs, none may do.
	type request struct{ method, path string }
	admins := []request{
		{http.MethodPost, "transit/keys/payments/rotate"},
		{http.MethodPost, "transit/keys/payments/config"},
		{http.MethodPost, "transit/keys/payments/trim"},
		{http.MethodPost, "transit/rewrap/payments"},
	}
	nobodys := []request{
		{http.MethodPost, "transit/keys/new"},
		{http.MethodDelete, "transit/keys/payments"},
		{http.MethodGet, "transit/export/encryption-key/payments"},
		{http.MethodGet, "transit/backup/payments"},
		{http.MethodPost, "transit/datakey/plaintext/payments"},
		{http.MethodPost, "transit/encrypt/no-such-key"},
		{http.MethodGet, "sys/mounts"},
	}
	for name, token := range map[string]vaultkms.Token{"worker": workerToken, "codec server": codecServerToken, "admin": adminToken} {
		for _, r := range admins {
			if got := statusAs(t, s, token, r.method, r.path); (got == http.StatusForbidden) == (name == "admin") {
				t.Errorf("%s: %s %s: status %d", name, r.method, r.path, got)
			}
		}
		for _, r := range nobodys {
			if got := statusAs(t, s, token, r.method, r.path); got != http.StatusForbidden {
				t.Errorf("%s: %s %s: status %d", name, r.method, r.path, got)
			}
		}
	}
	mustUnwrap(t, worker, wrapped, ec, plain) // the admin rotated meanwhile
	if w := mustWrap(t, worker, plain, ec)[0]; w.Version != "2" {
		t.Errorf("version %q after the rotation", w.Version)
	}
	manageByTheBook(t, worker, open(adminToken, "payments"), ec)

	// The doctor needs no right that they do not have.
	for name, key := range map[string]*vaultkms.Key{"worker": worker, "codec server": codecServer} {
		if r := mustProbe(t, key); !r.SkewKnown || !strings.Contains(r.Identity, "waxseal-") || r.Key == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// manageByTheBook takes a key through its life as an administrator, with the
// documented policy. The key has two versions.
func manageByTheBook(t *testing.T, worker, admin *vaultkms.Key, ec kms.Context) {
	t.Helper()
	plain := dataKeys(1)
	wrapped := mustWrap(t, worker, plain, ec)
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { _, err := admin.Rotate(t.Context()); return err }, "enabled, enabled, enabled"},
		{func() error { return admin.Disable(t.Context(), "1") }, "disabled, enabled, enabled"},
		{func() error { return admin.Enable(t.Context(), "1") }, "enabled, enabled, enabled"},
		{func() error { return admin.Disable(t.Context(), "1") }, "disabled, enabled, enabled"},
		{func() error { _, err := admin.Destroy(t.Context(), "1", 0); return err }, "destroyed, enabled, enabled"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := states(t, admin); got != step.want {
			t.Errorf("versions are %s, want %s", got, step.want)
		}
		mustUnwrap(t, worker, wrapped, ec, plain)
	}
}

// The documented policy is enough to rewrap, where the key is a derived one.
func TestDocumentedRewrap(t *testing.T) {
	s := vaulttest.Start(t)
	s.EnableTransit(t, mount)
	s.CreateKey(t, mount, "payments", map[string]any{"derived": true})
	text, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range fenced(t, string(text), "hcl") {
		if strings.HasPrefix(policy, "# waxseal-admin.hcl\n") {
			s.WritePolicy(t, "waxseal-admin", policy)
		}
	}
	worker := newKey(t, vaultkms.Config{Name: "payments", Address: s.Addr})
	admin := mustDerived(t, vaultkms.Config{Mount: mount, Name: "payments", Address: s.Addr, Token: vaultkms.Token(s.Token(t, "waxseal-admin"))})
	plain := dataKeys(1)
	wrapped := mustWrap(t, worker, plain, nil)
	if _, err := admin.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := admin.Rewrap(t.Context(), admin, wrapped, nil)
	if err != nil || got[0].Err != nil || got[0].Wrapped.Version != "2" {
		t.Fatalf("%v, %v", got, err)
	}
	mustUnwrap(t, worker, []kms.Wrapped{got[0].Wrapped}, nil, plain)
}

// statusAs makes a request with token and returns the status of the answer.
func statusAs(t *testing.T, s *vaulttest.Server, token vaultkms.Token, method, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.Addr+"/v1/"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", string(token))
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
