package kms_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/envelope"
	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/internal/vaulttest"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// service is a KMS with one key in it, as a program uses it: through the real
// client library and the decorator of package resilience.
type service struct {
	name string
	key  kms.Key
	// requests returns how many requests the KMS has had.
	requests func() int
	// setLatency delays each answer by that much.
	setLatency func(time.Duration)
	// batch is how many data keys one request holds.
	batch int
}

// services are those that a benchmark or test of calls runs over.
var services = map[string]func(testing.TB) service{
	"aws": awsService, "gcp": gcpService, "vault": vaultService, "local": localService,
}

// patience is how long a test machine under load may take for anything: a call that is
// retried because it was late would be counted twice.
const patience = time.Minute

func resilient(t testing.TB, key interface {
	kms.Key
	kms.Closer
},
) kms.Key {
	t.Helper()
	k, err := resilience.New(key, resilience.Config{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return k
}

func awsService(t testing.TB) service {
	t.Helper()
	server, _, key := startAWS(t)
	return service{
		name: "aws", key: resilient(t, key), batch: 1,
		requests: func() (n int) {
			for _, count := range server.Requests() {
				n += count
			}
			return n
		},
		setLatency: func(d time.Duration) { server.SetFault(awsserver.AllOperations, awsserver.Fault{Latency: d}) },
	}
}

func gcpService(t testing.TB) service {
	t.Helper()
	server, key := startGCP(t)
	return service{
		name: "gcp", key: resilient(t, key), batch: 1,
		requests: func() int { return server.Calls("Encrypt") + server.Calls("Decrypt") },
		setLatency: func(d time.Duration) {
			server.ClearFaults()
			server.Inject(gcpserver.Fault{Latency: d})
		},
	}
}

// vaultService is a real Vault, behind a proxy on loopback that counts and delays.
func vaultService(t testing.TB) service {
	t.Helper()
	server := vaulttest.Start(t)
	server.EnableTransit(t, "transit")
	server.CreateKey(t, "transit", "k", nil)
	var requests, latency atomic.Int64
	proxy := server.Proxy(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/transit/") { // and not about our token
			requests.Add(1)
		}
		<-time.After(time.Duration(latency.Load()))
		return false
	})
	key, err := vaultkms.New(vaultkms.Config{Mount: "transit", Name: "k", Address: proxy.URL, Token: vaulttest.RootToken})
	if err != nil {
		t.Fatal(err)
	}
	return service{
		name: "vault", key: resilient(t, key), batch: resilience.Config{}.WithDefaults().MaxBatch,
		requests:   func() int { return int(requests.Load()) },
		setLatency: func(d time.Duration) { latency.Store(int64(d)) },
	}
}

// localService has no server: what counts as a request is a call of the key,
// which reads the keyring file.
func localService(t testing.TB) service {
	t.Helper()
	_, key := makeKeyring(t)
	counted := &countedKey{Key: key}
	return service{
		name: "local", key: resilient(t, counted), batch: resilience.Config{}.WithDefaults().MaxBatch,
		requests:   func() int { return int(counted.calls.Load()) },
		setLatency: func(d time.Duration) { counted.latency.Store(int64(d)) },
	}
}

type countedKey struct {
	*localkms.Key
	calls, latency atomic.Int64
}

func (k *countedKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	k.calls.Add(1)
	<-time.After(time.Duration(k.latency.Load()))
	return k.Key.Wrap(ctx, dataKeys, ec)
}

func (k *countedKey) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	k.calls.Add(1)
	<-time.After(time.Duration(k.latency.Load()))
	return k.Key.Unwrap(ctx, wrapped, ec)
}

var claims = envelope.Claims{Namespace: "payments"}

func newSealer(t testing.TB, key kms.Key, maxPayloads int) *envelope.Sealer {
	t.Helper()
	s, err := envelope.NewSealer(envelope.SealerConfig{
		Keys: []kms.Key{key}, Limits: envelope.DataKeyLimits{MaxPayloads: maxPayloads}, WrapTimeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newOpener(t testing.TB, key kms.Key) *envelope.Opener {
	t.Helper()
	o, err := envelope.NewOpener(envelope.OpenerConfig{
		Keys:          envelope.StaticKeys(key),
		UnwrapTimeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func seal(t testing.TB, s *envelope.Sealer, n int) []envelope.Sealed {
	t.Helper()
	sealed, err := s.Seal(t.Context(), claims, make([][]byte, n)...)
	if err != nil {
		t.Error(err)
	}
	return sealed
}

func open(t testing.TB, o *envelope.Opener, sealed []envelope.Sealed) {
	t.Helper()
	items := make([]envelope.Item, len(sealed))
	for i, s := range sealed {
		items[i].Envelope = s.Envelope
	}
	for i, got := range o.Open(t.Context(), items...) {
		if got.Err != nil {
			t.Fatalf("item %d: %v", i, got.Err)
		}
	}
}

// started returns the service after its first use, which may cost requests of its own: the
// key type is read from Vault once.
func started(t testing.TB, name string) service {
	t.Helper()
	svc := services[name](t)
	if _, err := svc.key.Wrap(t.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil); err != nil {
		t.Fatal(err)
	}
	return svc
}

// traffic is a way in which a process seals 1,000 payloads.
type traffic struct {
	name string
	// callers seal at the same time, each payloads at a time, until all is sealed.
	callers, each int
}

var (
	// oneCall is a call with 1,000 payloads, such as a codec server's /encode has.
	oneCall = traffic{"one call of 1000", 1, 1000}
	// pages are ten calls at the same time, each with a page of a hundred.
	pages = traffic{"10 calls of 100 at once", 10, 100}
	// busy is a worker with a hundred activities that each seal one payload, and another one.
	busy = traffic{"100 callers, one by one", 100, 1}
)

// run seals n payloads in its way.
func (tr traffic) run(t testing.TB, s *envelope.Sealer, n int) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range tr.callers {
		wg.Go(func() {
			for left.Add(-int64(tr.each)) >= 0 {
				seal(t, s, tr.each)
			}
		})
	}
	wg.Wait()
}

// wrapsFor1000 is how many data keys 1,000 payloads take, by dataKey.maxPayloads.
var wrapsFor1000 = map[int]int{1: 1000, 100: 10, 10_000: 1}

// TestSealCalls: how many requests 1,000 payloads cost is not left to chance.
func TestSealCalls(t *testing.T) {
	for name := range services {
		t.Run(name, func(t *testing.T) {
			svc := started(t, name)
			for maxPayloads, wraps := range wrapsFor1000 {
				before := svc.requests()
				oneCall.run(t, newSealer(t, svc.key, maxPayloads), 1000)
				if got, want := svc.requests()-before, (wraps+svc.batch-1)/svc.batch; got != want {
					t.Errorf("maxPayloads %d: %d requests, want %d", maxPayloads, got, want)
				}
			}
		})
	}
}

// TestSealCallsOfPages: pages that are sealed at the same time share requests. The
// first is waited for alone; the others line up meanwhile and get theirs together.
func TestSealCallsOfPages(t *testing.T) {
	const (
		most  = 8   // requests, of a KMS that takes many data keys in one
		ahead = 256 // data keys that may be made ahead of need
	)
	for name := range services {
		t.Run(name, func(t *testing.T) {
			for maxPayloads, wraps := range wrapsFor1000 {
				svc := started(t, name)
				if svc.batch > 1 {
					svc.setLatency(200 * time.Millisecond) // time enough to line up, on any machine
				}
				before := svc.requests()
				pages.run(t, newSealer(t, svc.key, maxPayloads), 1000)
				got := svc.requests() - before
				if svc.batch > 1 && got > most || svc.batch == 1 && (got < wraps || got > wraps+ahead) {
					t.Errorf("maxPayloads %d: %d requests for %d data keys", maxPayloads, got, wraps)
				}
			}
		})
	}
}

// TestOpenCalls: a hundred payloads that a process has never seen cost a request
// for each data key, or for all of them where the KMS takes several; seen again,
// they cost nothing.
func TestOpenCalls(t *testing.T) {
	for name := range services {
		t.Run(name, func(t *testing.T) {
			svc := started(t, name)
			sealed := seal(t, newSealer(t, svc.key, 1), 100)
			opener := newOpener(t, svc.key)
			before := svc.requests()
			open(t, opener, sealed)
			if got, want := svc.requests()-before, (100+svc.batch-1)/svc.batch; got != want {
				t.Errorf("%d requests, want %d", got, want)
			}
			open(t, opener, sealed)
			if got := svc.requests() - before; got != (100+svc.batch-1)/svc.batch {
				t.Errorf("opened again: %d requests", got)
			}
		})
	}
}
