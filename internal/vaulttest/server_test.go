package vaulttest

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFindBinary(t *testing.T) {
	dir := t.TempDir()
	executable := func(path ...string) string {
		t.Helper()
		full := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(full), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return full
	}
	named := executable("named")
	cached := executable("cache", "vault-"+Version, "vault")
	xdg := executable("xdg", "waxseal", "vault-"+Version, "vault")
	home := executable("home", ".cache", "waxseal", "vault-"+Version, "vault")
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	env := map[string]string{
		BinEnv: named, CacheEnv: filepath.Join(dir, "cache"), "XDG_CACHE_HOME": filepath.Join(dir, "xdg"), "HOME": filepath.Join(dir, "home"),
	}
	for _, want := range []struct{ without, path string }{
		{"", named},
		{BinEnv, cached},
		{CacheEnv, xdg},
		{"XDG_CACHE_HOME", home},
	} {
		delete(env, want.without)
		got, err := findBinary(func(name string) string { return env[name] })
		if err != nil || got != want.path {
			t.Errorf("without %q: %q, %v; want %q", want.without, got, err, want.path)
		}
	}
	plugin := executable("plugins", "vault-plugin-auth-kubernetes-"+KubernetesPlugin, "vault-plugin-auth-kubernetes")
	if got, err := findPlugin(func(name string) string { return map[string]string{CacheEnv: filepath.Join(dir, "plugins")}[name] }); err != nil || got != filepath.Dir(plugin) {
		t.Errorf("plugin in %q, %v; want %q", got, err, filepath.Dir(plugin))
	}
	if _, err := findPlugin(func(string) string { return dir }); err == nil || !strings.Contains(err.Error(), "make servers") {
		t.Errorf("a plugin where there is none: error %v does not say what to do", err)
	}
	for name, path := range map[string]string{"missing": filepath.Join(dir, "missing"), "directory": dir, "not executable": plain} {
		_, err := findBinary(func(name string) string { return map[string]string{BinEnv: path}[name] })
		if err == nil || !strings.Contains(err.Error(), "make servers") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v does not say what to do", name, err)
		}
	}
}

func TestServer(t *testing.T) {
	s := Start(t)
	s.EnableTransit(t, "team/transit")
	if s.HasKey(t, "team/transit", "payments") {
		t.Error("a key is there before it was made")
	}
	s.CreateKey(t, "team/transit", "payments", nil)
	s.RotateKey(t, "team/transit", "payments")
	if !s.HasKey(t, "team/transit", "payments") {
		t.Error("the key is not there")
	}
	data := s.Do(t, http.MethodGet, "team/transit/keys/payments", nil)["data"].(map[string]any)
	if data["latest_version"] != 2.0 || data["type"] != "aes256-gcm96" {
		t.Errorf("key is %v", data)
	}
	s.WritePolicy(t, "reader", `path "team/transit/keys/*" { capabilities = ["read"] }`)
	if token := s.Token(t, "reader"); token == s.RootToken {
		t.Error("Token gave the root token")
	}
	s.EnableAuth(t, "machines", "approle")
	roleID, secretID := s.AppRole(t, "machines", "worker", map[string]any{"token_policies": "reader"})
	if another := s.SecretID(t, "machines", "worker"); roleID == "" || secretID == another {
		t.Errorf("role ID %q, secret IDs %q and %q", roleID, secretID, another)
	}
	wrapped := s.Wrapped(t, http.MethodPost, "auth/machines/role/worker/secret-id")
	info := s.Do(t, http.MethodPost, "sys/wrapping/lookup", map[string]any{"token": wrapped})["data"].(map[string]any)
	if info["creation_path"] != "auth/machines/role/worker/secret-id" {
		t.Errorf("wrapped is %v", info)
	}
	short := s.TokenWith(t, map[string]any{"ttl": "5m", "num_uses": 3})
	data = s.Do(t, http.MethodPost, "auth/token/lookup", map[string]any{"token": short})["data"].(map[string]any)
	if data["num_uses"] != 3.0 {
		t.Errorf("token is %v", data)
	}
	s.Revoke(t, short)
	if status, _, err := s.send(t.Context(), http.MethodPost, "auth/token/lookup", map[string]any{"token": short}); err != nil || status != http.StatusForbidden {
		t.Errorf("revoked token: status %d, %v", status, err)
	}
	s.DeleteKey(t, "team/transit", "payments")
	if s.HasKey(t, "team/transit", "payments") {
		t.Error("the key is there after it was deleted")
	}
	s.Seal(t)
	if status, answer, err := s.send(t.Context(), http.MethodGet, "sys/mounts", nil); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("sealed: status %d: %v, error %v", status, answer, err)
	}
	s.Stop()
	s.Stop()
	if _, _, err := s.send(t.Context(), http.MethodGet, "sys/health", nil); err == nil {
		t.Error("stopped: still answers")
	}
}

func TestServersAreIndependent(t *testing.T) {
	a, b := Start(t), Start(t)
	a.EnableTransit(t, "transit")
	b.EnableTransit(t, "transit")
	a.CreateKey(t, "transit", "k", nil)
	if b.HasKey(t, "transit", "k") {
		t.Error("two servers share their keys")
	}
}

// A server that ends at once, one that never gets ready and one that cannot be run give
// different errors, each with its output.
func TestLaunchFails(t *testing.T) {
	script := func(body string) string {
		path := filepath.Join(t.TempDir(), "vault")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("ends at once", func(t *testing.T) {
		_, err := launch(t.Context(), script("echo the port is taken; exit 1\n"), t.TempDir(), "root")
		if err == nil || !strings.Contains(err.Error(), "the port is taken") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("never ready", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := launch(ctx, script("echo waiting; exec sleep 60\n"), t.TempDir(), "root")
		if err == nil || !strings.Contains(err.Error(), "not ready") || !strings.Contains(err.Error(), "waiting") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no such directory", func(t *testing.T) {
		if _, err := launch(t.Context(), script(""), filepath.Join(t.TempDir(), "none"), "root"); err == nil {
			t.Error("no error")
		}
	})
}

// A server must not outlive a test binary that never got to its cleanup: when
// the leash closes, the server goes.
func TestServerDiesWithUs(t *testing.T) {
	p, err := launch(t.Context(), Binary(t), t.TempDir(), RootToken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	p.leash.Close()
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		t.Error("the server lives on")
	}
}
