package gcpkms_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// All keys of one endpoint share a connection, which the last to close closes.
func TestSharedConnections(t *testing.T) {
	s := startServer(t)
	registry := kms.NewRegistry(gcpkms.NewBackend())
	if schemes := registry.Schemes(); len(schemes) != 1 || schemes[0] != gcpkms.Scheme {
		t.Errorf("schemes %v", schemes)
	}
	const n = 50
	keys := make([]kms.Key, n)
	var all sync.WaitGroup
	for i := range keys {
		name := fmt.Sprintf("%s-%d", keyName, i)
		if err := s.AddKey(name); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			key, err := registry.Open(t.Context(), "gcpkms://"+name+"?insecure-plaintext=true&endpoint="+url.QueryEscape(s.Addr()))
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = key
			if _, err := key.Wrap(t.Context(), newDataKeys(2), ec); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if got := s.Connections(); got != 1 {
		t.Errorf("%d keys have %d connections", n, got)
	}
	for _, key := range keys[1:] {
		closer := key.(kms.Closer)
		for range 2 { // twice is once
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := keys[0].Wrap(t.Context(), newDataKeys(1), ec); err != nil {
		t.Errorf("the last key: %v", err)
	}
	if err := keys[0].(kms.Closer).Close(); err != nil {
		t.Error(err)
	}
	for s.Connections() > 0 { // the server notices in its own time
		runtime.Gosched()
	}
	if _, err := keys[0].Wrap(t.Context(), newDataKeys(1), ec); kms.ClassOf(err) != kms.Unavailable {
		t.Errorf("a closed key: %v", err)
	}

	// Another one after the last starts anew.
	key, err := registry.Open(t.Context(), "gcpkms://"+keyName+"?insecure-plaintext=true&endpoint="+url.QueryEscape(s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer key.(kms.Closer).Close()
	if _, err := key.Wrap(t.Context(), newDataKeys(1), ec); err != nil {
		t.Error(err)
	}
}

func TestSharedRefusals(t *testing.T) {
	registry := kms.NewRegistry(gcpkms.NewBackend())
	for uri, want := range map[string]string{
		"gcpkms://projects/p?endpoint=127.0.0.1:1":                "does not name a key",
		"gcpkms://" + keyName + "?insecure-plaintext=true":        "must be a loopback address",
		"gcpkms://" + keyName + "?endpoint=nowhere":               "not of the form host:port",
		"gcpkms://" + keyName + "?insecure-plaintext=1&endpoint=": "neither true nor false",
	} {
		key, err := registry.Open(t.Context(), uri)
		if key != nil || kms.ClassOf(err) != kms.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "gone.json"))
	for range 2 { // a failure is not remembered
		_, err := registry.Open(t.Context(), "gcpkms://"+keyName)
		wantError(t, err, "open", kms.Unavailable)
	}
	file := filepath.Join(t.TempDir(), "user.json")
	if err := os.WriteFile(file, []byte(`{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	key, err := registry.Open(t.Context(), "gcpkms://"+keyName)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.(kms.Closer).Close(); err != nil {
		t.Error(err)
	}
}
