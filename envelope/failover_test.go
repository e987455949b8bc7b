package envelope_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// keyed opens with keys of any kind.
func keyed(keys ...kms.Key) func(*envelope.OpenerConfig) {
	return func(c *envelope.OpenerConfig) {
		c.Keys = envelope.StaticKeys(keys...)
	}
}

// One of two KEKs dies: nothing is lost, and no caller waits much longer than
// FailoverAfter.
func TestOneOfTwoKEKsDies(t *testing.T) {
	const callers, each = 64, 8
	later := envelope.DefaultFailoverAfter + 100*time.Millisecond
	for _, tc := range []struct {
		name string
		hurt func(first, second *kmstest.Fake)
		most time.Duration
	}{
		{"the first stalls", func(first, _ *kmstest.Fake) { first.Always(kmstest.Stall()) }, later},
		{"the first is slow", func(first, _ *kmstest.Fake) { first.Always(kmstest.Slow(1500 * time.Millisecond)) }, later},
		{"the first is unavailable", func(first, _ *kmstest.Fake) { first.Always(kmstest.Fail(kms.Unavailable)) }, 100 * time.Millisecond},
		{"the first throttles", func(first, _ *kmstest.Fake) { first.Always(kmstest.Fail(kms.Throttled)) }, 100 * time.Millisecond},
		{"the first is disabled", func(first, _ *kmstest.Fake) { first.Disable() }, 100 * time.Millisecond},
		{"the first denies", func(first, _ *kmstest.Fake) { first.Always(kmstest.Fail(kms.Denied)) }, 100 * time.Millisecond},
		{"the first lies", func(first, _ *kmstest.Fake) { first.Always(kmstest.WrongDataKey()) }, 100 * time.Millisecond},
		{"the second dies", func(_, second *kmstest.Fake) { second.Always(kmstest.Stall()) }, 100 * time.Millisecond},
		{"the second is disabled", func(_, second *kmstest.Fake) { second.Disable() }, 100 * time.Millisecond},
		// What a race that gave up on the first would lose.
		{"the first is slow, the second refuses", func(first, second *kmstest.Fake) {
			first.Always(kmstest.Slow(3 * time.Second))
			second.Disable()
		}, 3100 * time.Millisecond},
		{"the first stalls, the second is slow", func(first, second *kmstest.Fake) {
			first.Always(kmstest.Stall())
			second.Always(kmstest.Slow(2 * time.Second))
		}, 3100 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := kmstest.NewFake("a"), kmstest.NewFake("b")
				s := newSealer(t, envelope.SealerConfig{}, first, second)
				var batches [][]envelope.Item
				for c := range callers {
					var batch []envelope.Item
					for i := range each {
						batch = append(batch, items(mustSeal(t, s, claims, fmt.Sprint(c, i))...)...)
					}
					batches = append(batches, batch)
				}
				o := newOpener(t, nil, first, second)
				tc.hurt(first, second)
				var wg sync.WaitGroup
				for c, batch := range batches {
					wg.Go(func() {
						start := time.Now()
						for i, got := range o.Open(t.Context(), batch...) {
							if got.Err != nil || string(got.Plaintext) != fmt.Sprint(c, i) {
								t.Errorf("item %d of %d: %q, %v", i, c, got.Plaintext, got.Err)
							}
						}
						if took := time.Since(start); took > tc.most {
							t.Errorf("it took %s, want at most %s", took, tc.most)
						}
					})
				}
				wg.Wait()
				// All that was opened is in the cache, whichever recipient it came from.
				asked := first.Counts().Unwraps + second.Counts().Unwraps
				for _, batch := range batches {
					start := time.Now()
					for _, got := range o.Open(t.Context(), batch...) {
						if got.Err != nil {
							t.Error(got.Err)
						}
					}
					if took := time.Since(start); took > 0 {
						t.Errorf("opening again took %s", took)
					}
				}
				if again := first.Counts().Unwraps + second.Counts().Unwraps; again != asked {
					t.Errorf("opening again made %d unwrap calls", again-asked)
				}
			})
		})
	}
}

// Envelopes of a KEK that is well do not wait for those of one that is not, in
// the same call.
func TestOneKEKHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sick, well := kmstest.NewFake("sick"), kmstest.NewFake("well")
		both := mustSeal(t, newSealer(t, envelope.SealerConfig{}, sick, well), claims, "both")
		alone := mustSeal(t, newSealer(t, envelope.SealerConfig{}, well), claims, "alone")
		lost := mustSeal(t, newSealer(t, envelope.SealerConfig{}, sick), claims, "lost")
		sick.Always(kmstest.Stall())
		o := newOpener(t, nil, sick, well)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		got := o.Open(ctx, items(append(append(both, alone...), lost...)...)...)
		if got[0].Err != nil || got[1].Err != nil {
			t.Errorf("%v, %v", got[0].Err, got[1].Err)
		}
		wantClass(t, got[2].Err, kms.Canceled)
		if n := well.Counts().Unwraps; n != 2 {
			t.Errorf("%d unwrap calls", n)
		}
	})
}

// What a recipient answers after it was given up on is in the cache.
func TestLateAnswerIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := kmstest.NewFake("a"), kmstest.NewFake("b")
		item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, first, second), claims, "x")...)[0]
		first.Always(kmstest.Slow(3 * time.Second))
		o := newOpener(t, nil, first, second)
		if got := openOne(t, o, item); got.Err != nil {
			t.Fatal(got.Err)
		}
		pass(5 * time.Second)
		alone := envelope.Item{Envelope: item.Envelope}
		first.Always(kmstest.Fail(kms.Unavailable))
		if got := openOne(t, o, alone); got.Err != nil || first.Counts().Unwraps != 1 || second.Counts().Unwraps != 1 {
			t.Errorf("%v after %d and %d unwraps", got.Err, first.Counts().Unwraps, second.Counts().Unwraps)
		}
	})
}

func TestFailoverAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := []*kmstest.Fake{kmstest.NewFake("a"), kmstest.NewFake("b"), kmstest.NewFake("c")}
		item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, keys...), claims, "x")...)[0]
		keys[0].Always(kmstest.Stall())
		keys[1].Always(kmstest.Stall())
		o := newOpener(t, func(c *envelope.OpenerConfig) { c.FailoverAfter = 200 * time.Millisecond }, keys...)
		start := time.Now()
		if got := openOne(t, o, item); got.Err != nil {
			t.Error(got.Err)
		}
		if took := time.Since(start); took != 400*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

// A recipient that fails is followed at once, and the next one has its own time.
func TestEachRecipientHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := []*kmstest.Fake{kmstest.NewFake("a"), kmstest.NewFake("b"), kmstest.NewFake("c")}
		item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, keys...), claims, "x")...)[0]
		keys[0].Always(kmstest.Fault{Latency: 900 * time.Millisecond, Err: kmstest.Err(kms.Unavailable)})
		keys[1].Always(kmstest.Slow(900 * time.Millisecond))
		o := newOpener(t, nil, keys...)
		if got := openOne(t, o, item); got.Err != nil {
			t.Error(got.Err)
		}
		if n := keys[2].Counts().Unwraps; n != 0 {
			t.Error("the third was asked, though the second had not had its time")
		}
	})
}

// outKey is a key that may know that its KMS is out.
type outKey struct {
	*kmstest.Fake
	out atomic.Bool
}

func (k *outKey) Available() bool { return !k.out.Load() }

func TestUnavailableKEKsAreAskedLast(t *testing.T) {
	a, b := &outKey{Fake: kmstest.NewFake("a")}, &outKey{Fake: kmstest.NewFake("b")}
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, a.Fake, b.Fake), claims, "x")...)[0]
	for _, tc := range []struct {
		name       string
		aOut, bOut bool
		a, b       int // unwraps
	}{
		{"neither", false, false, 1, 0},
		{"the first", true, false, 0, 1},
		{"the second", false, true, 1, 0},
		{"both", true, true, 1, 0},
	} {
		a.out.Store(tc.aOut)
		b.out.Store(tc.bOut)
		beforeA, beforeB := a.Counts().Unwraps, b.Counts().Unwraps
		if got := openOne(t, newOpener(t, keyed(a, b)), item); got.Err != nil {
			t.Errorf("%s: %v", tc.name, got.Err)
		}
		if n, m := a.Counts().Unwraps-beforeA, b.Counts().Unwraps-beforeB; n != tc.a || m != tc.b {
			t.Errorf("%s: %d and %d unwraps", tc.name, n, m)
		}
	}
	t.Run("and still asked", func(t *testing.T) {
		a.out.Store(true)
		b.out.Store(false)
		b.Fake.Always(kmstest.Fail(kms.Denied))
		defer b.Heal()
		if got := openOne(t, newOpener(t, keyed(a, b)), item); got.Err != nil {
			t.Error(got.Err)
		}
	})
}

// A stale data key serves when no other recipient opens the envelope in time.
func TestStaleDataKeyIsTheLastResort(t *testing.T) {
	for _, tc := range []struct {
		name   string
		second kmstest.Fault
		asked  int // of the second
		within time.Duration
	}{
		{"the second opens", kmstest.Healthy(), 1, 0},
		{"the second is unavailable too", kmstest.Fail(kms.Unavailable), 1, 0},
		{"the second may not unwrap", kmstest.Fail(kms.Denied), 1, 0},
		{"the second stalls", kmstest.Stall(), 1, envelope.DefaultFailoverAfter},
		{"the second lies", kmstest.WrongDataKey(), 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, envelope.SealerConfig{}, "a", "b")
				item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
				pass(6 * time.Minute)
				r.keys[0].Always(kmstest.Fail(kms.Unavailable))
				r.keys[1].Always(tc.second)
				start := time.Now()
				if got := openOne(t, r.opener, item); got.Err != nil || string(got.Plaintext) != "x" {
					t.Errorf("%q, %v", got.Plaintext, got.Err)
				}
				if took := time.Since(start); took != tc.within {
					t.Errorf("it took %s, want %s", took, tc.within)
				}
				if n := r.keys[1].Counts().Unwraps; n != tc.asked {
					t.Errorf("%d unwraps by the second", n)
				}
			})
		})
	}
	t.Run("the first stalls as well", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, envelope.SealerConfig{}, "a", "b")
			item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
			pass(6 * time.Minute)
			// Its stale data key comes when the refresh has failed, after the call of the second.
			r.keys[0].Always(kmstest.Fault{Latency: 1500 * time.Millisecond, Err: kmstest.Err(kms.Unavailable)})
			r.keys[1].Always(kmstest.Stall())
			start := time.Now()
			if got := openOne(t, r.opener, item); got.Err != nil {
				t.Error(got.Err)
			}
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	})
	t.Run("not past its stale lifetime, nor when refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, envelope.SealerConfig{}, "a", "b")
			item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
			pass(6 * time.Minute)
			r.keys[0].Disable()
			r.keys[1].Disable()
			wantClass(t, openOne(t, r.opener, item).Err, kms.Disabled)
		})
	})
	t.Run("for a caller that gives up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, envelope.SealerConfig{}, "a", "b")
			item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
			pass(6 * time.Minute)
			r.keys[0].Always(kmstest.Fail(kms.Unavailable))
			r.keys[1].Always(kmstest.Stall())
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if got := r.opener.Open(ctx, item)[0]; got.Err != nil {
				t.Error(got.Err)
			}
		})
	})
}

func TestCallerGivesUpOnSeveralRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := kmstest.NewFake("a"), kmstest.NewFake("b")
		item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, first, second), claims, "x")...)[0]
		first.Always(kmstest.Stall())
		second.Always(kmstest.Stall())
		o := newOpener(t, nil, first, second)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		wantClass(t, o.Open(ctx, item)[0].Err, kms.Canceled)
		start := time.Now()
		wantClass(t, openOne(t, o, item).Err, kms.Unavailable)
		if took := time.Since(start); took > envelope.DefaultUnwrapTimeout {
			t.Errorf("it took %s", took)
		}
	})
}

// Open tries the keys that were found, and returns the error for the others if those do
// not open the envelope.
func TestKeysFunctionFailsInPart(t *testing.T) {
	a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
	both := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, a, b), claims, "x")...)[0]
	onlyB := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, b), claims, "x")...)[0]
	o := newOpener(t, func(c *envelope.OpenerConfig) {
		c.Keys = func(context.Context, []envelope.Wanted) []envelope.Found {
			return []envelope.Found{{Keys: []kms.Key{a}, Err: &kms.Error{Class: kms.Unavailable, Op: "open key"}}}
		}
	})
	if got := openOne(t, o, both); got.Err != nil {
		t.Error(got.Err)
	}
	wantClass(t, openOne(t, o, onlyB).Err, kms.Unavailable)
	a.Always(kmstest.Fail(kms.Denied))
	cold := newOpener(t, func(c *envelope.OpenerConfig) {
		c.Keys = func(context.Context, []envelope.Wanted) []envelope.Found {
			return []envelope.Found{{Keys: []kms.Key{a}, Err: &kms.Error{Class: kms.Unavailable, Op: "open key"}}}
		}
	})
	wantClass(t, openOne(t, cold, both).Err, kms.Unavailable)
}

// Many contexts in one call do not flood the KMS.
func TestUnwrapCallsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		s := newSealer(t, envelope.SealerConfig{}, key)
		var sealed []envelope.Sealed
		for i := range 100 {
			sealed = append(sealed, mustSeal(t, s, envelope.Claims{Namespace: fmt.Sprint(i)}, "x")...)
		}
		key = key.Reopen()
		key.Always(kmstest.Slow(10 * time.Millisecond))
		for _, got := range newOpener(t, nil, key).Open(t.Context(), items(sealed...)...) {
			if got.Err != nil {
				t.Error(got.Err)
			}
		}
		if c := key.Counts(); c.Unwraps != 100 || c.MaxInFlight != 16 {
			t.Errorf("%d calls, %d at a time", c.Unwraps, c.MaxInFlight)
		}
	})
}

// Data keys of other envelopes, also cached and proven ones, open nothing and
// are not evicted for it.
func TestRecipientsOfAnotherEnvelope(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{}, "a")
	good, other := mustSeal(t, r.sealer, claims, "good")[0], mustSeal(t, r.sealer, claims, "other")[0]
	recipients := func(s envelope.Sealed) []format.Recipient {
		e, err := format.Parse(s.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		return e.Recipients
	}
	mixed := func(of ...format.Recipient) envelope.Item {
		b, err := format.Rewrap(good.Envelope, of)
		if err != nil {
			t.Fatal(err)
		}
		return envelope.Item{Envelope: b}
	}
	wantClass(t, openOne(t, r.opener, mixed(recipients(other)...)).Err, kms.Corrupt)
	// Of several recipients of one KEK the first counts, and no Sealer makes such envelopes.
	wantClass(t, openOne(t, r.opener, mixed(append(recipients(other), recipients(good)...)...)).Err, kms.Corrupt)
	for _, s := range []envelope.Sealed{good, other} {
		if got := openOne(t, r.opener, items(s)[0]); got.Err != nil {
			t.Error(got.Err)
		}
	}
	if n := r.keys[0].Counts().Unwraps; n != 0 {
		t.Errorf("%d unwraps", n)
	}
}

// A KMS that hangs takes longer to be found out than callers have: a stale data key
// serves callers with no time left, and only them.
func TestStaleDataKeyOutlastsAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, envelope.SealerConfig{}, "a")
		item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
		open := func(within time.Duration) envelope.Opened {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			return r.opener.Open(ctx, item)[0]
		}
		pass(6 * time.Minute)
		r.keys[0].Always(kmstest.Stall())
		wantClass(t, open(0).Err, kms.Canceled)
		if n := r.keys[0].Counts().Unwraps; n != 0 {
			t.Errorf("%d unwraps for a caller with no time left", n)
		}
		for range 2 { // the second joins the unwrap of the first
			if got := open(4 * time.Second); got.Err != nil || string(got.Plaintext) != "x" {
				t.Errorf("%q, %v", got.Plaintext, got.Err)
			}
		}
		pass(time.Hour)
		wantClass(t, open(4*time.Second).Err, kms.Canceled)
	})
	t.Run("not one that was revoked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, envelope.SealerConfig{}, "a", "b")
			item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
			pass(6 * time.Minute)
			r.keys[0].Always(kmstest.Fail(kms.Denied))
			r.keys[1].Always(kmstest.Stall())
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			wantClass(t, r.opener.Open(ctx, item)[0].Err, kms.Canceled)
		})
	})
}
