package gcpkms_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

const noRewrap = "Cloud KMS has no request that wraps anew without giving the data key away"

// Keys by URI over shared connections to an emulator.
func TestConformance(t *testing.T) {
	w := newWorld(t, kmspb.ProtectionLevel_SOFTWARE)
	registry := kms.NewRegistry(gcpkms.NewBackend())
	w.open = func(t testing.TB, name string, timeout time.Duration) kms.Key {
		t.Helper()
		if timeout > 0 { // which no URI says
			return newKey(t, w.server, func(c *gcpkms.Config) { c.Name, c.Timeout = name, timeout })
		}
		key, err := registry.Open(t.Context(), "gcpkms://"+name+"?insecure-plaintext=true&endpoint="+url.QueryEscape(w.server.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { key.(kms.Closer).Close() })
		return key
	}
	kmstest.Run(t, w.harness())
}

// HSM keys as in production: over TLS, with a token, a worker's role for wrapping and
// unwrapping, and an administrator's for the rest.
func TestConformanceHSM(t *testing.T) {
	const member, token = "serviceAccount:conformance@p.iam.gserviceaccount.com", "ya29." + canary
	w := newWorld(t, kmspb.ProtectionLevel_HSM)
	front, trust := trustedFront(t, w.server)
	w.server.SignIn(member, token)
	if err := w.server.Grant(member, "", "roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.admin"); err != nil {
		t.Fatal(err)
	}
	w.server.TellTime(0)
	w.open = func(t testing.TB, name string, timeout time.Duration) kms.Key {
		t.Helper()
		return keyWithToken(t, front, trust, name, token, timeout)
	}
	h := w.harness()
	h.Credentials = []string{token}
	h.Faults[kmstest.FaultExpired] = func(testing.TB, kms.Key) func() {
		w.server.Expire(token)
		return func() { w.server.SignIn(member, token) }
	}
	h.Faults[kmstest.FaultDenied] = func(testing.TB, kms.Key) func() {
		w.server.Revoke(member)
		return func() {
			if err := w.server.Grant(member, "", "roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.admin"); err != nil {
				panic(err)
			}
		}
	}
	kmstest.Run(t, h)
}

// A key that an external manager keeps: its versions are not Cloud KMS's to make.
func TestConformanceExternal(t *testing.T) {
	w := newWorld(t, kmspb.ProtectionLevel_EXTERNAL)
	w.open = func(t testing.TB, name string, timeout time.Duration) kms.Key {
		t.Helper()
		return external{newKey(t, w.server, func(c *gcpkms.Config) { c.Name, c.Timeout = name, timeout })}
	}
	h := w.harness()
	h.Lacks[kmstest.PowerRotator] = "the external manager makes the versions: TestRotateRefuses"
	h.Lacks[kmstest.PowerRetirer] = h.Lacks[kmstest.PowerRotator]
	kmstest.Run(t, h)
}

// external is a key without its Rotator.
type external struct{ key *gcpkms.Key }

func (e external) ID() string { return e.key.ID() }

func (e external) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	return e.key.Wrap(ctx, dataKeys, ec)
}

func (e external) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	return e.key.Unwrap(ctx, wrapped, ec)
}

func (e external) Probe(ctx context.Context) (kms.Report, error) { return e.key.Probe(ctx) }

// The real service, if the environment names a key of it: see docs/kms/gcp.md.
func TestReal(t *testing.T) {
	kmstest.RunReal(t, "WAXSEAL_TEST_GCP_KEY", kms.NewRegistry(gcpkms.Backend))
}

// The same as against the real service, against ours: what docs/kms/gcp.md says of
// it is so.
func TestRealSuite(t *testing.T) {
	const variable = "WAXSEAL_TEST_GCP_KEY_OURS"
	s := startServer(t)
	if err := s.AddKey(keyName + "-2"); err != nil {
		t.Fatal(err)
	}
	suffix := "?insecure-plaintext=true&endpoint=" + url.QueryEscape(s.Addr())
	t.Setenv(variable, "gcpkms://"+keyName+suffix+" gcpkms://"+keyName+"-2"+suffix)
	for _, p := range []string{"create", "update", "destroy", "restore"} {
		s.Deny("cloudkms.cryptoKeyVersions."+p, "")
	}
	s.Deny("cloudkms.cryptoKeys.update", "")
	kmstest.RunReal(t, variable, kms.NewRegistry(gcpkms.Backend))
	if n := s.Calls(""); n < 4000 || n > 6500 {
		t.Errorf("%d requests: say so in the documentation", n)
	} else {
		t.Logf("%d requests", n)
	}
	for _, p := range []string{"create", "update"} {
		s.Allow("cloudkms.cryptoKeyVersions."+p, "")
	}
	s.Allow("cloudkms.cryptoKeys.update", "")
	t.Setenv(variable+"_ADMIN", "1")
	kmstest.RunReal(t, variable, kms.NewRegistry(gcpkms.NewBackend()))
	if left, err := newKey(t, s).Versions(t.Context()); err != nil || len(left) != 2 {
		t.Errorf("the trial of rotation left %d versions (error %v): say so in the documentation", len(left)-1, err)
	}
}

// world is a server with the keys of the suite, and how to open them.
type world struct {
	server *gcpserver.Server
	level  kmspb.ProtectionLevel
	made   atomic.Int64
	open   func(t testing.TB, name string, timeout time.Duration) kms.Key

	mu      sync.Mutex
	handles map[string][]kms.Key // by name
}

// handle opens a key and remembers it.
func (w *world) handle(t testing.TB, name string, timeout time.Duration) kms.Key {
	t.Helper()
	key := w.open(t, name, timeout)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handles[name] = append(w.handles[name], key)
	return key
}

// reconnected waits until all handles of key have a connection: cutting those to a
// login page may have caught a client that was just connecting, and it pauses then.
func (w *world) reconnected(t testing.TB, key kms.Key) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.handles[nameOf(key)] {
		deadline := time.Now().Add(10 * time.Second)
		for {
			_, err := h.Wrap(t.Context(), newDataKeys(1), nil)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("not reconnected: %v", err)
			}
		}
	}
}

func newWorld(t *testing.T, level kmspb.ProtectionLevel) *world {
	t.Helper()
	return &world{server: startServer(t), level: level, handles: make(map[string][]kms.Key)}
}

func nameOf(key kms.Key) string { return strings.TrimPrefix(key.ID(), "gcpkms://") }

func (w *world) create(t testing.TB) kms.Key {
	t.Helper()
	name := fmt.Sprintf("projects/p/locations/global/keyRings/r/cryptoKeys/%s-%d", w.level, w.made.Add(1))
	if err := w.server.AddKeyLike(name, &kmspb.CryptoKey{
		Purpose: kmspb.CryptoKey_ENCRYPT_DECRYPT, VersionTemplate: &kmspb.CryptoKeyVersionTemplate{ProtectionLevel: w.level},
	}); err != nil {
		t.Fatal(err)
	}
	return w.handle(t, name, 0)
}

// set returns what puts one version, or all for "", into a state.
func (w *world) set(state kmspb.CryptoKeyVersion_CryptoKeyVersionState) func(t testing.TB, key kms.Key, version string) {
	return func(t testing.TB, key kms.Key, version string) {
		t.Helper()
		number := 0
		if version != "" {
			var err error
			if number, err = strconv.Atoi(version); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.server.SetState(nameOf(key), number, state); err != nil {
			t.Fatal(err)
		}
	}
}

// inject returns a fault that lasts until it is healed.
func (w *world) inject(f gcpserver.Fault) func(testing.TB, kms.Key) func() {
	return func(testing.TB, kms.Key) func() {
		w.server.Inject(f)
		return w.server.ClearFaults
	}
}

func (w *world) harness() kmstest.Harness {
	disable, enable := w.set(kmspb.CryptoKeyVersion_DISABLED), w.set(kmspb.CryptoKeyVersion_ENABLED)
	schedule := w.set(kmspb.CryptoKeyVersion_DESTROY_SCHEDULED)
	loginPage := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		rw.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(rw, "<html>Please log in. "+canary+"</html>")
	})
	expired := &errdetails.ErrorInfo{Reason: "ACCESS_TOKEN_EXPIRED", Domain: "googleapis.com"}
	return kmstest.Harness{
		NewKey:   w.create,
		OtherKey: w.create,
		Reopen:   func(t testing.TB, key kms.Key) kms.Key { t.Helper(); return w.handle(t, nameOf(key), 0) },
		Hasty: func(t testing.TB, key kms.Key) kms.Key {
			t.Helper()
			return w.open(t, nameOf(key), 500*time.Millisecond)
		},
		Rotate: func(t testing.TB, key kms.Key) {
			t.Helper()
			if _, err := w.server.Rotate(nameOf(key)); err != nil {
				t.Fatal(err)
			}
		},
		Disable:          func(t testing.TB, key kms.Key) { t.Helper(); disable(t, key, "") },
		Enable:           func(t testing.TB, key kms.Key) { t.Helper(); enable(t, key, "") },
		DisableVersion:   disable,
		DestroyVersion:   w.set(kmspb.CryptoKeyVersion_DESTROYED),
		ScheduleDeletion: func(t testing.TB, key kms.Key) { t.Helper(); schedule(t, key, "") },
		Faults: map[kmstest.Power]func(testing.TB, kms.Key) func(){
			kmstest.FaultDenied:       w.inject(fails(codes.PermissionDenied)),
			kmstest.FaultThrottled:    w.inject(fails(codes.ResourceExhausted)),
			kmstest.FaultThrottledFor: w.inject(gcpserver.Fault{Code: codes.ResourceExhausted, Message: canary, RetryAfter: kmstest.ThrottledFor}),
			kmstest.FaultExpired:      w.inject(gcpserver.Fault{Code: codes.Unauthenticated, Message: canary, Detail: expired}),
			kmstest.FaultDown: func(testing.TB, kms.Key) func() {
				w.server.SetDown(true)
				return func() { w.server.SetDown(false) }
			},
			kmstest.FaultServerError: w.inject(fails(codes.Internal)),
			kmstest.FaultStall:       w.inject(gcpserver.Fault{StallAfterHeaders: true}),
			kmstest.FaultReset:       w.inject(gcpserver.Fault{Reset: true}),
			kmstest.FaultNotTheKMS: func(t testing.TB, key kms.Key) func() {
				w.server.AnswerInstead(loginPage)
				return func() {
					w.server.AnswerInstead(nil)
					w.reconnected(t, key)
				}
			},
			kmstest.FaultWrongKey:       w.inject(gcpserver.Fault{Harm: gcpserver.WrongKeyName}),
			kmstest.FaultShortPlaintext: w.inject(gcpserver.Fault{Harm: gcpserver.TruncatedPlaintext}),
			kmstest.FaultRequestDamaged: w.inject(gcpserver.Fault{Harm: gcpserver.DamagedRequest}),
			kmstest.FaultAnswerDamaged:  w.inject(gcpserver.Fault{Harm: gcpserver.DamagedAnswer}),
			kmstest.FaultHugeAnswer:     w.inject(gcpserver.Fault{Harm: gcpserver.GiantAnswer}),
		},
		VersionTold: true,
		Lacks:       map[kmstest.Power]string{kmstest.PowerRewrapper: noRewrap},
	}
}

// trustedFront puts TLS before the server.
func trustedFront(t *testing.T, s *gcpserver.Server) (addr string, trust option.ClientOption) {
	t.Helper()
	front, roots := tlsFront(t, s.Addr())
	return front, option.WithGRPCDialOption(grpc.WithTransportCredentials(
		credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})))
}

// token is a token that is always the same.
type token string

func (v token) Token(context.Context) (*auth.Token, error) {
	return &auth.Token{Value: string(v), Type: "Bearer", Expiry: time.Now().Add(time.Hour)}, nil
}

// keyWithToken opens a key over TLS with an access token.
func keyWithToken(t testing.TB, front string, trust option.ClientOption, name, value string, timeout time.Duration) *gcpkms.Key {
	t.Helper()
	key, err := gcpkms.New(gcpkms.Config{Name: name, Endpoint: front, Timeout: timeout, ClientOptions: []option.ClientOption{
		trust, option.WithAuthCredentials(auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: token(value)})),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}
