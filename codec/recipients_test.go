package codec_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
	"github.com/waxseal/waxseal/policy"
)

const twoKeys = `
keys:
  near: {uri: "fake://near"}
  far: {uri: "fake://far"}
seal:
  - {match: {namespace: "primary"}, keys: [near, far], recipients: primary}
  - {match: {namespace: "*"}, keys: [near, far]}
`

// seen counts the calls of hooks, as text.
type seen struct {
	mu sync.Mutex
	n  map[string]int
}

func (s *seen) add(n int, words ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = make(map[string]int)
	}
	s.n[strings.Join(words, " ")] += n
}

func (s *seen) count(words ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n[strings.Join(words, " ")]
}

func (s *seen) hooks() codec.Hooks {
	return codec.Hooks{
		MissingRecipient: func(key string, class kms.Class, n int) { s.add(n, "missing", key, class.String()) },
		SealedInGrace:    func(key string, class kms.Class, n int) { s.add(n, "grace", key, class.String()) },
		KMSCall: func(key, op string, err error, took time.Duration) {
			class := "ok"
			if err != nil {
				class = kms.ClassOf(err).String()
			}
			s.add(1, "call", key, op, class)
		},
		KMSRetry:    func(key, op string) { s.add(1, "retry", key, op) },
		KMSRejected: func(key, op string, why resilience.Reason) { s.add(1, "rejected", key, op, why.String()) },
		Breaker:     func(key string, from, to resilience.State) { s.add(1, "breaker", key, from.String(), to.String()) },
	}
}

// newWatchedCodec returns a codec over a backend, and the calls of its hooks.
func newWatchedCodec(t testing.TB, yaml string, backend kms.Backend) (*codec.Codec, *seen) {
	t.Helper()
	p, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	s := new(seen)
	c, err := codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(backend), Hooks: s.hooks()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, s
}

func TestRecipientsOfARule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := kmstest.NewBackend()
		c, s := newWatchedCodec(t, twoKeys, backend)
		backend.Fake("far").Always(kmstest.Fail(kms.Denied))
		sealed := encode(t, c, "primary", payload(t, 1), payload(t, 2))
		for _, p := range sealed {
			if diff := cmp.Diff([]string{"fake://near@1"}, codec.KeyIDs(p)); diff != "" {
				t.Errorf("key IDs (-want +got):\n%s", diff)
			}
		}
		if n := s.count("missing", "far", "denied"); n != 2 {
			t.Errorf("%d missing recipients reported, want 2: %v", n, s.n)
		}
		_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "other"}, []*commonpb.Payload{payload(t, 1)})
		wantClass(t, err, kms.Denied)
		if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "primary"}, sealed); d[0].Err != nil || d[1].Err != nil {
			t.Errorf("%v, %v", d[0].Err, d[1].Err)
		}
	})
}

// One of two KMSs fails under load, each key behind its resilience: no decode is lost, and
// after the first few no call waits.
func TestDeadKMSUnderLoad(t *testing.T) {
	for _, tc := range []struct {
		name  string
		key   string
		fault kmstest.Fault
	}{
		{"the first stalls", "near", kmstest.Stall()},
		{"the first is unavailable", "near", kmstest.Fail(kms.Unavailable)},
		{"the first throttles", "near", kmstest.Fail(kms.Throttled)},
		{"the first is disabled", "near", kmstest.Fail(kms.Disabled)},
		{"the second stalls", "far", kmstest.Stall()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := kmstest.NewBackend()
				maker, _ := newWatchedCodec(t, twoKeys, backend)
				const callers, rounds = 64, 20
				sealed := make([][]*commonpb.Payload, callers)
				for i := range sealed {
					for j := range rounds {
						sealed[i] = append(sealed[i], encode(t, maker, "n", payload(t, j))...)
					}
				}
				c, s := newWatchedCodec(t, twoKeys, backend)
				backend.Fake(tc.key).Always(tc.fault)
				var wg sync.WaitGroup
				var mu sync.Mutex
				var slowest time.Duration
				waited := 0
				for i := range sealed {
					wg.Go(func() {
						for _, p := range sealed[i] {
							start := time.Now()
							if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, []*commonpb.Payload{p})[0]; d.Err != nil {
								t.Error(d.Err)
							}
							mu.Lock()
							slowest = max(slowest, time.Since(start))
							if time.Since(start) > 500*time.Millisecond {
								waited++
							}
							mu.Unlock()
							<-time.After(time.Second)
						}
					})
				}
				wg.Wait()
				if slowest > 1100*time.Millisecond {
					t.Errorf("one decode took %s", slowest)
				}
				if tc.fault.Stall && tc.key == "near" {
					if s.count("breaker", "near", "closed", "open") != 1 {
						t.Errorf("the breaker did not open: %v", s.n)
					}
					if waited > 3*callers {
						t.Errorf("%d of %d decodes waited", waited, callers*rounds)
					}
				}
			})
		})
	}
}

// A key uses the numbers of the policy.
func TestResilienceOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := kmstest.NewBackend()
		c, s := newWatchedCodec(t, `
keys:
  a: {uri: "fake://a", resilience: {timeout: 100ms, attempts: 2}}
seal:
  - {match: {namespace: "*"}, keys: [a]}
resilience: {attempts: 7, breaker: {failures: 4, openFor: 1m}}
`, backend)
		backend.Fake("a").Always(kmstest.Stall())
		for range 2 {
			_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)})
			wantClass(t, err, kms.Unavailable)
		}
		for words, want := range map[string]int{"call a wrap unavailable": 4, "retry a wrap": 2, "breaker a closed open": 1} {
			if n := s.count(words); n != want {
				t.Errorf("%s: %d, want %d: %v", words, n, want, s.n)
			}
		}
		// An open breaker returns at once, with an error that holds workflow code.
		start := time.Now()
		_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)})
		wantClass(t, err, kms.Unavailable)
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %s with the breaker open", took)
		}
		if n := s.count("rejected a wrap breaker open"); n != 1 {
			t.Errorf("%d rejections: %v", n, s.n)
		}
		backend.Fake("a").Heal()
		<-time.After(time.Minute)
		encode(t, c, "n", payload(t, 1))
		c.Close()
		if n := s.count("breaker a half-open closed"); n != 1 {
			t.Errorf("the breaker did not close: %v", s.n)
		}
	})
}

func TestPolicyDefaultsAreThoseOfResilience(t *testing.T) {
	got := policy.Default("fake://a").Keys["default"].Resilience
	ours := resilience.Config{}.WithDefaults()
	want := policy.Resilience{
		Timeout: ours.Timeout, Attempts: ours.Attempts, RetryBudget: ours.RetryBudget, Concurrency: ours.Concurrency, Queue: ours.Queue,
		Breaker: policy.Breaker{Failures: ours.BreakerFailures, OpenFor: ours.BreakerOpenFor},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-resilience +policy):\n%s", diff)
	}
}

// scriptedOpener opens fakes, unless open returns an error.
func scriptedOpener(open func(ctx context.Context, host string) error) *opener {
	var mu sync.Mutex
	fakes := make(map[string]*kmstest.Fake)
	return &opener{open: func(ctx context.Context, u *url.URL) (kms.Key, error) {
		if err := open(ctx, u.Host); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if fakes[u.Host] == nil {
			fakes[u.Host] = kmstest.NewFake(u.Host)
		}
		return fakes[u.Host], nil
	}}
}

// If a KMS is out when a process starts, the process starts anyway if there is another KMS.
func TestKMSOutAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		out := ""
		set := func(host string) { mu.Lock(); defer mu.Unlock(); out = host }
		o := scriptedOpener(func(_ context.Context, host string) error {
			mu.Lock()
			defer mu.Unlock()
			if out == host || out == "*" {
				return kmstest.Err(kms.Unavailable)
			}
			return nil
		})
		whole, _ := newWatchedCodec(t, twoKeys, o)
		sealed := encode(t, whole, "n", payload(t, 1))

		set("near")
		c, _ := newWatchedCodec(t, twoKeys, o)
		if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed)[0]; d.Err != nil {
			t.Error(d.Err)
		}
		_, err := c.Encode(t.Context(), codec.EncodeOptions{Namespace: "primary"}, []*commonpb.Payload{payload(t, 1)})
		wantClass(t, err, kms.Unavailable)

		set("far")
		c, s := newWatchedCodec(t, twoKeys, o)
		if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed)[0]; d.Err != nil {
			t.Error(d.Err)
		}
		_, err = c.Encode(t.Context(), codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)})
		wantClass(t, err, kms.Unavailable)
		alone := encode(t, c, "primary", payload(t, 1))[0]
		if diff := cmp.Diff([]string{"fake://near@1"}, codec.KeyIDs(alone)); diff != "" || s.count("missing far unavailable") != 1 {
			t.Errorf("%s%v", diff, s.n)
		}

		set("")
		encode(t, c, "n", payload(t, 1))
		<-time.After(5 * time.Second)
		both := encode(t, c, "primary", payload(t, 1))[0]
		if diff := cmp.Diff([]string{"fake://near@1", "fake://far@1"}, codec.KeyIDs(both)); diff != "" || s.count("missing far unavailable") != 1 {
			t.Errorf("after five seconds: %s%v", diff, s.n)
		}

		set("*")
		p, err := policy.Parse("test.yaml", []byte(twoKeys))
		if err != nil {
			t.Fatal(err)
		}
		_, err = codec.New(t.Context(), codec.Config{Policy: p, Registry: kms.NewRegistry(o)})
		wantClass(t, err, kms.Unavailable)
	})
}

// A KMS that hangs when a process starts delays it for two seconds at most. It blocks no
// opening with another key, and leaves no key open.
func TestKMSThatHangsAtTheStart(t *testing.T) {
	for name, late := range map[string]error{"and fails": kmstest.Err(kms.Unavailable), "and answers too late": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				o := scriptedOpener(func(ctx context.Context, host string) error {
					select {
					case <-hang:
						if host == "far" {
							<-ctx.Done()
							return late
						}
					default:
					}
					return nil
				})
				whole, _ := newWatchedCodec(t, twoKeys, o)
				sealed := encode(t, whole, "n", payload(t, 1))
				close(hang)

				start := time.Now()
				c, _ := newWatchedCodec(t, twoKeys, o)
				if d := c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed)[0]; d.Err != nil {
					t.Error(d.Err)
				}
				if d := time.Since(start); d != 2*time.Second {
					t.Errorf("started and opened after %s", d)
				}
				hurried, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := c.Encode(hurried, codec.EncodeOptions{Namespace: "n"}, []*commonpb.Payload{payload(t, 1)})
				if kms.ClassOf(err) != kms.Canceled || !strings.Contains(err.Error(), "fake://far") {
					t.Errorf("it does not name the key: %v", err)
				}
				c.Close()
				whole.Close()
				if opened, closed := o.counts(); opened != closed {
					t.Errorf("%d keys opened, %d closed", opened, closed)
				}
			})
		})
	}
}

// A key that cannot be opened because its KMS hangs blocks neither opening with another key nor
// sealing without it.
func TestKeyThatHangsWhenItIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := false
		var mu sync.Mutex
		o := scriptedOpener(func(ctx context.Context, host string) error {
			mu.Lock()
			hangs := hang && strings.HasPrefix(host, "far-")
			mu.Unlock()
			if hangs {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		const yaml = `
keys:
  near: {uri: "fake://near-{namespace}"}
  far: {uri: "fake://far-{namespace}"}
seal:
  - {match: {namespace: "*"}, keys: [near, far], recipients: primary}
`
		whole, _ := newWatchedCodec(t, yaml, o)
		sealed := encode(t, whole, "n", payload(t, 1), payload(t, 2), payload(t, 3))
		mu.Lock()
		hang = true
		mu.Unlock()
		c, s := newWatchedCodec(t, yaml, o)
		start := time.Now()
		for _, d := range c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed) {
			if d.Err != nil {
				t.Error(d.Err)
			}
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("opening took %s", took)
		}
		for _, d := range c.Decode(t.Context(), codec.DecodeOptions{Namespace: "n"}, sealed) {
			if d.Err != nil {
				t.Error(d.Err)
			}
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("opening again took %s", took-2*time.Second)
		}
		start = time.Now()
		encode(t, c, "n", payload(t, 1))
		if took := time.Since(start); took != time.Second || s.count("missing far unavailable") != 1 {
			t.Errorf("sealing took %s: %v", took, s.n)
		}
		encode(t, c, "n", payload(t, 1))
		if took := time.Since(start); took != time.Second || s.count("missing far unavailable") != 2 {
			t.Errorf("sealing twice took %s: %v", took, s.n)
		}
	})
}
