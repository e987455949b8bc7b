package vaultkms_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// markedDataKey is a data key that is recognized wherever it turns up.
func markedDataKey() []byte { return bytes.Repeat([]byte("mark"), kms.DataKeySize/4) }

func containsDataKey(b []byte) bool {
	k := markedDataKey()
	return bytes.Contains(b, k[:12]) ||
		bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString(k)[:16])) ||
		bytes.Contains(bytes.ToLower(b), []byte(hex.EncodeToString(k)[:16]))
}

const markedToken = "hvs.marked-token"

// A server that repeats all it was sent, in every kind of answer, finds none of
// it in the text of an error.
func TestNothingSecretInErrors(t *testing.T) {
	for _, status := range []int{200, 204, 301, 307, 400, 401, 403, 404, 405, 412, 413, 418, 429, 472, 473, 500, 501, 502, 503} {
		for _, form := range []string{"plain", "errors", "item", "unknown key type", "non-AEAD cipher suite "} {
			t.Run(fmt.Sprint(status, " ", form), func(t *testing.T) {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet && status != 403 && status != 404 {
						fmt.Fprint(w, `{"data":{"type":"aes256-gcm96","latest_version":1}}`)
						return
					}
					body, _ := io.ReadAll(r.Body)
					said := form + r.Header.Get("X-Vault-Token") + string(body)
					w.Header().Set("Location", "/elsewhere?"+r.Header.Get("X-Vault-Token"))
					w.WriteHeader(status)
					answer := any(map[string]any{"errors": []string{said}})
					switch form {
					case "plain":
						_, _ = strings.NewReader(said).WriteTo(w)
						return
					case "item":
						answer = map[string]any{"data": map[string]any{"batch_results": []any{map[string]any{"error": said, "plaintext": markedDataKey()}}}}
					}
					_ = json.NewEncoder(w).Encode(answer)
				}))
				defer server.Close()
				key := newKey(t, vaultkms.Config{Address: server.URL, Token: markedToken})
				_, err := key.Wrap(t.Context(), [][]byte{markedDataKey()}, nil)
				wantNoSecret(t, "wrap", err)
				blob := "vault:v1:" + base64.StdEncoding.EncodeToString(markedDataKey())
				wantNoSecret(t, "unwrap", unwrapError(t, key, kms.Wrapped{Blob: []byte(blob)}, nil))
			})
		}
	}
}

// Likewise for what a login sends.
func TestNothingSecretInLoginErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jwt")
	writeFile(t, file, markedToken)
	for name, auth := range map[string]vaultkms.Auth{
		"AppRole":         {RoleID: "r", SecretID: markedToken},
		"wrapped AppRole": {RoleID: "r", SecretID: markedToken, SecretIDWrapped: true},
		"Kubernetes":      {Method: vaultkms.AuthKubernetes, Role: "r", JWTFile: file},
	} {
		for _, status := range []int{200, 204, 301, 400, 401, 403, 404, 405, 412, 429, 473, 500, 501, 503} {
			for _, form := range []string{"plain", "errors", "auth", "data"} {
				server := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					said := r.Header.Get("X-Vault-Token") + string(body)
					w.Header().Set("Location", "/elsewhere?"+markedToken)
					w.WriteHeader(status)
					answer := map[string]any{"errors": []string{said}}
					switch form {
					case "plain":
						_, _ = strings.NewReader(said).WriteTo(w)
						return
					case "auth":
						answer = map[string]any{"auth": map[string]any{"client_token": said + " no token"}}
					case "data":
						answer = map[string]any{"data": map[string]any{"creation_path": said, "secret_id": said}}
					}
					_ = json.NewEncoder(w).Encode(answer)
				})
				key := authKey(t, server.URL, auth)
				_, err := key.Wrap(t.Context(), [][]byte{markedDataKey()}, nil)
				wantNoSecret(t, fmt.Sprint(name, status, form), err)
				_, err = key.Probe(t.Context())
				wantNoSecret(t, fmt.Sprint("probe: ", name, status, form), err)
			}
		}
	}
}

func wantNoSecret(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	var e interface{ Hint() string }
	text := fmt.Sprintf("%v %+v %#v %q %s", err, err, err, err, err)
	if e, _ = err.(interface{ Hint() string }); e != nil {
		text += e.Hint()
	}
	if strings.Contains(text, markedToken) || containsDataKey([]byte(text)) || strings.Contains(text, "batch_input") {
		t.Errorf("%s: what the server said is in the error: %s", what, text)
	}
}

func TestTokenDoesNotPrint(t *testing.T) {
	t.Setenv("VAULT_TOKEN", markedToken)
	cfg := vaultkms.Config{Mount: mount, Name: "k", Token: markedToken, Address: "http://127.0.0.1:1"}
	key := newKey(t, cfg)
	cfg.Auth = vaultkms.Auth{Token: markedToken, SecretID: markedToken}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "cfg", cfg, "token", cfg.Token, "key", key)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "cfg", cfg, "token", cfg.Token, "key", key)
	marshalled, err := json.Marshal([]any{cfg, cfg.Token})
	if err != nil {
		t.Fatal(err)
	}
	text := logged.String() + string(marshalled)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		text += fmt.Sprintf(verb+verb+verb+verb, cfg, &cfg, cfg.Token, key)
	}
	if strings.Contains(text, markedToken) || strings.Contains(text, hex.EncodeToString([]byte(markedToken))) {
		t.Errorf("the token is in %s", text)
	}
	if !strings.Contains(text, "[redacted]") {
		t.Error("nothing was redacted")
	}
	if got := fmt.Sprintf("%v %#v", key, key); got != "hashivault://transit/k hashivault://transit/k" {
		t.Errorf("a key prints as %s", got)
	}
}
