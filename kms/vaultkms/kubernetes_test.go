package vaultkms_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// cluster is the part of a Kubernetes API server that Vault needs: TokenReview, over TLS,
// of service accounts' tokens that it has issued and that are not deleted.
type cluster struct {
	*httptest.Server
	signer

	mu      sync.Mutex
	issued  map[string]string // token → user name
	reviews int
	down    bool
}

const reviewerToken = "the-reviewers-own-token"

func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{signer: newSigner(t), issued: map[string]string{}}
	c.Server = httptest.NewTLSServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *cluster) issue(t testing.TB, namespace, account string) string {
	t.Helper()
	token := c.token(t, namespace, account, time.Now().Add(time.Hour))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.issued[token] = "system:serviceaccount:" + namespace + ":" + account
	return token
}

func (c *cluster) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.down:
		http.Error(w, "etcd is down", http.StatusInternalServerError)
		return
	case r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews":
		http.NotFound(w, r)
		return
	case r.Header.Get("Authorization") != "Bearer "+reviewerToken:
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	c.reviews++
	var review map[string]any
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	spec, _ := review["spec"].(map[string]any)
	token, _ := spec["token"].(string)
	status := map[string]any{"authenticated": false, "error": "the token is not one of mine"}
	if user := c.issued[token]; user != "" {
		status = map[string]any{
			"authenticated": true, "audiences": spec["audiences"],
			"user": map[string]any{"username": user, "uid": "2d6a", "groups": []string{"system:serviceaccounts"}},
		}
	}
	review["status"] = status
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}

func (c *cluster) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func (c *cluster) forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.issued, token)
}

// TestKubernetes runs Vault's own Kubernetes method in a real Vault, against a cluster of
// ours.
func TestKubernetes(t *testing.T) {
	s := vaulttest.Start(t, vaulttest.Plugins(vaulttest.KubernetesPluginDir(t)))
	s.EnableTransit(t, mount)
	s.CreateKey(t, mount, "k", nil)
	s.WritePolicy(t, "worker", workerPolicy)
	c := startCluster(t)
	s.EnableAuth(t, "kubernetes", "vault-plugin-auth-kubernetes")
	s.Do(t, http.MethodPost, "auth/kubernetes/config", map[string]any{
		"kubernetes_host": c.URL, "token_reviewer_jwt": reviewerToken, "disable_local_ca_jwt": true,
		"kubernetes_ca_cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})),
	})
	s.Do(t, http.MethodPost, "auth/kubernetes/role/worker", map[string]any{
		"bound_service_account_names": "worker", "bound_service_account_namespaces": "payments",
		"token_policies": "worker", "token_ttl": "1h", "audience": "vault",
	})

	var last atomic.Value
	p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/transit/") {
			last.Store(r.Header.Get("X-Vault-Token"))
		}
		return false
	})
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("VAULT_ADDR", p.URL)
	t.Setenv(vaultkms.EnvAuthMethod, "kubernetes")
	t.Setenv(vaultkms.EnvRole, "worker")
	t.Setenv(vaultkms.EnvJWTFile, file)
	first := c.issue(t, "payments", "worker")
	writeFile(t, file, first)
	key := authKey(t, "", vaultkms.Auth{})
	works(t, key)
	if r := mustProbe(t, key); !strings.Contains(r.Identity, "payments-worker") {
		t.Errorf("identity %q", r.Identity)
	}

	// The kubelet puts another token there, and the old pod's is no more.
	c.forget(first)
	writeFile(t, file, c.issue(t, "payments", "worker"))
	s.Revoke(t, last.Load().(string))
	works(t, key)
	c.mu.Lock()
	reviews := c.reviews
	c.mu.Unlock()
	if reviews != 2 {
		t.Errorf("%d reviews", reviews)
	}

	for name, jwt := range map[string]string{
		"deleted":         first,
		"another account": c.issue(t, "payments", "other"),
		"another team":    c.issue(t, "salaries", "worker"),
		"forged":          newSigner(t).token(t, "payments", "worker", time.Now().Add(time.Hour)),
		"no JWT":          base64.StdEncoding.EncodeToString([]byte("hello")),
	} {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "token")
			writeFile(t, bad, jwt)
			key := authKey(t, "", vaultkms.Auth{JWTFile: bad})
			_, err := key.Wrap(t.Context(), dataKeys(1), nil)
			wantError(t, err, kms.Denied, "bound to this service account")
		})
	}

	// Vault says "permission denied" to both, but a process that has logged in before must
	// not take the cluster's outage for the end of its rights.
	t.Run("the cluster is down", func(t *testing.T) {
		c.setDown(true)
		s.Revoke(t, last.Load().(string))
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Unavailable, "reaches the cluster's API server")
		_, err = authKey(t, "", vaultkms.Auth{}).Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Denied, "Vault can reach or verify the cluster")
		c.setDown(false)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for { // the failure is remembered for a second
			if _, err = key.Wrap(t.Context(), dataKeys(1), nil); err == nil {
				break
			}
			wantError(t, err, kms.Unavailable, "reaches the cluster's API server")
			<-tick.C
		}
		works(t, key)
	})
	t.Run("the binding is gone", func(t *testing.T) {
		s.Do(t, http.MethodPost, "auth/kubernetes/role/worker", map[string]any{"bound_service_account_names": "nobody"})
		s.Revoke(t, last.Load().(string))
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Denied, "bound to this service account")
	})
}
