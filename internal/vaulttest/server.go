package vaulttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// RootToken of every server that Start starts.
const RootToken = "root"

// Server is a Vault server for one test. Its methods fail the test they are
// given when Vault refuses. Safe for concurrent use.
type Server struct {
	// Addr is its URL, http://127.0.0.1:port, as VAULT_ADDR wants it.
	Addr string
	// RootToken may do everything.
	RootToken string

	process *process
}

// Option changes how Start starts a server.
type Option func(flags []string) []string

// Plugins lets the server use the plugins in dir, by their file names.
func Plugins(dir string) Option {
	return func(flags []string) []string { return append(flags, "-dev-plugin-dir="+dir) }
}

// Start starts a Vault server that is unsealed and has a key-value engine at
// secret/ but no transit engine yet. It is killed when t ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	var flags []string
	for _, o := range options {
		flags = o(flags)
	}
	p, err := launch(t.Context(), Binary(t), t.TempDir(), RootToken, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return &Server{Addr: p.addr, RootToken: RootToken, process: p}
}

// Stop kills the server now: connections to it are refused from then on.
func (s *Server) Stop() { s.process.kill() }

// Do sends one request to Vault's HTTP API as root and returns the answer's
// fields, nil if it has none. path starts after /v1/; body is sent as JSON
// unless it is nil.
func (s *Server) Do(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	status, answer, err := s.send(t.Context(), method, path, body)
	if err != nil {
		t.Fatalf("vaulttest: %s %s: %v", method, path, err)
	}
	if status >= http.StatusMultipleChoices {
		t.Fatalf("vaulttest: %s %s: status %d: %v", method, path, status, answer["errors"])
	}
	return answer
}

// send returns the status of the answer and its fields, nil if it has none.
// header is a name and a value to send besides, if any.
func (s *Server) send(ctx context.Context, method, path string, body any, header ...string) (int, map[string]any, error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.Addr+"/v1/"+path, sent)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Vault-Token", s.RootToken)
	if len(header) == 2 {
		req.Header.Set(header[0], header[1])
	}
	resp, err := s.process.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	return resp.StatusCode, answer, nil
}

// EnableTransit mounts a transit engine at mount, such as "transit" or "team-a/transit".
func (s *Server) EnableTransit(t testing.TB, mount string) {
	t.Helper()
	s.Do(t, http.MethodPost, "sys/mounts/"+mount, map[string]any{"type": "transit"})
}

// CreateKey makes a transit key; params are those of Vault's API, nil for an
// aes256-gcm96 key.
func (s *Server) CreateKey(t testing.TB, mount, name string, params map[string]any) {
	t.Helper()
	if params == nil {
		params = map[string]any{}
	}
	s.Do(t, http.MethodPost, mount+"/keys/"+name, params)
}

// ConfigureKey changes a key's settings, such as min_decryption_version.
func (s *Server) ConfigureKey(t testing.TB, mount, name string, params map[string]any) {
	t.Helper()
	s.Do(t, http.MethodPost, mount+"/keys/"+name+"/config", params)
}

// RotateKey gives a key a new version, which encrypts from then on.
func (s *Server) RotateKey(t testing.TB, mount, name string) {
	t.Helper()
	s.Do(t, http.MethodPost, mount+"/keys/"+name+"/rotate", map[string]any{})
}

// DeleteKey destroys a key for good.
func (s *Server) DeleteKey(t testing.TB, mount, name string) {
	t.Helper()
	s.ConfigureKey(t, mount, name, map[string]any{"deletion_allowed": true})
	s.Do(t, http.MethodDelete, mount+"/keys/"+name, nil)
}

// HasKey reports whether a key exists.
func (s *Server) HasKey(t testing.TB, mount, name string) bool {
	t.Helper()
	status, _, err := s.send(t.Context(), http.MethodGet, mount+"/keys/"+name, nil)
	if err != nil || status != http.StatusOK && status != http.StatusNotFound {
		t.Fatalf("vaulttest: read key: status %d, %v", status, err)
	}
	return status == http.StatusOK
}

// WritePolicy stores an ACL policy in Vault's policy language.
func (s *Server) WritePolicy(t testing.TB, name, policy string) {
	t.Helper()
	s.Do(t, http.MethodPut, "sys/policies/acl/"+name, map[string]any{"policy": policy})
}

// Token makes a token that has these policies and the default one.
func (s *Server) Token(t testing.TB, policies ...string) string {
	t.Helper()
	return s.TokenWith(t, map[string]any{"policies": policies, "ttl": "1h"})
}

// TokenWith makes a token with the parameters of Vault's auth/token/create.
func (s *Server) TokenWith(t testing.TB, params map[string]any) string {
	t.Helper()
	return text(t, s.Do(t, http.MethodPost, "auth/token/create", params), "auth", "client_token")
}

// Seal seals the server: it answers nothing but 503 from then on.
func (s *Server) Seal(t testing.TB) {
	t.Helper()
	s.Do(t, http.MethodPut, "sys/seal", nil)
}
