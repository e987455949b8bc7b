package servers

import (
	"context"
	"net/http"
	"testing"
)

func TestVault(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1") // must not reach the server
	v := StartVault(t)
	ctx := t.Context()
	for _, key := range []string{"a", "b"} {
		if err := v.NewKey(ctx, key); err != nil {
			t.Fatal(err)
		}
		if err := v.Do(ctx, http.MethodPost, "transit/encrypt/"+key, map[string]any{"plaintext": "eA=="}); err != nil {
			t.Error(err)
		}
	}
	if err := v.Do(ctx, http.MethodPost, "transit/decrypt/a", map[string]any{"ciphertext": "nonsense"}); err == nil {
		t.Error("Vault decrypts nonsense")
	}
	if err := v.Do(ctx, http.MethodPost, "x", func() {}); err == nil {
		t.Error("a function is JSON")
	}
	if err := v.Do(ctx, "bad method", "x", nil); err == nil {
		t.Error("a method has a space")
	}
	if err := v.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := v.NewKey(ctx, "c"); err == nil {
		t.Error("Vault answers after it was stopped")
	}
}

func TestVaultThatCannotStart(t *testing.T) {
	if _, err := runVault(t.Context(), "/bin/false"); err == nil {
		t.Error("a program that ends at once is a server")
	}
	if _, err := runVault(t.Context(), "/nonexistent/vault"); err == nil {
		t.Error("a program that is not there is a server")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := RunVault(ctx); err == nil {
		t.Error("started all the same")
	}
}
