package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestBatchUnwrapsDistinctDataKeysTogether(t *testing.T) {
	key := kmstest.NewFake("a")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, strings.Split(strings.Repeat("x", 100), "")...)
	sealed = append(sealed, sealed...) // each twice
	o := newOpener(t, nil, key)
	for i, got := range o.Open(t.Context(), items(sealed...)...) {
		if got.Err != nil || string(got.Plaintext) != "x" {
			t.Fatalf("item %d: %v", i, got.Err)
		}
	}
	if c := key.Counts(); c.Unwraps != 1 || c.UnwrapItems != 100 {
		t.Errorf("%d unwrap calls of %d data keys, want 1 of 100", c.Unwraps, c.UnwrapItems)
	}
	o.Open(t.Context(), items(sealed...)...)
	if c := key.Counts(); c.Unwraps != 1 {
		t.Errorf("%d unwrap calls after opening again from the cache", c.Unwraps)
	}
}

func TestConcurrentOpensUnwrapOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")
		key.Always(kmstest.Slow(time.Second))
		o := newOpener(t, nil, key)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if got := openOne(t, o, items(sealed...)[0]); got.Err != nil {
					t.Error(got.Err)
				}
			})
		}
		wg.Wait()
		if n := key.Counts().Unwraps; n != 1 {
			t.Errorf("%d unwrap calls", n)
		}
	})
}

func TestOnlyConfiguredKeysAreAsked(t *testing.T) {
	ours, theirs := kmstest.NewFake("ours"), kmstest.NewFake("theirs")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, theirs), claims, "x")
	got := openOne(t, newOpener(t, nil, ours), items(sealed...)[0])
	wantClass(t, got.Err, kms.Denied)
	if !errors.Is(got.Err, envelope.ErrNotConfigured) || !strings.Contains(got.Err.Error(), "fake://theirs") {
		t.Errorf("got %v", got.Err)
	}
	if ours.Counts().Unwraps+theirs.Counts().Unwraps != 0 {
		t.Error("a KMS was asked")
	}
}

func TestAnyRecipientOpens(t *testing.T) {
	a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, a, b), claims, "x")...)[0]
	for _, class := range kms.Classes() {
		t.Run("first recipient "+class.String(), func(t *testing.T) {
			down, up := a.Reopen(), b.Reopen()
			down.Always(kmstest.Fail(class))
			if got := openOne(t, newOpener(t, nil, down, up), item); got.Err != nil {
				t.Error(got.Err)
			}
		})
	}
	t.Run("only the second configured", func(t *testing.T) {
		if got := openOne(t, newOpener(t, nil, b), item); got.Err != nil {
			t.Error(got.Err)
		}
	})
	t.Run("first answers another data key", func(t *testing.T) {
		wrong := a.Reopen()
		wrong.Always(kmstest.WrongDataKey())
		if got := openOne(t, newOpener(t, nil, wrong, b), item); got.Err != nil {
			t.Error(got.Err)
		}
	})
	t.Run("both fail, one may recover", func(t *testing.T) {
		denied, down := a.Reopen(), b.Reopen()
		denied.Always(kmstest.Fail(kms.Denied))
		down.Always(kmstest.Fail(kms.Unavailable))
		wantClass(t, openOne(t, newOpener(t, nil, denied, down), item).Err, kms.Unavailable)
	})
}

func TestWrongDataKeyOpensNothing(t *testing.T) {
	for name, fault := range map[string]kmstest.Fault{"wrong": kmstest.WrongDataKey(), "one bit": kmstest.FlipDataKey()} {
		t.Run(name, func(t *testing.T) {
			key := kmstest.NewFake("a")
			item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")...)[0]
			o := newOpener(t, nil, key)
			key.ScriptUnwrap(fault)
			got := openOne(t, o, item)
			wantClass(t, got.Err, kms.Corrupt)
			if got.Plaintext != nil {
				t.Error("plaintext beside an error")
			}
			if got := openOne(t, o, item); got.Err != nil {
				t.Errorf("the wrong data key stayed in the cache: %v", got.Err)
			}
		})
	}
}

func TestForgedEnvelopeEvictsNoGoodKey(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{}, "a")
	item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
	e, err := format.Parse(item.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(item.Envelope, e.Commitment[:], make([]byte, len(e.Commitment)), 1)
	wantClass(t, openOne(t, r.opener, envelope.Item{Envelope: forged}).Err, kms.Corrupt)
	r.keys[0].Always(kmstest.Fail(kms.Unavailable))
	if got := openOne(t, r.opener, item); got.Err != nil {
		t.Errorf("the good envelope no longer opens: %v", got.Err)
	}
}

func TestBackendPanics(t *testing.T) {
	key := kmstest.NewFake("a")
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")...)[0]
	key.Always(kmstest.Fault{Hook: func(context.Context) error { panic("CANARY") }})
	_, err := newSealer(t, envelope.SealerConfig{}, key).Seal(t.Context(), claims, []byte("x"))
	for _, err := range []error{err, openOne(t, newOpener(t, nil, key), item).Err} {
		wantClass(t, err, kms.Internal)
		if strings.Contains(err.Error(), "CANARY") {
			t.Error(err)
		}
	}
}

func TestKMSBreaksItsContract(t *testing.T) {
	key := kmstest.NewFake("a")
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")...)[0]
	key.ScriptUnwrap(kmstest.Fault{Drop: true})
	wantClass(t, openOne(t, newOpener(t, nil, key), item).Err, kms.Internal)
	short := shortKey{key}
	o := newOpener(t, func(c *envelope.OpenerConfig) {
		c.Keys = envelope.StaticKeys(short)
	})
	wantClass(t, openOne(t, o, item).Err, kms.Corrupt)
}

// shortKey answers with a data key that was cut short.
type shortKey struct{ kms.Key }

func (s shortKey) Unwrap(ctx context.Context, w []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	out, err := s.Key.Unwrap(ctx, w, ec)
	for i := range out {
		out[i].DataKey = out[i].DataKey[:31]
	}
	return out, err
}

func TestOneBadItemHarmsNoOther(t *testing.T) {
	key := kmstest.NewFake("a")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "0", "1", "2", "3")
	batch := items(sealed...)
	batch[1].Envelope = batch[1].Envelope[:20]
	batch[2].Envelope = bytes.Clone(batch[2].Envelope)
	batch[2].Envelope[len(batch[2].Envelope)-1] ^= 1
	out := newOpener(t, nil, key).Open(t.Context(), batch...)
	for _, i := range []int{0, 3} {
		if out[i].Err != nil || string(out[i].Plaintext) != fmt.Sprint(i) {
			t.Errorf("item %d: %q, %v", i, out[i].Plaintext, out[i].Err)
		}
	}
	for _, i := range []int{1, 2} {
		wantClass(t, out[i].Err, kms.Corrupt)
	}
	key.ScriptUnwrap(kmstest.FailItem(1, kms.Denied))
	out = newOpener(t, nil, key).Open(t.Context(), items(sealed...)...)
	failed := 0
	for _, got := range out {
		if got.Err != nil {
			wantClass(t, got.Err, kms.Denied)
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d items failed with one", failed)
	}
}

func TestAlteredClaimsDoNotOpen(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{}, "a")
	sealed := mustSeal(t, r.sealer, envelope.Claims{Namespace: "tenant-a"}, "x")[0]
	forged := bytes.Replace(sealed.Envelope, []byte("tenant-a"), []byte("tenant-b"), 1)
	cold := newOpener(t, nil, r.keys[0])
	for name, o := range map[string]*envelope.Opener{"cached": r.opener, "cold": cold} {
		got := openOne(t, o, envelope.Item{Envelope: forged})
		if got.Err == nil || got.Plaintext != nil {
			t.Errorf("%s: opened with an altered namespace", name)
		}
		wantClass(t, got.Err, kms.Corrupt)
	}
}

func TestKeysNamedByTheContainer(t *testing.T) {
	key := kmstest.NewFake("a")
	inside := mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")[0]
	outside := mustSeal(t, newSealer(t, envelope.SealerConfig{NamedByContainer: true}, key), claims, "x")[0]
	if len(outside.Envelope) >= len(inside.Envelope) {
		t.Error("the envelope still holds the key ID")
	}
	o := newOpener(t, nil, key)
	for _, tc := range []struct {
		name string
		item envelope.Item
		ok   bool
	}{
		{"inside", envelope.Item{Envelope: inside.Envelope}, true},
		{"outside", envelope.Item{Envelope: outside.Envelope, KeyIDs: outside.KeyIDs}, true},
		{"nowhere", envelope.Item{Envelope: outside.Envelope}, false},
		{"twice", envelope.Item{Envelope: inside.Envelope, KeyIDs: inside.KeyIDs}, false},
		{"too many", envelope.Item{Envelope: outside.Envelope, KeyIDs: []string{"fake://a", "fake://b"}}, false},
	} {
		got := openOne(t, o, tc.item)
		if tc.ok != (got.Err == nil) {
			t.Errorf("%s: %v", tc.name, got.Err)
		}
		if !tc.ok {
			wantClass(t, got.Err, kms.Corrupt)
		}
	}
}

func TestAcceptIsAskedBeforeAnyKey(t *testing.T) {
	key := kmstest.NewFake("a")
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")...)[0]
	refused := errors.New("refused")
	item.Accept = func(c envelope.Claims) error {
		if c.Namespace != "payments" {
			t.Errorf("asked about %v", c)
		}
		return refused
	}
	if got := openOne(t, newOpener(t, nil, key), item); !errors.Is(got.Err, refused) || key.Counts().Unwraps != 0 {
		t.Errorf("got %v after %d unwraps", got.Err, key.Counts().Unwraps)
	}
}

func TestKeysFunctionFails(t *testing.T) {
	key := kmstest.NewFake("a")
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")...)[0]
	o := newOpener(t, func(c *envelope.OpenerConfig) {
		c.Keys = func(context.Context, []envelope.Wanted) []envelope.Found {
			return []envelope.Found{{Err: &kms.Error{Class: kms.Throttled}}}
		}
	})
	wantClass(t, openOne(t, o, item).Err, kms.Throttled)
}

func TestStaleDataKeyThroughAnOutage(t *testing.T) {
	for _, tc := range []struct {
		class  kms.Class
		served bool
	}{
		{kms.Unavailable, true},
		{kms.Throttled, true},
		{kms.Denied, false},
		{kms.Disabled, false},
		{kms.NotFound, false},
		{kms.Corrupt, false},
		{kms.Internal, false},
		{kms.Invalid, false},
	} {
		t.Run(tc.class.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, envelope.SealerConfig{}, "a")
				item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
				r.keys[0].Always(kmstest.Fail(tc.class))
				pass(4 * time.Minute)
				if got := openOne(t, r.opener, item); got.Err != nil {
					t.Errorf("within the fresh lifetime: %v", got.Err)
				}
				pass(2 * time.Minute)
				got := openOne(t, r.opener, item)
				if tc.served != (got.Err == nil) {
					t.Errorf("past the fresh lifetime: %v", got.Err)
				}
				if got.Err != nil {
					wantClass(t, got.Err, tc.class)
				}
				pass(time.Hour)
				if got := openOne(t, r.opener, item); got.Err == nil {
					t.Error("past the stale lifetime it still opens")
				}
			})
		})
	}
}

func TestStalledUnwrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "x")...)[0]
		key.Always(kmstest.Stall())
		o := newOpener(t, func(c *envelope.OpenerConfig) { c.UnwrapTimeout = 2 * time.Second }, key)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantClass(t, o.Open(ctx, item)[0].Err, kms.Canceled)
		wantClass(t, openOne(t, o, item).Err, kms.Unavailable)
	})
}

// bomb returns a Zstandard frame of size zeros, which does not declare its size: blocks of
// one byte that repeats 128 Ki times each (RFC 8878, 3.1.1).
func bomb(size int) []byte {
	const block, window = 128 << 10, 7 << 3
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, window}
	for left := size / block; left > 0; left-- {
		header := block<<3 | 1<<1
		if left == 1 {
			header |= 1
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return b
}

func TestDecompressionIsBounded(t *testing.T) {
	key := kmstest.NewFake("a")
	dataKey := bytes.Repeat([]byte{7}, format.DataKeySize)
	ec := kms.Context{"namespace": "n"}
	wrapped, err := key.Wrap(t.Context(), [][]byte{dataKey}, ec)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = enc.Close() }()
	sealed := func(plaintext []byte, c format.Compression) envelope.Item {
		b, err := format.Seal(dataKey, []format.Recipient{{KeyID: key.ID(), WrappedKey: wrapped[0].Blob}}, format.Header{Namespace: "n", Compression: c}, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		return envelope.Item{Envelope: b}
	}
	o := newOpener(t, func(c *envelope.OpenerConfig) { c.MaxPlaintext = 1 << 20 }, key)
	for _, tc := range []struct {
		name string
		item envelope.Item
		ok   bool
	}{
		{"at the bound", sealed(enc.EncodeAll(make([]byte, 1<<20), nil), format.CompressionZstd), true},
		{"over the bound", sealed(enc.EncodeAll(make([]byte, 1<<20+1), nil), format.CompressionZstd), false},
		{"a bomb", sealed(bomb(1<<28), format.CompressionZstd), false},
		{"not zstd", sealed([]byte("plain"), format.CompressionZstd), false},
		{"uncompressed, over the bound", sealed(make([]byte, 1<<20+1), format.CompressionNone), false},
	} {
		got := openOne(t, o, tc.item)
		if tc.ok != (got.Err == nil) {
			t.Errorf("%s: %v", tc.name, got.Err)
		}
		if !tc.ok {
			wantClass(t, got.Err, kms.Corrupt)
		}
	}
}

func TestNewOpenerRefuses(t *testing.T) {
	keys := envelope.StaticKeys()
	for name, cfg := range map[string]envelope.OpenerConfig{
		"no keys":          {},
		"plaintext bound":  {Keys: keys, MaxPlaintext: format.MaxPlaintext + 1},
		"negative entries": {Keys: keys, CacheEntries: -1},
		"no patience":      {Keys: keys, FailoverAfter: -1},
	} {
		if _, err := envelope.NewOpener(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOpenAfterClose(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{}, "a")
	item := items(mustSeal(t, r.sealer, claims, "x")...)[0]
	r.opener.Close()
	if got := openOne(t, r.opener, item); !errors.Is(got.Err, envelope.ErrClosed) {
		t.Errorf("got %v", got.Err)
	}
	mustSeal(t, r.sealer, claims, "x") // sealing goes on without the cache
}

func TestNoErrorTellsASecret(t *testing.T) {
	key := kmstest.NewFake("a")
	item := items(mustSeal(t, newSealer(t, envelope.SealerConfig{}, key), claims, "CANARY")...)[0]
	o := newOpener(t, nil, key)
	for i := range item.Envelope {
		forged := bytes.Clone(item.Envelope)
		forged[i] ^= 0x20
		if got := openOne(t, o, envelope.Item{Envelope: forged}); got.Err != nil && strings.Contains(got.Err.Error(), "CANARY") {
			t.Fatal(got.Err)
		} else if got.Err == nil && string(got.Plaintext) != "CANARY" {
			t.Fatalf("byte %d altered: opened to something else", i)
		}
	}
}

// lateKey reads what it is to unwrap only when the gate opens.
type lateKey struct {
	*kmstest.Fake
	asked, gate, done chan struct{}
}

func (k *lateKey) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	close(k.asked)
	<-k.gate
	defer close(k.done)
	return k.Fake.Unwrap(ctx, wrapped, ec)
}

// The unwrap goes on without the caller that gave up and owns the bytes of its
// own again.
func TestCallerWhoGaveUpMayReuseTheEnvelope(t *testing.T) {
	fake := kmstest.NewFake("a")
	sealed := mustSeal(t, newSealer(t, envelope.SealerConfig{}, fake), claims, "x")[0].Envelope
	key := &lateKey{Fake: fake, asked: make(chan struct{}), gate: make(chan struct{}), done: make(chan struct{})}
	o := newOpener(t, func(cfg *envelope.OpenerConfig) {
		cfg.Keys = envelope.StaticKeys(key)
	})
	mine := bytes.Clone(sealed)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-key.asked
		cancel()
	}()
	wantClass(t, o.Open(ctx, envelope.Item{Envelope: mine})[0].Err, kms.Canceled)
	clear(mine)
	close(key.gate)
	<-key.done
	if got := openOne(t, o, envelope.Item{Envelope: sealed}); got.Err != nil || fake.Counts().Unwraps != 1 {
		t.Errorf("%d unwraps, %v", fake.Counts().Unwraps, got.Err)
	}
}

func TestMaxPlaintextWithCompression(t *testing.T) {
	fake := kmstest.NewFake("a")
	s := newSealer(t, envelope.SealerConfig{Compress: true}, fake)
	for _, limit := range []int{1, 100, 1024, 5000, 64 << 10, 1 << 20} {
		o := newOpener(t, func(cfg *envelope.OpenerConfig) { cfg.MaxPlaintext = limit }, fake)
		within := mustSeal(t, s, claims, strings.Repeat("a", limit))[0]
		if got := openOne(t, o, items(within)[0]); got.Err != nil || len(got.Plaintext) != limit {
			t.Errorf("%d bytes of %d allowed: %v", limit, limit, got.Err)
		}
		beyond := mustSeal(t, s, claims, strings.Repeat("a", limit+1))[0]
		if got := openOne(t, o, items(beyond)[0]); got.Plaintext != nil {
			t.Errorf("%d bytes of %d allowed open", limit+1, limit)
		} else {
			wantClass(t, got.Err, kms.Corrupt)
		}
	}
}
