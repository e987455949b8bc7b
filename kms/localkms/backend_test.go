//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func TestBackendOpens(t *testing.T) {
	registry := kms.NewRegistry(Backend)
	for _, file := range []string{"keyring", "my keyring", "50%", "ключи", "a#b", "a?b"} {
		path := filepath.Join(t.TempDir(), "not-recorded", file)
		uri := URI(path, "payments")
		key, err := registry.Open(t.Context(), uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
		if strings.Contains(key.ID(), "not-recorded") || !strings.HasSuffix(key.ID(), "/payments") {
			t.Errorf("%s: ID %s", uri, key.ID())
		}
		if at, ok := kms.As[kms.Locator](key); !ok || at.Location() != path {
			t.Errorf("%s does not say where it is", uri)
		}
		if !registry.MayRecord(uri, key.ID()) {
			t.Errorf("%s: it has an ID that it may not have: %s", uri, key.ID())
		}
		again, err := registry.Open(t.Context(), uri)
		if err != nil || again.ID() != key.ID() {
			t.Errorf("%s: opened again: %v", uri, err)
		}
	}
	if got, want := URI("/var/lib/waxseal/keyring", "payments"), "local:///var/lib/waxseal/keyring#payments"; got != want {
		t.Errorf("URI = %s, want %s", got, want)
	}
}

func TestBackendRefusesURIs(t *testing.T) {
	for _, tt := range []struct{ uri, words string }{
		{"local://var/lib/keyring#k", "host name where the path should start"},
		{"local://localhost/keyring#k", "host name"},
		{"local:keyring#k", "does not start with a slash"},
		{"local:/keyring", "no #name"},
		{"local://#k", "there is no path"},
		{"local:///#k", "there is no path"},
		{"local:///keyring", "no #name"},
		{"local:///keyring#", "no #name"},
		{"local:///keyring?x=1#k", "there is a query"},
		{"local:///keyring?#k", "there is a query"},
		{"local:///keyring#a/b", `name "a/b" holds a character`},
		{"local:///keyring#-b", `name "-b" does not start`},
		{"local:///keyring#a%20b", `name "a b" holds a character`},
		{"local:///dir/#k", "names a folder"},
		{"local:///a%00b#k", "control character"},
		{"file:///keyring#k", "the scheme is not local"},
	} {
		u, err := url.Parse(tt.uri)
		check(t, err)
		key, err := Backend.Open(t.Context(), u)
		if err == nil || key != nil {
			t.Errorf("%s: opened", tt.uri)
			continue
		}
		wantError(t, err, kms.Invalid, tt.words)
	}
	if Backend.Scheme() != "local" {
		t.Errorf("Scheme = %s", Backend.Scheme())
	}
}

func TestBackendEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := tempPath(t)
	key, err := kms.NewRegistry(Backend).Open(ctx, URI(path, "k"))
	if key != nil {
		t.Error("opened")
	}
	wantError(t, err, kms.Canceled)
	if _, err := os.Stat(path); err == nil {
		t.Error("a keyring was made all the same")
	}
}
