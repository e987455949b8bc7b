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
// and returns the tokens that come out of it.
func setUpByTheBook(t *testing.T, s *vaulttest.Server) (worker, codecServer vaultkms.Token) {
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
	script := exec.CommandContext(t.Context(), "/bin/sh", "-eu", "-c", strings.Join(fenced(t, section, "sh"), ""))
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
	return token("worker.token"), token("codec-server.token")
}

func TestDocumentedSetUp(t *testing.T) {
	s := vaulttest.Start(t)
	workerToken, codecServerToken := setUpByTheBook(t, s)
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
			if got, allowed := statusAs(t, s, token, r.method, r.path), name == "admin"; allowed != (got < 300) || !allowed && got != http.StatusForbidden {
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
