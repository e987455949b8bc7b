package envelope_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

const (
	age   = time.Minute
	grace = 10 * time.Minute
)

// graceRig is a sealer with distinguishable data keys, and its KMS.
type graceRig struct {
	*envelope.Sealer
	key  *countedKey
	told missed // of payloads sealed in grace
}

func newGraceRig(t testing.TB, limits envelope.DataKeyLimits) *graceRig {
	t.Helper()
	r := &graceRig{key: newCountedKey()}
	if limits.MaxAge == 0 {
		limits.MaxAge = age
	}
	var err error
	r.Sealer, err = envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{r.key}, Limits: limits, SealedInGrace: r.told.tell})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// seal returns the number of the data key that sealed a payload.
func (r *graceRig) seal(t testing.TB) (number uint32, err error) {
	t.Helper()
	sealed, err := r.Seal(t.Context(), claims, []byte("x"))
	if err != nil {
		return 0, err
	}
	number, _ = readMark(t, sealed[0].Envelope)
	return number, nil
}

// sharing is how far a data key is shared, and how a sealer comes to have some in hand.
var sharing = []struct {
	name   string
	limits envelope.DataKeyLimits
	seals  int
}{
	{"shared data keys", envelope.DataKeyLimits{MaxPayloads: 1000, SealGrace: grace}, 1},
	{"one payload each", envelope.DataKeyLimits{MaxPayloads: 1, SealGrace: grace}, 50},
}

// What becomes of a seal when the KMS fails, and what of the data keys in hand.
func TestSealTable(t *testing.T) {
	const (
		served  = "served"
		refused = "refused"
	)
	states := []struct {
		name string
		wait time.Duration // since the data keys in hand were wrapped
		none bool
	}{
		{"within its age", age - 1, false},
		{"in its grace", age, false},
		{"at the end of its grace", age + grace - 1, false},
		{"past its grace", age + grace, false},
		{"none in hand", 0, true},
	}
	// By class: what happens in each state, and whether data keys that are in their
	// grace then are still in hand.
	want := map[kms.Class]struct {
		outcomes [5]string
		kept     bool
	}{
		kms.Unavailable: {[...]string{served, served, served, refused, refused}, true},
		kms.Throttled:   {[...]string{served, served, served, refused, refused}, true},
		kms.Denied:      {[...]string{served, refused, refused, refused, refused}, false},
		kms.Disabled:    {[...]string{served, refused, refused, refused, refused}, false},
		kms.NotFound:    {[...]string{served, refused, refused, refused, refused}, false},
		kms.Corrupt:     {[...]string{served, refused, refused, refused, refused}, true},
		kms.Internal:    {[...]string{served, refused, refused, refused, refused}, true},
		kms.Invalid:     {[...]string{served, refused, refused, refused, refused}, true},
		kms.Canceled:    {[...]string{served, refused, refused, refused, refused}, true},
	}
	for _, sh := range sharing {
		for _, class := range kms.Classes() {
			for i, state := range states {
				t.Run(fmt.Sprintf("%s/%s/%s", sh.name, class, state.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newGraceRig(t, sh.limits)
						start := time.Now()
						for range sh.seals * 2 { // the KMS takes no time
							if state.none {
								break
							}
							if _, err := r.seal(t); err != nil {
								t.Fatal(err)
							}
						}
						synctest.Wait()
						made := r.key.Counts().WrapItems
						pass(state.wait - time.Since(start))
						r.key.Always(kmstest.Fail(class))

						number, err := r.seal(t)
						synctest.Wait()
						switch wanted := want[class].outcomes[i]; {
						case wanted == refused:
							wantClass(t, err, class)
						case err != nil:
							t.Fatal(err)
						case int(number) >= made:
							t.Error("sealed under a data key that was made in the outage")
						case state.wait >= age:
							r.told.want(t, map[string]int{"fake://a " + class.String(): 1})
						default:
							r.told.want(t, nil)
						}
						if state.wait < age || state.wait >= age+grace {
							return
						}
						r.key.Always(kmstest.Fail(kms.Unavailable))
						if _, err := r.seal(t); (err == nil) != want[class].kept {
							t.Errorf("afterwards, with the KMS unavailable: %v, want data keys kept: %v", err, want[class].kept)
						}
						r.key.Heal()
						pass(5 * time.Second)
						if number, err := r.seal(t); err != nil || int(number) < made {
							t.Errorf("with the KMS back: data key %d, %v; want a new one", number, err)
						}
					})
				})
			}
		}
	}
}

// Without sealGrace a data key ends with its age, whatever the KMS is like.
func TestNoGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newGraceRig(t, envelope.DataKeyLimits{MaxPayloads: 1000})
		if _, err := r.seal(t); err != nil {
			t.Fatal(err)
		}
		r.key.Always(kmstest.Fail(kms.Unavailable))
		pass(age - 1)
		if _, err := r.seal(t); err != nil {
			t.Error(err)
		}
		pass(1)
		_, err := r.seal(t)
		wantClass(t, err, kms.Unavailable)
	})
}

// As long as the KMS answers, a data key past its age seals nothing, also if it has
// just been out and if it is slow.
func TestGraceIsForOutagesOnly(t *testing.T) {
	for _, latency := range []time.Duration{0, 50 * time.Millisecond, 900 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			seed := rand.Uint64()
			synctest.Test(t, func(t *testing.T) {
				r := newGraceRig(t, envelope.DataKeyLimits{MaxPayloads: 5, MaxAge: 2 * time.Second, SealGrace: grace})
				r.key.Always(kmstest.Slow(latency))
				var wg sync.WaitGroup
				for caller := range 16 {
					rnd := rand.New(rand.NewPCG(seed, uint64(caller)))
					wg.Go(func() {
						for range 50 {
							pass(time.Duration(rnd.Int64N(int64(5 * time.Second))))
							sealed, err := r.Seal(t.Context(), claims, make([][]byte, 1+rnd.IntN(8))...)
							if err != nil {
								t.Error(err)
								return
							}
							for _, s := range sealed {
								number, _ := readMark(t, s.Envelope)
								if old := time.Since(r.key.madeAt(number)); old >= 2*time.Second {
									t.Errorf("seed %d: a data key sealed at the age of %s", seed, old)
								}
							}
						}
					})
				}
				wg.Wait()
				r.told.want(t, nil)
			})
		})
	}
}

// In an outage, whatever 64 callers do at once, no data key seals more payloads or
// bytes than it may, or for longer; and all that was in hand is used before the
// first caller is refused.
func TestLimitsInGrace(t *testing.T) {
	for _, limits := range []envelope.DataKeyLimits{
		{MaxPayloads: 1},
		{MaxPayloads: 700},
		{MaxPayloads: 1_000_000, MaxBytes: 70_000},
	} {
		t.Run(fmt.Sprintf("%d payloads, %d bytes", limits.MaxPayloads, limits.MaxBytes), func(t *testing.T) {
			seed := rand.Uint64()
			synctest.Test(t, func(t *testing.T) {
				limits.MaxAge, limits.SealGrace = age, grace
				r := newGraceRig(t, limits)
				const size, callers = 100, 64
				got := make(map[uint32]use)
				var mu sync.Mutex
				add := func(sealed []envelope.Sealed) {
					mu.Lock()
					defer mu.Unlock()
					for _, s := range sealed {
						number, _ := readMark(t, s.Envelope)
						got[number] = use{got[number].payloads + 1, got[number].bytes + size}
						if old := time.Since(r.key.madeAt(number)); old >= age+grace {
							t.Errorf("a data key sealed at the age of %s", old)
						}
					}
				}
				for range 500 {
					sealed, err := r.Seal(t.Context(), claims, make([]byte, size))
					if err != nil {
						t.Fatal(err)
					}
					add(sealed)
				}
				synctest.Wait()
				pass(age)
				r.key.Each(func(kmstest.Call) kmstest.Fault {
					return kmstest.Fault{Latency: 10 * time.Millisecond, Err: kmstest.Err(kms.Unavailable)}
				})
				made := r.key.count()
				var wg sync.WaitGroup
				for caller := range callers {
					rnd := rand.New(rand.NewPCG(seed, uint64(caller)))
					wg.Go(func() {
						for range 30 {
							plaintexts := make([][]byte, 1+rnd.IntN(3))
							for i := range plaintexts {
								plaintexts[i] = make([]byte, size)
							}
							sealed, err := r.Seal(t.Context(), claims, plaintexts...)
							if err == nil {
								add(sealed)
							}
						}
					})
				}
				wg.Wait()
				for range 3 { // what is left for single payloads
					sealed, err := r.Seal(t.Context(), claims, make([]byte, size))
					if err == nil {
						add(sealed)
					}
				}
				if r.key.count() != made {
					t.Fatal("data keys were made in the outage")
				}
				inGrace := 0
				for number, u := range got {
					if u.payloads > limits.MaxPayloads || limits.MaxBytes > 0 && u.bytes > limits.MaxBytes {
						t.Errorf("seed %d: data key %d sealed %+v", seed, number, u)
					}
					inGrace += u.payloads
				}
				inGrace -= 500
				if inGrace == 0 {
					t.Error("nothing was sealed in the outage")
				}
				most := limits.MaxPayloads
				if limits.MaxBytes > 0 {
					most = int(limits.MaxBytes) / size
				}
				for number := range made {
					if u := got[uint32(number)]; u.payloads != most {
						t.Errorf("seed %d: data key %d of %d sealed %+v: some of it was lost", seed, number, made, u)
					}
				}
				_, err := r.Seal(t.Context(), claims, make([]byte, size))
				wantClass(t, err, kms.Unavailable)
			})
		})
	}
}

// A KMS that hangs delays the first callers by at most a second and a third of their
// time, and no later caller in the outage.
func TestGraceWithoutWaiting(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault kmstest.Fault
		has   time.Duration // how long the first caller has; 0 is for ever
		first time.Duration // how long it waits
		wraps int           // in a minute of traffic, at most
	}{
		{"hangs", kmstest.Stall(), 0, time.Second, 11},
		{"hangs, workflow code calls", kmstest.Stall(), 3 * time.Second, time.Second, 11},
		{"hangs, the caller has little time", kmstest.Stall(), 1500 * time.Millisecond, 500 * time.Millisecond, 11},
		{"hangs, the caller has hardly any time", kmstest.Stall(), 300 * time.Millisecond, 200 * time.Millisecond, 11},
		{"fails at once", kmstest.Fail(kms.Unavailable), 0, 0, 61},
		{"throttles at once", kmstest.Fail(kms.Throttled), 3 * time.Second, 0, 61},
		{"fails after a while", kmstest.Fault{Latency: 300 * time.Millisecond, Err: kmstest.Err(kms.Unavailable)}, 0, 300 * time.Millisecond, 61},
	} {
		for _, sh := range sharing {
			t.Run(tc.name+"/"+sh.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sh.limits.SealGrace = envelope.MaxSealGrace
					r := newGraceRig(t, sh.limits)
					for range sh.seals * 20 {
						if _, err := r.seal(t); err != nil {
							t.Fatal(err)
						}
					}
					synctest.Wait()
					pass(age)
					r.key.Always(tc.fault)
					before, start := r.key.Counts().Wraps, time.Now()
					ctx := t.Context()
					if tc.has > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, tc.has)
						defer cancel()
					}
					if _, err := r.Seal(ctx, claims, []byte("x")); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(start); took != tc.first {
						t.Errorf("the first caller waited %s, want %s", took, tc.first)
					}
					pass(time.Second - tc.first) // a wrap that hangs is an outage for all callers then
					for range 60 {
						start := time.Now()
						if _, err := r.seal(t); err != nil {
							t.Fatal(err)
						}
						if took := time.Since(start); took > 0 {
							t.Fatalf("a caller later in the outage waited %s", took)
						}
						pass(time.Second)
					}
					if n := r.key.Counts().Wraps - before; n > tc.wraps || n < 5 {
						t.Errorf("the KMS was asked %d times in a minute", n)
					}
					r.key.Heal()
					start, made := time.Now(), uint32(r.key.count())
					for {
						number, err := r.seal(t)
						if err != nil {
							t.Fatal(err)
						}
						if number >= made {
							break
						}
						pass(100 * time.Millisecond)
					}
					// The wrap under way, which hangs for up to WrapTimeout, and the pause after it.
					if took := time.Since(start); took > envelope.DefaultWrapTimeout+1200*time.Millisecond || tc.fault.Stall == false && took > 1300*time.Millisecond {
						t.Errorf("new data keys were used %s after the KMS was back", took)
					}
				})
			})
		}
	}
}

// A call that needs more data keys than there are in hand fails, and takes none
// from calls that need fewer: in an outage each of them is worth a payload.
func TestLargeCallsLeaveTheHandAlone(t *testing.T) {
	for _, wait := range []time.Duration{0, age} { // within their age, and in their grace
		t.Run(wait.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newGraceRig(t, envelope.DataKeyLimits{MaxPayloads: 1, SealGrace: grace})
				const seals = 1000
				for range seals {
					if _, err := r.seal(t); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				inHand := r.key.Counts().WrapItems - seals
				pass(wait)
				r.key.Each(func(kmstest.Call) kmstest.Fault {
					return kmstest.Fault{Latency: time.Second, Err: kmstest.Err(kms.Unavailable)}
				})
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						_, err := r.Seal(t.Context(), claims, make([][]byte, inHand+1)...)
						wantClass(t, err, kms.Unavailable)
					})
					wg.Go(func() { // one that gives up
						ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
						defer cancel()
						_, err := r.Seal(ctx, claims, make([][]byte, inHand+1)...)
						wantClass(t, err, kms.Canceled)
					})
				}
				wg.Wait()
				if inHand < 100 {
					t.Fatalf("only %d data keys in hand: the test shows little", inHand)
				}
				for i := range inHand {
					if _, err := r.seal(t); err != nil {
						t.Fatalf("payload %d of %d: %v", i, inHand, err)
					}
				}
				_, err := r.seal(t)
				wantClass(t, err, kms.Unavailable)
			})
		})
	}
}

// While a KMS fails large requests and answers small ones, the pool requests no supply,
// so the waiters get their keys.
func TestNoSupplyWhileWrapsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newGraceRig(t, envelope.DataKeyLimits{MaxPayloads: 1})
		for range 1000 {
			if _, err := r.seal(t); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		r.key.Each(func(c kmstest.Call) kmstest.Fault {
			if c.Items > 3 {
				return kmstest.Fault{Latency: 10 * time.Millisecond, Err: kmstest.Err(kms.Throttled)}
			}
			return kmstest.Slow(10 * time.Millisecond)
		})
		failed := 0
		for range 2000 {
			if _, err := r.seal(t); err != nil {
				failed++
			}
		}
		if failed > 1000 {
			t.Errorf("%d of 2000 payloads failed", failed)
		}
	})
}

// A refusal ends it all: data keys in their grace, and those within their age, and
// an outage that follows does not bring them back.
func TestRefusalForgetsDataKeys(t *testing.T) {
	for _, class := range []kms.Class{kms.Denied, kms.Disabled, kms.NotFound} {
		t.Run(class.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newGraceRig(t, envelope.DataKeyLimits{MaxPayloads: 1, SealGrace: grace})
				for range 100 {
					if _, err := r.seal(t); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				r.key.Always(kmstest.Fail(class))
				sealed := 0
				for ; ; sealed++ { // until half of those in hand are gone, and the pool requests more
					_, err := r.seal(t)
					synctest.Wait()
					if err != nil {
						wantClass(t, err, class)
						break
					}
				}
				if inHand := r.key.Counts().WrapItems - 100; sealed == 0 || sealed > inHand/2+1 {
					t.Errorf("%d payloads were sealed with %d data keys in hand", sealed, inHand)
				}
				r.key.Always(kmstest.Fail(kms.Unavailable))
				_, err := r.seal(t)
				wantClass(t, err, kms.Unavailable)
			})
		})
	}
}

// A data key that lacks a recipient ends after five seconds, outage or not: what it
// sealed in an outage would be lost with the one KEK that is out.
func TestNoGraceWithoutARecipient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, envelope.SealerConfig{
			Recipients: envelope.PrimaryRecipient, Limits: envelope.DataKeyLimits{MaxPayloads: 1000, MaxAge: age, SealGrace: grace},
		}, "a", "b")
		r.keys[1].Always(kmstest.Fail(kms.Unavailable))
		mustSeal(t, r.sealer, claims, "x")
		r.keys[0].Always(kmstest.Fail(kms.Unavailable))
		pass(5*time.Second - 1)
		mustSeal(t, r.sealer, claims, "x")
		pass(1)
		_, err := r.sealer.Seal(t.Context(), claims, []byte("x"))
		wantClass(t, err, kms.Unavailable)
		r.keys[0].Heal()
		r.keys[1].Heal()
		mustSeal(t, r.sealer, claims, "x")
		pass(age)
		r.keys[0].Always(kmstest.Fail(kms.Unavailable))
		if n := len(mustSeal(t, r.sealer, claims, "x")[0].KeyIDs); n != 2 {
			t.Errorf("%d recipients", n)
		}
	})
}

// With several KEKs the hook names the one that is out.
func TestSealedInGraceNamesTheKEK(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault kmstest.Fault
		class kms.Class
	}{
		{"fails", kmstest.Fail(kms.Throttled), kms.Throttled},
		{"hangs", kmstest.Stall(), kms.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told missed
				r := newRig(t, envelope.SealerConfig{
					Limits:        envelope.DataKeyLimits{MaxPayloads: 1000, MaxAge: age, SealGrace: grace},
					SealedInGrace: told.tell,
				}, "a", "b")
				mustSeal(t, r.sealer, claims, "x")
				pass(age)
				r.keys[1].Always(tc.fault)
				mustSeal(t, r.sealer, claims, "x", "y")
				mustSeal(t, r.sealer, claims, "z")
				told.want(t, map[string]int{"fake://b " + tc.class.String(): 3})
			})
		})
	}
}

func TestDrainInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newGraceRig(t, envelope.DataKeyLimits{MaxPayloads: 1000, SealGrace: grace})
		if _, err := r.seal(t); err != nil {
			t.Fatal(err)
		}
		pass(age)
		r.key.Always(kmstest.Fail(kms.Unavailable))
		if _, err := r.seal(t); err != nil {
			t.Fatal(err)
		}
		r.Drain()
		_, err := r.seal(t)
		wantClass(t, err, kms.Unavailable)
	})
}

func TestSealGraceBounds(t *testing.T) {
	for _, d := range []time.Duration{-1, envelope.MaxSealGrace + 1} {
		_, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{kmstest.NewFake("a")}, Limits: envelope.DataKeyLimits{SealGrace: d}})
		if err == nil || !cmp.Equal(err.Error(), "envelope: new sealer: sealGrace must be up to 1h0m0s") {
			t.Errorf("%s: %v", d, err)
		}
	}
}
