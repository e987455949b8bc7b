package vaultkms_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// signer signs JWTs as a Kubernetes cluster does for its service accounts.
type signer struct {
	key *ecdsa.PrivateKey
}

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

func (s signer) publicKey(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// token is that of a service account, as a projected volume has it.
func (s signer) token(t testing.TB, namespace, account string, ends time.Time) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{
		"iss": "https://kubernetes.default.svc.cluster.local", "aud": []string{"vault"},
		"sub": "system:serviceaccount:" + namespace + ":" + account,
		"iat": ends.Add(-time.Hour).Unix(), "nbf": ends.Add(-time.Hour).Unix(), "exp": ends.Unix(),
		"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": account, "uid": "2d6a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(signed))
	r, ss, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	ss.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// Vault's Kubernetes method takes the same request and gives the same answer as
// its JWT method, which the server of these tests has: role and JWT for a token.
func TestServiceAccountLogin(t *testing.T) {
	s := startVault(t, "k")
	s.WritePolicy(t, "worker", workerPolicy)
	cluster := newSigner(t)
	for _, path := range []string{"kubernetes", "jwt", "clusters/eu"} {
		s.EnableAuth(t, path, "jwt")
		s.Do(t, http.MethodPost, "auth/"+path+"/config", map[string]any{"jwt_validation_pubkeys": []string{cluster.publicKey(t)}})
		s.Do(t, http.MethodPost, "auth/"+path+"/role/worker", map[string]any{
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": "worker",
			"bound_subject": "system:serviceaccount:payments:worker", "token_ttl": "1h",
		})
	}
	file := filepath.Join(t.TempDir(), "token")
	soon := time.Now().Add(time.Hour)
	writeFile(t, file, cluster.token(t, "payments", "worker", soon))

	for _, auth := range []vaultkms.Auth{
		{Method: vaultkms.AuthKubernetes, Role: "worker", JWTFile: file},
		{Method: vaultkms.AuthJWT, Role: "worker", JWTFile: file},
		{Method: vaultkms.AuthKubernetes, Role: "worker", JWTFile: file, Mount: "clusters/eu"},
	} {
		t.Run(fmt.Sprint(auth.Method, " at ", auth.Mount), func(t *testing.T) { works(t, authKey(t, s.Addr, auth)) })
	}
	t.Run("by the key URI and the environment", func(t *testing.T) {
		t.Setenv("VAULT_ADDR", s.Addr)
		t.Setenv("VAULT_TOKEN", "hvs.of-another-program")
		t.Setenv(vaultkms.EnvJWTFile, file)
		key, err := kms.NewRegistry(vaultkms.Backend).Open(t.Context(), "hashivault://transit/k?auth=kubernetes&auth-mount=clusters/eu&role=worker")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = key.(kms.Closer).Close() })
		works(t, key)
	})
	t.Run("the file is read at each login", func(t *testing.T) {
		var last atomic.Value
		p := newProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			last.Store(r.Header.Get("X-Vault-Token"))
			return false
		})
		mine := filepath.Join(t.TempDir(), "token")
		writeFile(t, mine, cluster.token(t, "payments", "worker", soon))
		key := authKey(t, p.URL, vaultkms.Auth{Method: vaultkms.AuthKubernetes, Role: "worker", JWTFile: mine})
		works(t, key)
		writeFile(t, mine, cluster.token(t, "payments", "intruder", soon))
		s.Revoke(t, last.Load().(string))
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Denied, "bound to this service account")
	})
	for name, jwt := range map[string]string{
		"expired":          cluster.token(t, "payments", "worker", time.Now().Add(-time.Hour)),
		"another account":  cluster.token(t, "payments", "other", soon),
		"another cluster":  newSigner(t).token(t, "payments", "worker", soon),
		"not a JWT at all": "hello",
	} {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "token")
			writeFile(t, bad, jwt)
			key := authKey(t, s.Addr, vaultkms.Auth{Method: vaultkms.AuthKubernetes, Role: "worker", JWTFile: bad})
			both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Denied, "bound to this service account") })
		})
	}
}

// Vault has one status for a JWT that it refuses and for an issuer with keys that it cannot
// get. The latter is an outage and must not pass for a refusal, which is final.
func TestIssuerIsDown(t *testing.T) {
	s := startVault(t, "k")
	s.WritePolicy(t, "worker", workerPolicy)
	issuer := newSigner(t)
	var down atomic.Bool
	var server *httptest.Server
	server = fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"authorization_endpoint":"http://127.0.0.1/a","id_token_signing_alg_values_supported":["ES256"]}`, server.URL, server.URL+"/keys")
		default:
			point, err := issuer.key.PublicKey.Bytes()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","x":%q,"y":%q}]}`,
				base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:]))
		}
	})
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, issuer.token(t, "payments", "worker", time.Now().Add(time.Hour)))
	for name, config := range map[string]map[string]any{
		"keys":      {"jwks_url": server.URL + "/keys"},
		"discovery": {"oidc_discovery_url": server.URL, "bound_issuer": "https://kubernetes.default.svc.cluster.local"},
	} {
		t.Run(name, func(t *testing.T) {
			down.Store(false)
			s.EnableAuth(t, name, "jwt")
			s.Do(t, http.MethodPost, "auth/"+name+"/config", config)
			s.Do(t, http.MethodPost, "auth/"+name+"/role/worker", map[string]any{
				"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": "worker",
			})
			// Written once more: Vault drops the keys that it has kept.
			s.Do(t, http.MethodPost, "auth/"+name+"/config", config)
			down.Store(true)
			auth := vaultkms.Auth{Method: vaultkms.AuthJWT, Mount: name, Role: "worker", JWTFile: file}
			both(t, t.Context(), authKey(t, s.Addr, auth), func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "issuer") })
			server.CloseClientConnections()
			down.Store(false)
			if name == "keys" {
				works(t, authKey(t, s.Addr, auth))
			}
		})
	}
}
