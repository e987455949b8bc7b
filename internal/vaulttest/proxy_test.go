package vaulttest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestProxy(t *testing.T) {
	s := Start(t)
	s.EnableTransit(t, "transit")
	s.CreateKey(t, "transit", "k", nil)
	proxy := s.Proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/meddled") {
			return false
		}
		w.WriteHeader(http.StatusTeapot)
		return true
	})
	post := func(path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, proxy.URL+"/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", s.RootToken)
		resp, err := proxy.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer)
	}
	if status, _ := post("transit/meddled", "{}"); status != http.StatusTeapot {
		t.Errorf("meddled with: status %d", status)
	}
	if status, answer := post("transit/encrypt/k", `{"plaintext":"c2VjcmV0"}`); status != http.StatusOK || !strings.Contains(answer, "vault:v1:") {
		t.Errorf("passed on: status %d, %s", status, answer)
	}
	s.Stop()
	if status, _ := post("transit/encrypt/k", `{"plaintext":"c2VjcmV0"}`); status != http.StatusBadGateway {
		t.Errorf("without a server: status %d", status)
	}
}
