package kms_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

const (
	// remembered is how long package envelope remembers that a KMS failed, to seal and
	// to open: so much later than its KMS answers again it may hear a refusal.
	remembered = 5 * time.Second
	// long is longer than any test; moment is over at once, and instant in no time.
	long    = time.Hour
	moment  = 50 * time.Millisecond
	instant = time.Nanosecond
)

// onEachRealm runs test once for each backend, and over the in-memory KMS in a
// bubble, where time costs nothing. inBubble says which.
func onEachRealm(t *testing.T, name string, makers map[string]func(testing.TB) *realm, test func(t *testing.T, maker func(testing.TB) *realm, inBubble bool)) {
	t.Helper()
	t.Run("fake/"+name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, fakeRealm, true) })
	})
	for backend, maker := range makers {
		t.Run(backend+"/"+name, func(t *testing.T) {
			t.Parallel()
			test(t, maker, false)
		})
	}
}

// matrix is what was seen, for people: a row for each backend and class.
type matrix struct {
	mu    sync.Mutex
	cells map[string]string
	from  map[string]string
}

func (m *matrix) note(t testing.TB, class kms.Class, state, how, outcome string) {
	t.Helper()
	backend := strings.Split(t.Name(), "/")[2]
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cells == nil {
		m.cells, m.from = make(map[string]string), make(map[string]string)
	}
	m.cells[backend+class.String()+state] = outcome
	m.from[backend+class.String()] = how
}

func (m *matrix) log(t testing.TB, states []string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-7s %-12s %-22s", "", "", "failure comes from")
	for _, s := range states {
		fmt.Fprintf(&b, " %-26s", s)
	}
	for _, backend := range []string{"fake", "local", "vault", "aws", "gcp"} {
		for _, class := range kms.Classes() {
			fmt.Fprintf(&b, "\n%-7s %-12s %-22s", backend, class, m.from[backend+class.String()])
			for _, s := range states {
				fmt.Fprintf(&b, " %-26s", m.cells[backend+class.String()+s])
			}
		}
	}
	t.Log(b.String())
}

// darkOpener is an opener, and what its cache did.
type darkOpener struct {
	*envelope.Opener
	stale, refused atomic.Int64
}

func newDarkOpener(t testing.TB, key kms.Key, fresh, stale time.Duration) *darkOpener {
	t.Helper()
	o := new(darkOpener)
	var err error
	o.Opener, err = envelope.NewOpener(envelope.OpenerConfig{
		Keys:  envelope.StaticKeys(key),
		Fresh: fresh, Stale: stale, UnwrapTimeout: patience,
		Observer: o,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func (o *darkOpener) CacheLookup(l cache.Lookup) {
	if l == cache.StaleHit {
		o.stale.Add(1)
	}
}

func (o *darkOpener) CacheEvicted(reason cache.Reason) {
	if reason == cache.Refused {
		o.refused.Add(1)
	}
}

func (o *darkOpener) open(ctx context.Context, s envelope.Sealed) error {
	return o.Open(ctx, envelope.Item{Envelope: s.Envelope})[0].Err
}

// darkSealer is a sealer that shares data keys, and how many payloads it sealed in
// grace.
type darkSealer struct {
	*envelope.Sealer
	inGrace atomic.Int64
}

func newDarkSealer(t testing.TB, key kms.Key, age, grace time.Duration) *darkSealer {
	t.Helper()
	s := new(darkSealer)
	var err error
	s.Sealer, err = envelope.NewSealer(envelope.SealerConfig{
		Keys: []kms.Key{key}, WrapTimeout: patience,
		Limits:        envelope.DataKeyLimits{MaxPayloads: 1_000_000, MaxAge: age, SealGrace: grace},
		SealedInGrace: func(_ string, _ kms.Class, n int) { s.inGrace.Add(int64(n)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// seal returns an envelope and its wrapped data key, which identifies it.
func (s *darkSealer) seal(ctx context.Context, t testing.TB) (sealed envelope.Sealed, dataKey string, err error) {
	t.Helper()
	out, err := s.Seal(ctx, claims, []byte("x"))
	if err != nil {
		return envelope.Sealed{}, "", err
	}
	e, err := format.Parse(out[0].Envelope)
	if err != nil {
		t.Fatal(err)
	}
	return out[0], string(e.Recipients[0].WrappedKey), nil
}

func mustSeal(t testing.TB, s *darkSealer) (sealed envelope.Sealed, dataKey string) {
	t.Helper()
	sealed, dataKey, err := s.seal(t.Context(), t)
	if err != nil {
		t.Fatal(err)
	}
	return sealed, dataKey
}

// over is the context of a caller that has given up already.
func over(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func wait(d time.Duration) { <-time.After(d) }

// await waits until something is so, but not for ever.
func await(isSo func() bool) {
	for end := time.Now().Add(10 * time.Second); !isSo() && time.Now().Before(end); {
		wait(time.Millisecond)
	}
}

const (
	served  = "served"
	refused = "refused"
	evicted = "refused, evicted"
)

// TestOpenInTheDark: which calls succeed when a KMS fails, and what is evicted, for each
// class of failure, state of the cache, and backend.
func TestOpenInTheDark(t *testing.T) {
	states := []string{"fresh", "stale", "expired", "absent"}
	lifetimes := map[string]struct{ fresh, stale time.Duration }{
		"fresh": {long, long}, "stale": {instant, long}, "expired": {instant, instant}, "absent": {long, long},
	}
	want := map[kms.Class][4]string{
		kms.Unavailable: {served, served, refused, refused},
		kms.Throttled:   {served, served, refused, refused},
		kms.Denied:      {served, evicted, refused, refused},
		kms.Disabled:    {served, evicted, refused, refused},
		kms.NotFound:    {served, evicted, refused, refused},
		kms.Corrupt:     {served, evicted, refused, refused},
		kms.Internal:    {served, refused, refused, refused}, // and kept
		kms.Invalid:     {served, refused, refused, refused}, // and kept
		kms.Canceled:    {served, refused, refused, refused}, // and kept
	}
	var seen matrix
	t.Run("cells", func(t *testing.T) {
		makers := realms(t)
		for _, class := range kms.Classes() {
			for i, state := range states {
				onEachRealm(t, fmt.Sprintf("%s/%s", class, state), makers, func(t *testing.T, maker func(testing.TB) *realm, inBubble bool) {
					r := maker(t)
					sealed, _ := mustSeal(t, newDarkSealer(t, r.key, long, 0))
					o := newDarkOpener(t, r.key, lifetimes[state].fresh, lifetimes[state].stale)
					if state != "absent" {
						if err := o.open(t.Context(), sealed); err != nil {
							t.Fatal(err)
						}
						wait(10 * instant)
					}
					before := r.gate.unwraps.Load()
					undo, how := r.harm(t, toOpen, class)
					ctx := t.Context()
					if class == kms.Canceled {
						ctx = over(t)
					}

					err := o.open(ctx, sealed)
					if want[class][i] == evicted {
						await(func() bool { return o.refused.Load() > 0 }) // reported after the caller got it
					}
					got := outcome(err, class)
					if o.refused.Load() > 0 {
						got += ", evicted"
					}
					seen.note(t, class, state, how, got)
					if got != want[class][i] {
						t.Errorf("%s (%v), want %s", got, err, want[class][i])
					}
					asked := r.gate.unwraps.Load() - before
					if state == "fresh" && asked != 0 || state != "fresh" && class != kms.Canceled && asked != 1 {
						t.Errorf("the KMS was asked %d times", asked)
					}
					if staleHits := o.stale.Load(); (staleHits > 0) != (state == "stale" && got == served) {
						t.Errorf("%d served stale", staleHits)
					}

					// What is still in the cache serves in an outage; what was evicted does
					// not, nor does the recovery of the KMS bring it back before a request.
					undo()
					undo, _ = r.harm(t, toOpen, kms.Unavailable)
					kept := want[class][i] != evicted && (state == "fresh" || state == "stale")
					if err := o.open(t.Context(), sealed); (err == nil) != kept {
						t.Errorf("afterwards, in an outage: %v; want it kept: %v", err, kept)
					}
					undo()
					if !inBubble {
						return
					}
					wait(remembered)
					before = r.gate.unwraps.Load()
					if err := o.open(t.Context(), sealed); err != nil {
						t.Errorf("with the KMS back: %v", err)
					}
					if asked := r.gate.unwraps.Load() - before; (asked == 0) != (state == "fresh") {
						t.Errorf("with the KMS back it was asked %d times", asked)
					}
				})
			}
		}
	})
	seen.log(t, states)
}

// outcome is what a caller sees of a failure of class.
func outcome(err error, class kms.Class) string {
	switch {
	case err == nil:
		return served
	case kms.ClassOf(err) == class:
		return refused
	default:
		return "failed as " + kms.ClassOf(err).String()
	}
}

// TestSealInTheDark: the same for sealing, by the data keys in stock.
func TestSealInTheDark(t *testing.T) {
	states := []string{"within its age", "in its grace", "past its grace", "none in hand"}
	limits := map[string]struct{ age, grace time.Duration }{
		"within its age": {long, long}, "in its grace": {moment, long}, "past its grace": {moment, moment}, "none in hand": {long, long},
	}
	// By class: the outcomes, and whether data keys are still in hand after that of
	// the second one.
	want := map[kms.Class]struct {
		outcomes [4]string
		kept     bool
	}{
		kms.Unavailable: {[...]string{served, served, refused, refused}, true},
		kms.Throttled:   {[...]string{served, served, refused, refused}, true},
		kms.Denied:      {[...]string{served, refused, refused, refused}, false},
		kms.Disabled:    {[...]string{served, refused, refused, refused}, false},
		kms.NotFound:    {[...]string{served, refused, refused, refused}, false},
		kms.Corrupt:     {[...]string{served, refused, refused, refused}, true},
		kms.Internal:    {[...]string{served, refused, refused, refused}, true},
		kms.Invalid:     {[...]string{served, refused, refused, refused}, true},
		kms.Canceled:    {[...]string{served, refused, refused, refused}, true},
	}
	var seen matrix
	t.Run("cells", func(t *testing.T) {
		makers := realms(t)
		for _, class := range kms.Classes() {
			for i, state := range states {
				onEachRealm(t, fmt.Sprintf("%s/%s", class, state), makers, func(t *testing.T, maker func(testing.TB) *realm, inBubble bool) {
					r := maker(t)
					s := newDarkSealer(t, r.key, limits[state].age, limits[state].grace)
					inHand := "none"
					switch state {
					case "none in hand":
					case "within its age":
						_, inHand = mustSeal(t, s)
					default:
						_, inHand = mustSeal(t, s)
						wait(2 * moment)
					}
					before := r.gate.wraps.Load()
					undo, how := r.harm(t, toSeal, class)
					ctx := t.Context()
					if class == kms.Canceled {
						ctx = over(t)
					}

					_, dataKey, err := s.seal(ctx, t)
					got := outcome(err, class)
					if got == served && dataKey != inHand {
						got = "sealed under another data key"
					}
					note := got
					if state == "in its grace" && !want[class].kept {
						note += ", wiped"
					}
					if got != want[class].outcomes[i] {
						t.Errorf("%s (%v), want %s", got, err, want[class].outcomes[i])
					}
					if asked := r.gate.wraps.Load() - before; (asked == 0) != (state == "within its age") && class != kms.Canceled {
						t.Errorf("the KMS was asked %d times", asked)
					}
					if class == kms.Canceled && state != "within its age" { // a wrap was begun for the caller
						await(func() bool { return r.gate.wraps.Load() > before })
					}
					if n := s.inGrace.Load(); (n == 1) != (state == "in its grace" && got == served) {
						t.Errorf("%d payloads counted as sealed in grace", n)
					}

					undo()
					undo, _ = r.harm(t, toSeal, kms.Unavailable)
					kept := state == "within its age" || state == "in its grace" && want[class].kept
					_, dataKey, err = s.seal(t.Context(), t)
					if isKept := err == nil && dataKey == inHand; isKept != kept {
						t.Errorf("afterwards, in an outage: %v; want data keys kept: %v", err, kept)
						note += " (NOT AS EXPECTED)"
					}
					seen.note(t, class, state, how, note)
					undo()
					if !inBubble {
						return
					}
					wait(remembered)
					_, dataKey, err = s.seal(t.Context(), t)
					if err != nil || (dataKey == inHand) != (state == "within its age") {
						t.Errorf("with the KMS back: %v, the old data key: %v", err, dataKey == inHand)
					}
				})
			}
		}
	})
	seen.log(t, states)
}

// TestRevokingBites: taking a key away ends opening within the fresh lifetime and sealing
// within the data key's age, on every backend and in every way that it has. A data key that
// is stale already opens no more, and one in its grace seals no more.
//
// The bounds are on when calls began that succeeded: so they hold on a machine of
// any speed.
func TestRevokingBites(t *testing.T) {
	const fresh, age = 500 * time.Millisecond, 500 * time.Millisecond
	makers := realms(t)
	onEachRevocation := func(name string, test func(t *testing.T, r *realm, rev revocation)) {
		for i, rev := range fakeRealm(t).revocations {
			t.Run(fmt.Sprintf("fake/%s/%s", rev.name, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := fakeRealm(t)
					test(t, r, r.revocations[i])
				})
			})
		}
		for backend, maker := range makers {
			for i, rev := range maker(t).revocations {
				t.Run(fmt.Sprintf("%s/%s/%s", backend, rev.name, name), func(t *testing.T) {
					t.Parallel()
					r := maker(t)
					test(t, r, r.revocations[i])
				})
			}
		}
	}
	onEachRevocation("opening, fresh", func(t *testing.T, r *realm, rev revocation) {
		sealed, _ := mustSeal(t, newDarkSealer(t, r.key, long, 0))
		o := newDarkOpener(t, r.key, fresh, long)
		if err := o.open(t.Context(), sealed); err != nil {
			t.Fatal(err)
		}
		cached := time.Now()
		rev.do(t)
		until(t, rev.opens, cached.Add(fresh+fresh/10), func() error { return o.open(t.Context(), sealed) })
		await(func() bool { return o.refused.Load() > 0 })
		if o.stale.Load() != 0 || o.refused.Load() != 1 {
			t.Errorf("%d served stale, %d evicted", o.stale.Load(), o.refused.Load())
		}
	})
	onEachRevocation("opening, stale", func(t *testing.T, r *realm, rev revocation) {
		sealed, _ := mustSeal(t, newDarkSealer(t, r.key, long, 0))
		o := newDarkOpener(t, r.key, instant, long)
		if err := o.open(t.Context(), sealed); err != nil {
			t.Fatal(err)
		}
		wait(10 * instant)
		rev.do(t)
		until(t, rev.opens, time.Now(), func() error { return o.open(t.Context(), sealed) })
	})
	onEachRevocation("sealing, within its age", func(t *testing.T, r *realm, rev revocation) {
		s := newDarkSealer(t, r.key, age, long)
		mustSeal(t, s)
		wrapped := time.Now()
		rev.do(t)
		if rev.canSeal {
			wait(age)
			mustSeal(t, s)
			return
		}
		until(t, rev.seals, wrapped.Add(age), func() error { _, _, err := s.seal(t.Context(), t); return err })
		if s.inGrace.Load() != 0 {
			t.Error("sealed in grace")
		}
	})
	onEachRevocation("sealing, in its grace", func(t *testing.T, r *realm, rev revocation) {
		s := newDarkSealer(t, r.key, moment, long)
		mustSeal(t, s)
		wait(moment)
		rev.do(t)
		if rev.canSeal {
			mustSeal(t, s)
			return
		}
		until(t, rev.seals, time.Now(), func() error { _, _, err := s.seal(t.Context(), t); return err })
	})
}

// TestRevokingAmidAnOutage: a KMS comes back from an outage only to refuse. What
// served all through it, data keys stale in the cache and in their grace to seal,
// ends as soon as the refusal can be heard.
func TestRevokingAmidAnOutage(t *testing.T) {
	for i, rev := range fakeRealm(t).revocations {
		t.Run("fake/"+rev.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := fakeRealm(t)
				revokedInTheDark(t, r, r.revocations[i])(t)
			})
		})
	}
	ends := make(map[string]func(testing.TB))
	for backend, maker := range realms(t) {
		for i := range maker(t).revocations {
			r := maker(t)
			rev := r.revocations[i]
			ends[backend+"/"+rev.name] = revokedInTheDark(t, r, rev)
		}
	}
	// All of them are waited for at the same time.
	for name, end := range ends {
		t.Run(name, func(t *testing.T) { end(t) })
	}
}

// revokedInTheDark takes a key away while its KMS is out and has it back again. It
// returns what waits for the end of opening and sealing.
func revokedInTheDark(t testing.TB, r *realm, rev revocation) func(testing.TB) {
	t.Helper()
	s, o := newDarkSealer(t, r.key, moment, long), newDarkOpener(t, r.key, instant, long)
	sealed, _ := mustSeal(t, s)
	if err := o.open(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	wait(moment)
	r.gate.fail(kms.Unavailable)
	if err := o.open(t.Context(), sealed); err != nil || o.stale.Load() != 1 {
		t.Fatalf("in the outage: %v, %d served stale", err, o.stale.Load())
	}
	if _, _, err := s.seal(t.Context(), t); err != nil || s.inGrace.Load() != 1 {
		t.Fatalf("in the outage: %v, %d sealed in grace", err, s.inGrace.Load())
	}
	rev.do(t)
	if err := o.open(t.Context(), sealed); err != nil {
		t.Errorf("as long as the KMS cannot be asked: %v", err)
	}
	r.gate.open()
	end := time.Now().Add(remembered)
	return func(t testing.TB) {
		t.Helper()
		until(t, rev.opens, end, func() error { return o.open(t.Context(), sealed) })
		if !rev.canSeal {
			until(t, rev.seals, end, func() error { _, _, err := s.seal(t.Context(), t); return err })
		}
	}
}

// until calls again and again until it fails, which it must with class; no call
// that began at end or later may succeed.
func until(t testing.TB, class kms.Class, end time.Time, call func() error) {
	t.Helper()
	for {
		start := time.Now()
		err := call()
		switch {
		case err == nil && start.Before(end):
			wait(20 * time.Millisecond)
			continue
		case err == nil:
			t.Errorf("a call that began %s too late succeeded", time.Since(end))
		case kms.ClassOf(err) != class:
			t.Errorf("failed as %s, want %s: %v", kms.ClassOf(err), class, err)
		}
		return
	}
}
