package envelope_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// missed counts envelopes by KEK and class.
type missed struct {
	mu sync.Mutex
	n  map[string]int
}

func (m *missed) tell(keyID string, class kms.Class, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n == nil {
		m.n = make(map[string]int)
	}
	m.n[keyID+" "+class.String()] += n
}

func (m *missed) want(t testing.TB, want map[string]int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if diff := cmp.Diff(want, m.n); diff != "" {
		t.Errorf("missing recipients (-want +got):\n%s", diff)
	}
}

func TestPrimaryRecipient(t *testing.T) {
	for _, tc := range []struct {
		name   string
		hurt   func(keys []*kmstest.Fake)
		keyIDs []string
		missed map[string]int
		within time.Duration
	}{
		{"all well", func([]*kmstest.Fake) {}, []string{"fake://a@1", "fake://b@1", "fake://c@1"}, nil, 0},
		{
			"one unavailable", func(k []*kmstest.Fake) { k[1].Always(kmstest.Fail(kms.Unavailable)) },
			[]string{"fake://a@1", "fake://c@1"},
			map[string]int{"fake://b unavailable": 2},
			0,
		},
		{
			"one denies", func(k []*kmstest.Fake) { k[2].Always(kmstest.Fail(kms.Denied)) },
			[]string{"fake://a@1", "fake://b@1"},
			map[string]int{"fake://c denied": 2},
			0,
		},
		{
			"one answers one too few", func(k []*kmstest.Fake) { k[2].Always(kmstest.Fault{Drop: true}) },
			[]string{"fake://a@1", "fake://b@1"},
			map[string]int{"fake://c internal": 2},
			0,
		},
		{
			"one stalls", func(k []*kmstest.Fake) { k[1].Always(kmstest.Stall()) },
			[]string{"fake://a@1", "fake://c@1"},
			map[string]int{"fake://b unavailable": 2},
			time.Second,
		},
		{
			"one within the grace", func(k []*kmstest.Fake) { k[1].Always(kmstest.Slow(900 * time.Millisecond)) },
			[]string{"fake://a@1", "fake://b@1", "fake://c@1"},
			nil, 900 * time.Millisecond,
		},
		{
			"the grace starts with the primary's answer", func(k []*kmstest.Fake) {
				k[0].Always(kmstest.Slow(3 * time.Second))
				k[1].Always(kmstest.Slow(3900 * time.Millisecond))
				k[2].Always(kmstest.Slow(4100 * time.Millisecond))
			},
			[]string{"fake://a@1", "fake://b@1"},
			map[string]int{"fake://c unavailable": 2},
			4 * time.Second,
		},
		{
			"all but the primary", func(k []*kmstest.Fake) {
				k[1].Always(kmstest.Stall())
				k[2].Disable()
			},
			[]string{"fake://a@1"},
			map[string]int{"fake://b unavailable": 2, "fake://c disabled": 2},
			time.Second,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m missed
				r := newRig(t, envelope.SealerConfig{Recipients: envelope.PrimaryRecipient, MissingRecipient: m.tell}, "a", "b", "c")
				tc.hurt(r.keys)
				start := time.Now()
				sealed := mustSeal(t, r.sealer, claims, "x", "y")
				if took := time.Since(start); took != tc.within {
					t.Errorf("it took %s, want %s", took, tc.within)
				}
				for _, s := range sealed {
					if diff := cmp.Diff(tc.keyIDs, s.KeyIDs); diff != "" {
						t.Errorf("key IDs (-want +got):\n%s", diff)
					}
					e, err := format.Parse(s.Envelope)
					if err != nil {
						t.Fatal(err)
					}
					var inside []string
					for _, rec := range e.Recipients {
						inside = append(inside, rec.KeyID)
					}
					if diff := cmp.Diff(tc.keyIDs, inside); diff != "" {
						t.Errorf("recipients (-want +got):\n%s", diff)
					}
				}
				m.want(t, tc.missed)
				for _, k := range r.keys {
					k.Heal()
					k.Enable()
				}
				// Each recipient that is there opens, in a process that knows none of it.
				for _, id := range tc.keyIDs {
					for _, k := range r.keys {
						if k.ID() == strings.TrimSuffix(id, "@1") {
							if got := openOne(t, newOpener(t, nil, k.Reopen()), items(sealed[0])[0]); got.Err != nil || string(got.Plaintext) != "x" {
								t.Errorf("with %s: %q, %v", id, got.Plaintext, got.Err)
							}
						}
					}
				}
			})
		})
	}
}

func TestPrimaryMustWrap(t *testing.T) {
	for _, class := range kms.Classes() {
		synctest.Test(t, func(t *testing.T) {
			var m missed
			r := newRig(t, envelope.SealerConfig{Recipients: envelope.PrimaryRecipient, MissingRecipient: m.tell}, "a", "b")
			r.keys[0].Always(kmstest.Fail(class))
			r.keys[1].Always(kmstest.Stall())
			start := time.Now()
			_, err := r.sealer.Seal(t.Context(), claims, []byte("x"))
			wantClass(t, err, class)
			if took := time.Since(start); took > 0 {
				t.Errorf("%s: it took %s", class, took)
			}
			m.want(t, nil)
		})
	}
}

func TestAllRecipientsMustWrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m missed
		r := newRig(t, envelope.SealerConfig{MissingRecipient: m.tell}, "a", "b")
		r.keys[1].Always(kmstest.Stall())
		_, err := r.sealer.Seal(t.Context(), claims, []byte("x"))
		wantClass(t, err, kms.Unavailable)
		r.keys[1].Always(kmstest.Fail(kms.Denied))
		_, err = r.sealer.Seal(t.Context(), claims, []byte("x"))
		wantClass(t, err, kms.Denied)
		m.want(t, nil)
	})
}

// A KEK that fails once is missing from what is sealed in the next five seconds,
// not from all that the data key could have been shared by.
func TestIncompleteDataKeyDoesNotLast(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limits envelope.DataKeyLimits
		lasts  time.Duration
	}{
		{"shared for long", envelope.DataKeyLimits{MaxPayloads: 1_000_000, MaxAge: time.Hour}, 5 * time.Second},
		{"shared for less", envelope.DataKeyLimits{MaxPayloads: 1_000_000, MaxAge: 2 * time.Second}, 2 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m missed
				r := newRig(t, envelope.SealerConfig{Limits: tc.limits, Recipients: envelope.PrimaryRecipient, MissingRecipient: m.tell}, "a", "b")
				r.keys[1].ScriptWrap(kmstest.Fail(kms.Throttled))
				for range 10 {
					if n := len(mustSeal(t, r.sealer, claims, "x")[0].KeyIDs); n != 1 {
						t.Errorf("%d recipients", n)
					}
				}
				m.want(t, map[string]int{"fake://b throttled": 10})
				pass(tc.lasts - time.Nanosecond)
				if n := len(mustSeal(t, r.sealer, claims, "x")[0].KeyIDs); n != 1 {
					t.Errorf("%d recipients, though the data key had not aged", n)
				}
				pass(time.Nanosecond)
				if n := len(mustSeal(t, r.sealer, claims, "x")[0].KeyIDs); n != 2 {
					t.Errorf("%d recipients after the KEK was back", n)
				}
				m.want(t, map[string]int{"fake://b throttled": 11})
				if n := r.keys[0].Counts().Wraps; n != 2 {
					t.Errorf("%d wraps", n)
				}
			})
		})
	}
}

// With a data key for each payload, too, those that wait wrapped ahead are not
// used for long after the KEK is back.
func TestIncompleteDataKeysAheadOfNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, envelope.SealerConfig{Recipients: envelope.PrimaryRecipient}, "a", "b")
		r.keys[1].Always(kmstest.Fail(kms.Unavailable))
		for range 300 {
			mustSeal(t, r.sealer, claims, "x")
		}
		synctest.Wait()
		r.keys[1].Heal()
		pass(5 * time.Second)
		for range 100 {
			if n := len(mustSeal(t, r.sealer, claims, "x")[0].KeyIDs); n != 2 {
				t.Fatalf("%d recipients five seconds after the KEK was back", n)
			}
		}
	})
}

// A KEK that is not waited for any more may still read its data keys, and is
// waited for by Close.
func TestLateWrapIsHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		primary := kmstest.NewFake("a")
		late := &lateWrapper{Fake: kmstest.NewFake("b"), gate: make(chan struct{})}
		s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{primary, late}, Recipients: envelope.PrimaryRecipient})
		if err != nil {
			t.Fatal(err)
		}
		mustSeal(t, s, claims, "x") // one payload, after which its data key is wiped
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			s.Close()
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait for a call under way")
		default:
		}
		close(late.gate)
		<-closed
		if late.wiped.Load() {
			t.Error("its data keys were wiped while it worked")
		}
	})
}

func TestBackendEndsItsGoroutine(t *testing.T) {
	key := kmstest.NewFake("a")
	key.ScriptWrap(kmstest.Fault{Hook: func(context.Context) error { runtime.Goexit(); return nil }})
	_, err := newSealer(t, envelope.SealerConfig{}, key).Seal(t.Context(), claims, []byte("x"))
	wantClass(t, err, kms.Internal)
}

func TestUnknownRecipients(t *testing.T) {
	_, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{kmstest.NewFake("a")}, Recipients: 2})
	if err == nil || !strings.Contains(err.Error(), "Recipients 2") {
		t.Errorf("got %v", err)
	}
}

func TestPrimaryUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m missed
		r := newRig(t, envelope.SealerConfig{Recipients: envelope.PrimaryRecipient, MissingRecipient: m.tell, Limits: envelope.DataKeyLimits{MaxPayloads: 10}}, "a", "b")
		r.keys[0].Always(kmstest.Slow(5 * time.Millisecond))
		r.keys[1].Each(func(c kmstest.Call) kmstest.Fault {
			if c.N%3 == 0 {
				return kmstest.Fail(kms.Unavailable)
			}
			return kmstest.Slow(time.Duration(c.N) * time.Millisecond)
		})
		var wg sync.WaitGroup
		var mu sync.Mutex
		lacking := 0
		for i := range 64 {
			wg.Go(func() {
				for j := range 20 {
					text := fmt.Sprint(i, j)
					sealed := mustSeal(t, r.sealer, claims, text)[0]
					mu.Lock()
					lacking += 2 - len(sealed.KeyIDs)
					mu.Unlock()
					if got := openOne(t, r.opener, items(sealed)[0]); got.Err != nil || string(got.Plaintext) != text {
						t.Errorf("%q, %v", got.Plaintext, got.Err)
					}
					pass(time.Millisecond)
				}
			})
		}
		wg.Wait()
		if lacking == 0 {
			t.Error("no envelope lacks a recipient: the test shows nothing")
		}
		m.want(t, map[string]int{"fake://b unavailable": lacking})
	})
}

// lateWrapper waits for its gate, whatever becomes of the context, and says
// whether its data keys were wiped meanwhile.
type lateWrapper struct {
	*kmstest.Fake
	gate  chan struct{}
	wiped atomic.Bool
}

func (k *lateWrapper) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	<-k.gate
	for _, d := range dataKeys {
		if bytes.Equal(d, make([]byte, len(d))) {
			k.wiped.Store(true)
		}
	}
	return k.Fake.Wrap(ctx, dataKeys, ec)
}
