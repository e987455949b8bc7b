package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// located is a KEK in one of several KMSs.
type located struct {
	kms.Key
	location string
}

func (l located) Location() string { return l.location }

// perReader has each reader open with the KEK of that name.
func perReader(keys map[string]kms.Key) func(context.Context, []envelope.Wanted) []envelope.Found {
	return func(_ context.Context, wanted []envelope.Wanted) []envelope.Found {
		found := make([]envelope.Found, len(wanted))
		for i, w := range wanted {
			found[i].Keys = []kms.Key{keys[w.Reader]}
		}
		return found
	}
}

// Keys is called once for a call, with what its envelopes say, and not for those that
// are settled without a key.
func TestKeysIsCalledOnce(t *testing.T) {
	a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
	both := mustSeal(t, newSealer(t, envelope.SealerConfig{}, a, b), claims, "x")[0]
	other := mustSeal(t, newSealer(t, envelope.SealerConfig{}, b), envelope.Claims{Namespace: "other"}, "y")[0]
	var calls [][]envelope.Wanted
	o := newOpener(t, func(c *envelope.OpenerConfig) {
		c.Keys = func(ctx context.Context, wanted []envelope.Wanted) []envelope.Found {
			calls = append(calls, wanted)
			return envelope.StaticKeys(a, b)(ctx, wanted)
		}
	})
	refuse := func(envelope.Claims) error { return errors.New("no") }
	in := []envelope.Item{
		{Envelope: both.Envelope, Reader: "payments"},
		{Envelope: []byte("not ours")},
		{Envelope: both.Envelope, Accept: refuse},
		{Envelope: other.Envelope},
	}
	for i, got := range o.Open(t.Context(), in...) {
		if opened := got.Err == nil; opened != (i == 0 || i == 3) {
			t.Errorf("item %d: %v", i, got.Err)
		}
	}
	o.Open(t.Context(), in[1:3]...)
	want := [][]envelope.Wanted{{
		{Namespace: "payments", Reader: "payments", KEKs: []string{"fake://a", "fake://b"}},
		{Namespace: "other", KEKs: []string{"fake://b"}},
	}}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKeysThatAnswersForAnother(t *testing.T) {
	a := kmstest.NewFake("a")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, a), claims, "x", "y")
	o := newOpener(t, func(c *envelope.OpenerConfig) {
		c.Keys = func(context.Context, []envelope.Wanted) []envelope.Found {
			return []envelope.Found{{Keys: []kms.Key{a}}}
		}
	})
	for _, got := range o.Open(t.Context(), items(sealed...)...) {
		wantClass(t, got.Err, kms.Internal)
	}
}

// An envelope that names one KEK in all recipients causes one call of it.
func TestOneKEKInAllRecipients(t *testing.T) {
	a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, a, b), claims, "x")[0]
	parsed, err := format.Parse(sealed.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(recipients ...format.Recipient) envelope.Item {
		out, err := format.Rewrap(sealed.Envelope, recipients)
		if err != nil {
			t.Fatal(err)
		}
		return envelope.Item{Envelope: out}
	}
	var junk []format.Recipient
	for i := range format.MaxRecipients - 1 {
		junk = append(junk, format.Recipient{KeyID: fmt.Sprintf("fake://a@%d", i+1), WrappedKey: []byte{byte(i), 1, 2, 3}})
	}
	asked, other := a.Reopen(), b.Reopen()
	wantClass(t, openOne(t, newOpener(t, nil, asked, other), forge(append(junk, junk[0])...)).Err, kms.Corrupt)
	if c := asked.Counts(); c.Unwraps != 1 || c.UnwrapItems != 1 {
		t.Errorf("%d unwraps of %d data keys, want one of one", c.Unwraps, c.UnwrapItems)
	}
	// Those of other KEKs are tried as ever.
	if got := openOne(t, newOpener(t, nil, asked, other), forge(append(junk, parsed.Recipients[1])...)); got.Err != nil {
		t.Error(got.Err)
	}
	if c := other.Counts(); c.UnwrapItems != 1 {
		t.Errorf("%d data keys unwrapped by the other KEK", c.UnwrapItems)
	}
}

// A data key that one of two KEKs with one ID unwrapped, or wrapped, opens nothing for
// the other.
func TestOneIDInTwoKMSs(t *testing.T) {
	for _, from := range []string{"the sealer", "an unwrap"} {
		t.Run(from, func(t *testing.T) {
			fake := kmstest.NewFake("k")
			one, two := located{kmstest.NewFake("k"), "one"}, located{fake, "two"}
			o := newOpener(t, func(c *envelope.OpenerConfig) {
				c.Keys = perReader(map[string]kms.Key{"one": one, "two": two})
			})
			learning := o
			if from == "an unwrap" {
				learning = nil
			}
			s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{two}, Opener: learning})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sealed := mustSeal(t, s, claims, "x")[0].Envelope
			read := func(reader string) envelope.Opened {
				return openOne(t, o, envelope.Item{Envelope: sealed, Reader: reader})
			}
			if got := read("two"); got.Err != nil {
				t.Fatal(got.Err)
			}
			if cached := fake.Counts().Unwraps == 0; cached != (from == "the sealer") {
				t.Errorf("opened with %d calls", fake.Counts().Unwraps)
			}
			wantClass(t, read("one").Err, kms.Corrupt)
			if got := openOne(t, newOpener(t, keyed(one, two)), envelope.Item{Envelope: sealed}); got.Err != nil {
				t.Error(got.Err) // one cannot, and two is called
			}
		})
	}
}

// KEKs with one ID are called apart, each for its own envelopes.
func TestOneIDInTwoKMSsInOneCall(t *testing.T) {
	keys := map[string]kms.Key{"one": located{kmstest.NewFake("k"), "one"}, "two": located{kmstest.NewFake("k"), "two"}}
	var in []envelope.Item
	for reader, key := range keys {
		s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{key}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, sealed := range mustSeal(t, s, claims, "x", "y") {
			in = append(in, envelope.Item{Envelope: sealed.Envelope, Reader: reader})
		}
	}
	o := newOpener(t, func(c *envelope.OpenerConfig) { c.Keys = perReader(keys) })
	for i, got := range o.Open(t.Context(), in...) {
		if got.Err != nil {
			t.Errorf("item %d: %v", i, got.Err)
		}
	}
}

// Two handles to one KEK, such as replicas of a multi-Region key, are one candidate.
func TestOneKEKFoundTwice(t *testing.T) {
	key := kmstest.NewFake("k")
	forged := mustSeal(t, newSealer(t, envelope.SealerConfig{}, kmstest.NewFake("k")), claims, "x")
	here, there := key.Reopen(), key.Reopen()
	wantClass(t, openOne(t, newOpener(t, nil, here, there), items(forged...)[0]).Err, kms.Corrupt)
	if n := here.Counts().Unwraps + there.Counts().Unwraps; n != 1 {
		t.Errorf("%d calls for one KEK", n)
	}
}
