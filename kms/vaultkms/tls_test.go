package vaultkms_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// writeCA writes the certificate of a TLS test server to a file.
func writeCA(t *testing.T, server *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTLS(t *testing.T) {
	s := startVault(t, "k")
	var protocols sync.Map
	secure := newUnstartedProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		protocols.Store(r.Proto, true)
		return false
	})
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)

	t.Run("trusted", func(t *testing.T) {
		t.Setenv("VAULT_CACERT", writeCA(t, secure.Server))
		t.Setenv("VAULT_ADDR", secure.URL)
		key := newKey(t, vaultkms.Config{})
		plain := dataKeys(500)
		mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
		if _, ok := protocols.Load("HTTP/2.0"); !ok {
			t.Error("not over HTTP/2")
		}
		secure.CloseClientConnections()
		mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
	})
	t.Run("not trusted", func(t *testing.T) {
		key := newKey(t, vaultkms.Config{Address: secure.URL})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "VAULT_CACERT") })
	})
	t.Run("http to a TLS port", func(t *testing.T) {
		key := newKey(t, vaultkms.Config{Address: strings.Replace(secure.URL, "https", "http", 1)})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "https://") })
	})
	t.Run("https to a port without TLS", func(t *testing.T) {
		key := newKey(t, vaultkms.Config{Address: strings.Replace(s.Addr, "http", "https", 1)})
		both(t, t.Context(), key, func(t *testing.T, err error) { wantError(t, err, kms.Unavailable, "http://") })
	})
}

// A listener that demands a certificate of us, in front of a real Vault.
func TestClientCertificate(t *testing.T) {
	s := startVault(t, "k")
	clientKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "worker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &clientKey.PublicKey, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(cert)
	var seen atomic.Value
	secure := newUnstartedProxy(t, s, func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		seen.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		return false
	})
	secure.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted, MinVersion: tls.VersionTLS12}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	t.Setenv("VAULT_CACERT", writeCA(t, secure.Server))

	t.Run("with one", func(t *testing.T) {
		t.Setenv("VAULT_CLIENT_CERT", certFile)
		t.Setenv("VAULT_CLIENT_KEY", keyFile)
		works(t, newKey(t, vaultkms.Config{Address: secure.URL}))
		if seen.Load() != "worker" {
			t.Errorf("the server saw %v", seen.Load())
		}
	})
	t.Run("without", func(t *testing.T) {
		key := newKey(t, vaultkms.Config{Address: secure.URL})
		// The server hangs up while it says why: some do not hear it.
		for range 100 {
			_, err := key.Wrap(t.Context(), dataKeys(1), nil)
			wantError(t, err, kms.Unavailable, "")
			if e, ok := errors.AsType[*kms.Error](err); ok && strings.Contains(e.Hint(), "VAULT_CLIENT_CERT") {
				return
			}
		}
		t.Error("never said that it is about a certificate")
	})
}
