package gcpkms_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// tlsFront passes TLS connections on to target, and returns its address and what
// trusts its certificate.
func tlsFront(t *testing.T, target string) (addr string, roots *x509.CertPool) {
	t.Helper()
	donor := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	donor.Close()
	roots = x509.NewCertPool()
	roots.AddCert(donor.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: donor.TLS.Certificates, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var passing sync.WaitGroup
	t.Cleanup(passing.Wait)
	t.Cleanup(func() { l.Close() })
	passing.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := new(net.Dialer).DialContext(t.Context(), "tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			var both sync.WaitGroup
			for a, b := range map[net.Conn]net.Conn{in: out, out: in} {
				both.Go(func() {
					_, _ = io.Copy(a, b)
					// One end learns that the other has closed.
					if err := a.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
						a.Close() // such as before the handshake
					}
				})
			}
			passing.Go(func() {
				both.Wait()
				in.Close()
				out.Close()
			})
		}
	})
	return l.Addr().String(), roots
}

// Over TLS with workload identity federation, as in production, down to a token
// service that fails in different ways.
func TestFederatedCredentials(t *testing.T) {
	s := startServer(t)
	front, roots := tlsFront(t, s.Addr())
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   kms.Class // of Wrap; Canceled: it works
	}{
		{"good token", 200, `{"access_token": "` + canary + `", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 3600}`, kms.Canceled},
		{"refused", 400, `{"error": "invalid_grant", "error_description": "` + canary + `"}`, kms.Denied},
		{"token service down", 503, canary, kms.Unavailable},
		{"firewall's page", 403, "<html>" + canary, kms.Unavailable},
		{"portal", 200, "<html>" + canary, kms.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked atomic.Int64
			sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			}))
			t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
			t.Cleanup(sts.Close)
			dir := t.TempDir()
			subject, config := filepath.Join(dir, "token"), filepath.Join(dir, "config.json")
			write := func(file, text string) {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(subject, canary)
			write(config, fmt.Sprintf(`{"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
				"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": %q, "credential_source": {"file": %q}}`, sts.URL, subject))
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", config)
			key, err := gcpkms.New(gcpkms.Config{Name: keyName, Endpoint: front, ClientOptions: []option.ClientOption{
				option.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))),
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			s.ResetCalls()
			_, err = key.Wrap(t.Context(), newDataKeys(1), ec)
			if asked.Load() == 0 {
				t.Error("nobody asked for a token")
			}
			if tc.want == kms.Canceled {
				if err != nil || s.Calls("Encrypt") != 1 {
					t.Errorf("error %v, %d requests", err, s.Calls("Encrypt"))
				}
				return
			}
			wantError(t, err, "wrap", tc.want)
			wantNoCanary(t, err)
			if s.Calls("") != 0 {
				t.Error("a request went out without a token")
			}
		})
	}
}
