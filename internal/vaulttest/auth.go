package vaulttest

import (
	"net/http"
	"testing"
)

// EnableAuth mounts an auth method, such as "approle" or "jwt", at auth/path.
func (s *Server) EnableAuth(t testing.TB, path, method string) {
	t.Helper()
	s.Do(t, http.MethodPost, "sys/auth/"+path, map[string]any{"type": method})
}

// AppRole makes a role of the approle method at auth/path, with params such as
// token_ttl and token_policies, and returns its role ID and a secret ID.
func (s *Server) AppRole(t testing.TB, path, name string, params map[string]any) (roleID, secretID string) {
	t.Helper()
	s.Do(t, http.MethodPost, "auth/"+path+"/role/"+name, params)
	return text(t, s.Do(t, http.MethodGet, "auth/"+path+"/role/"+name+"/role-id", nil), "data", "role_id"), s.SecretID(t, path, name)
}

// SecretID makes another secret ID for a role.
func (s *Server) SecretID(t testing.TB, path, name string) string {
	t.Helper()
	return text(t, s.Do(t, http.MethodPost, "auth/"+path+"/role/"+name+"/secret-id", map[string]any{}), "data", "secret_id")
}

// Wrapped makes a request as root and lets Vault keep the answer for five minutes. It
// returns the token to unwrap the answer with.
func (s *Server) Wrapped(t testing.TB, method, path string) string {
	t.Helper()
	status, answer, err := s.send(t.Context(), method, path, map[string]any{}, "X-Vault-Wrap-TTL", "300")
	if err != nil || status != http.StatusOK {
		t.Fatalf("vaulttest: wrap %s: status %d, %v", path, status, err)
	}
	return text(t, answer, "wrap_info", "token")
}

// Revoke ends a token and all that was made with it.
func (s *Server) Revoke(t testing.TB, token string) {
	t.Helper()
	s.Do(t, http.MethodPost, "auth/token/revoke", map[string]any{"token": token})
}

// text returns a text in an answer, below an object.
func text(t testing.TB, answer map[string]any, object, name string) string {
	t.Helper()
	fields, _ := answer[object].(map[string]any)
	value, _ := fields[name].(string)
	if value == "" {
		t.Fatalf("vaulttest: Vault gave no %s", name)
	}
	return value
}
