package gcpkms_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/option"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

func TestOpenURI(t *testing.T) {
	registry := kms.NewRegistry(gcpkms.Backend)
	const base, local = "gcpkms://" + keyName, "endpoint=127.0.0.1:9010&insecure-plaintext=true"
	for _, tc := range []struct {
		name, uri, want string // want is part of the error; empty if it opens
	}{
		{"emulator", base + "?" + local, ""},
		{"emulator by name", base + "?endpoint=localhost:9010&insecure-plaintext=true", ""},
		{"emulator on IPv6", base + "?endpoint=[::1]:9010&insecure-plaintext=true", ""},
		{"old project", strings.Replace(base, "acme-prod", "example.com:acme", 1) + "?" + local, ""},
		{"project number", strings.Replace(base, "acme-prod", "1234567", 1) + "?" + local, ""},
		{"plaintext without endpoint", base + "?insecure-plaintext=true", "must be a loopback address"},
		{"plaintext elsewhere", base + "?endpoint=kms.example.com:443&insecure-plaintext=true", "must be a loopback address"},
		{"plaintext on all interfaces", base + "?endpoint=0.0.0.0:443&insecure-plaintext=true", "must be a loopback address"},
		{"plaintext maybe", base + "?endpoint=127.0.0.1:1&insecure-plaintext=yes", "neither true nor false"},
		{"endpoint is a URL", base + "?endpoint=https://127.0.0.1:9010&insecure-plaintext=true", "not of the form host:port"},
		{"endpoint without port", base + "?endpoint=127.0.0.1&insecure-plaintext=true", "not of the form host:port"},
		{"endpoint is a resolver", base + "?endpoint=unix:/tmp/x:1", "not of the form host:port"},
		{"endpoint with port 0", base + "?endpoint=127.0.0.1:0&insecure-plaintext=true", "not of the form host:port"},
		{"empty parameter", base + "?endpoint=&insecure-plaintext=true", "needs one value"},
		{"parameter twice", base + "?endpoint=127.0.0.1:1&endpoint=127.0.0.1:2&insecure-plaintext=true", "needs one value"},
		{"unknown parameter", base + "?token=x&" + local, `unknown parameter "token"`},
		{"broken query", base + "?endpoint=%zz", "cannot be parsed"},
		{"fragment", base + "?" + local + "#1", "after #"},
		{"version", base + "/cryptoKeyVersions/3?" + local, "it names a version"},
		{"no key", "gcpkms://projects/p/locations/l/keyRings/r?" + local, "does not name a key"},
		{"typo", strings.Replace(base, "keyRings", "keyrings", 1) + "?" + local, "incomplete or has characters"},
		{"three slashes", strings.Replace(base, "gcpkms://", "gcpkms:///", 1) + "?" + local, "incomplete or has characters"},
		{"escaped slash", strings.Replace(base, "payments", "pay%2Fments", 1) + "?" + local, "incomplete or has characters"},
		{"long name", base + strings.Repeat("k", 64) + "?" + local, "incomplete or has characters"},
		{"upper-case project", strings.Replace(base, "acme", "ACME", 1) + "?" + local, "incomplete or has characters"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key, err := registry.Open(t.Context(), tc.uri)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer key.(kms.Closer).Close()
				want, _, _ := strings.Cut(tc.uri, "?")
				for _, r := range []*kms.Registry{registry, kms.NewRegistry(gcpkms.NewBackend())} {
					if !r.MayRecord(tc.uri, want) || r.MayRecord(tc.uri, want+"-2") {
						t.Error("MayRecord does not know its ID")
					}
				}
				if at, ok := kms.As[kms.Locator](key); !ok || !strings.Contains(tc.uri, "endpoint="+at.Location()+"&") {
					t.Error("it does not say where it is")
				}
				if got := fmt.Sprintf("%s %v %#v", key.ID(), key, key); got != want+" "+want+" "+want {
					t.Errorf("prints as %s", got)
				}
				return
			}
			e, ok := errors.AsType[*kms.Error](err)
			if !ok || e.Class != kms.Invalid || e.Hint() == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q with a hint", err, tc.want)
			}
		})
	}
}

func TestNewListsProblems(t *testing.T) {
	_, err := gcpkms.New(gcpkms.Config{
		Name: "payments", Endpoint: "nowhere", InsecurePlaintext: true, Timeout: -time.Second,
		ClientOptions: []option.ClientOption{option.WithoutAuthentication()},
	})
	for _, want := range []string{"does not name a key", "timeout is negative", "host:port", "loopback", "client options"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"type": "service_account", "private_key": "`+canary+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"missing": filepath.Join(t.TempDir(), "gone.json"), "broken": broken} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
			_, err := gcpkms.New(gcpkms.Config{Name: keyName})
			wantError(t, err, "open", kms.Unavailable)
			wantNoCanary(t, err)
		})
	}
}

// Options that contradict each other are the program's to mend.
func TestClientOptions(t *testing.T) {
	_, err := gcpkms.New(gcpkms.Config{Name: keyName, ClientOptions: []option.ClientOption{option.WithoutAuthentication(), option.WithAPIKey(canary)}})
	wantSays(t, err, "open", kms.Unavailable, "check the client options")
	wantNoCanary(t, err)
}

// Without insecure-plaintext, the server has to prove its identity with TLS.
func TestTLSRequired(t *testing.T) {
	s := startServer(t)
	key, err := gcpkms.New(gcpkms.Config{
		Name: keyName, Endpoint: s.Addr(), ClientOptions: []option.ClientOption{option.WithoutAuthentication()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	_, err = key.Wrap(t.Context(), newDataKeys(1), ec)
	wantError(t, err, "wrap", kms.Unavailable)
	if s.Calls("") != 0 {
		t.Error("a request went out without TLS")
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	key, err := gcpkms.New(gcpkms.Config{Name: keyName, Endpoint: addr, InsecurePlaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	_, err = key.Wrap(t.Context(), newDataKeys(1), ec)
	wantError(t, err, "wrap", kms.Unavailable)
	if !strings.Contains(err.Error(), addr) {
		t.Errorf("%v does not name the address", err)
	}
}

// Google's library logs whole requests at its debug level; ours must not.
func TestLibraryDoesNotLog(t *testing.T) {
	t.Setenv("GOOGLE_SDK_GO_LOGGING_LEVEL", "debug")
	logged := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(logged)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stderr := os.Stderr
	os.Stderr = f
	defer func() { os.Stderr = stderr }()
	s := startServer(t)
	dataKeys := [][]byte{[]byte(canary)}
	noisy := newKey(t, s)
	mustUnwrap(t, noisy, mustWrap(t, noisy, dataKeys), dataKeys)
	os.Stderr = stderr
	if b, err := os.ReadFile(logged); err != nil || len(b) > 0 {
		t.Errorf("%d bytes were logged (error %v)", len(b), err)
	}
}

// Backend.Open checks by itself what the registry checks as well.
func TestBackendChecksURI(t *testing.T) {
	u := &url.URL{Scheme: "https", User: url.User("me"), Host: "projects", Path: "/p"}
	_, err := gcpkms.Backend.Open(t.Context(), u)
	for _, want := range []string{"the scheme is not gcpkms", "user name or password", "does not name a key"} {
		if kms.ClassOf(err) != kms.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
