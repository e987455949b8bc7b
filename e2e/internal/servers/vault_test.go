package servers

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// TestVault proves the two things that the Vault backend stands on: transit is
// there, and associated data is enforced.
func TestVault(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1") // must not reach the server
	ctx := t.Context()
	v := StartVault(t)
	call := func(path string, body map[string]any) map[string]any {
		t.Helper()
		data, err := v.Call(ctx, http.MethodPost, path, body)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	call("sys/mounts/transit", map[string]any{"type": "transit"})
	call("transit/keys/payments", nil)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	sealed := call("transit/encrypt/payments", map[string]any{"plaintext": b64("hello"), "associated_data": b64("default")})["ciphertext"]
	opened := call("transit/decrypt/payments", map[string]any{"ciphertext": sealed, "associated_data": b64("default")})["plaintext"]
	if opened != b64("hello") {
		t.Errorf("decrypted to %v", opened)
	}
	_, err := v.Call(ctx, http.MethodPost, "transit/decrypt/payments", map[string]any{"ciphertext": sealed, "associated_data": b64("other")})
	if err == nil || !strings.Contains(err.Error(), "status 400") {
		t.Errorf("other associated data: %v", err)
	}

	if err := v.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Call(ctx, http.MethodGet, "sys/mounts", nil); err == nil {
		t.Error("it answers after Stop")
	}
}
