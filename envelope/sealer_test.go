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

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

func TestSealedHereOpensHereWithoutKMS(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{}, "a")
	sealed := mustSeal(t, r.sealer, claims, "one", "two", "")
	for i, got := range r.opener.Open(t.Context(), items(sealed...)...) {
		if got.Err != nil || string(got.Plaintext) != []string{"one", "two", ""}[i] {
			t.Errorf("item %d: %q, %v", i, got.Plaintext, got.Err)
		}
		if got.Claims.Namespace != "payments" || got.KeyIDs[0] != "fake://a@1" {
			t.Errorf("item %d: claims %v, keys %v", i, got.Claims, got.KeyIDs)
		}
	}
	if n := r.keys[0].Counts().Unwraps; n != 0 {
		t.Errorf("%d unwraps, want none", n)
	}
}

func TestEveryPayloadHasADataKeyOfItsOwn(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{}, "a")
	wrapped := make(map[string]bool)
	for range 20 {
		for _, s := range mustSeal(t, r.sealer, claims, "x", "y", "z") {
			e, err := format.Parse(s.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			wrapped[string(e.Recipients[0].WrappedKey)] = true
		}
	}
	if len(wrapped) != 60 {
		t.Errorf("%d distinct data keys for 60 payloads", len(wrapped))
	}
}

func TestDataKeySharing(t *testing.T) {
	const payloads = 1000
	for _, tc := range []struct {
		name        string
		limits      envelope.DataKeyLimits
		size        int
		least, most int // data keys
	}{
		{"one each", envelope.DataKeyLimits{MaxPayloads: 1}, 10, payloads, payloads},
		{"a hundred each", envelope.DataKeyLimits{MaxPayloads: 100}, 10, 10, 10},
		{"ten thousand each", envelope.DataKeyLimits{MaxPayloads: 10_000}, 10, 1, 1},
		{"by bytes", envelope.DataKeyLimits{MaxPayloads: 10_000, MaxBytes: 1000}, 10, 10, 10},
		{"a payload over the bytes", envelope.DataKeyLimits{MaxPayloads: 10_000, MaxBytes: 5}, 10, payloads, payloads},
	} {
		for _, workers := range []int{1, 16} {
			t.Run(fmt.Sprintf("%s/%d workers", tc.name, workers), func(t *testing.T) {
				s := newSealer(t, envelope.SealerConfig{Limits: tc.limits}, kmstest.NewFake("a"))
				var mu sync.Mutex
				used := make(map[string]int)
				var wg sync.WaitGroup
				for range workers {
					wg.Go(func() {
						for range payloads / workers {
							out, err := s.Seal(t.Context(), claims, make([]byte, tc.size))
							if err != nil {
								t.Error(err)
								return
							}
							e, err := format.Parse(out[0].Envelope)
							if err != nil {
								t.Error(err)
								return
							}
							mu.Lock()
							used[string(e.Recipients[0].WrappedKey)]++
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				total := payloads / workers * workers
				least, most := (tc.least*total+payloads-1)/payloads, tc.most
				if len(used) < least || len(used) > most {
					t.Errorf("%d data keys used, want %d to %d", len(used), least, most)
				}
				for _, n := range used {
					if limit := tc.limits.MaxPayloads; n > limit {
						t.Errorf("a data key sealed %d payloads, limit %d", n, limit)
					}
				}
			})
		}
	}
}

func TestDataKeyAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSealer(t, envelope.SealerConfig{Limits: envelope.DataKeyLimits{MaxPayloads: 1000, MaxAge: time.Minute}}, kmstest.NewFake("a"))
		keyOf := func() string {
			e, err := format.Parse(mustSeal(t, s, claims, "x")[0].Envelope)
			if err != nil {
				t.Fatal(err)
			}
			return string(e.Recipients[0].WrappedKey)
		}
		first := keyOf()
		pass(time.Minute - time.Nanosecond)
		if keyOf() != first {
			t.Error("a new data key before the age limit")
		}
		pass(time.Nanosecond)
		if keyOf() == first {
			t.Error("the same data key at the age limit")
		}
	})
}

func TestWrappedAheadOfNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		key.Always(kmstest.Slow(20 * time.Millisecond))
		s := newSealer(t, envelope.SealerConfig{}, key)
		var waited []time.Duration
		for range 200 {
			start := time.Now()
			mustSeal(t, s, claims, "x")
			waited = append(waited, time.Since(start))
			pass(20 * time.Millisecond)
		}
		slow := 0
		for _, d := range waited {
			if d > 0 {
				slow++
			}
		}
		if slow > 4 {
			t.Errorf("%d of 200 payloads waited for the KMS; the pool should keep it out of the way", slow)
		}
		if extra := key.Counts().WrapItems - 200; extra > 64 {
			t.Errorf("%d data keys wrapped and never used", extra)
		}
	})
}

// TestBusyCallersDoNotWait: a caller that seals payload after payload soon finds data keys
// ready. For a thousand, a KMS that takes many at once gets eight calls at most.
func TestBusyCallersDoNotWait(t *testing.T) {
	for _, callers := range []int{1, 3, 32} {
		t.Run(fmt.Sprint(callers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, envelope.SealerConfig{}, "a")
				r.keys[0].Always(kmstest.Slow(5 * time.Millisecond))
				seal := func(n int) (requests int, took time.Duration) {
					before, start := r.keys[0].Counts().Wraps, time.Now()
					var wg sync.WaitGroup
					for range callers {
						wg.Go(func() {
							for range n / callers {
								mustSeal(t, r.sealer, claims, "x")
								pass(time.Millisecond * time.Duration(callers)) // a payload a millisecond, all together
							}
						})
					}
					wg.Wait()
					return r.keys[0].Counts().Wraps - before, time.Since(start)
				}
				seal(3000) // demand is learned
				const n = 9600
				requests, took := seal(n)
				if requests > 8*n/1000 {
					t.Errorf("%d requests for %d payloads", requests, n)
				}
				if took != n*time.Millisecond {
					t.Errorf("%d payloads took %s: a caller waited for the KMS", n, took)
				}
			})
		})
	}
}

func TestContextSeenOnceCostsOneWrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		s := newSealer(t, envelope.SealerConfig{}, key)
		for i := range 50 {
			mustSeal(t, s, envelope.Claims{Namespace: "n", Others: map[string]string{"workflowId": fmt.Sprint(i)}}, "x")
		}
		synctest.Wait()
		if n := key.Counts().WrapItems; n != 50 {
			t.Errorf("%d data keys wrapped for 50 contexts", n)
		}
	})
}

func TestUnusedKeysAgeOutAndFewerFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		s := newSealer(t, envelope.SealerConfig{}, key)
		for range 300 {
			mustSeal(t, s, claims, "x")
		}
		synctest.Wait()
		pass(time.Hour)
		before := key.Counts().WrapItems
		mustSeal(t, s, claims, "x")
		synctest.Wait()
		if n := key.Counts().WrapItems - before; n < 1 || n > 65 {
			t.Errorf("%d data keys wrapped after an hour of rest", n)
		}
	})
}

func TestLateComersAreWrappedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		key.Always(kmstest.Slow(time.Second))
		s := newSealer(t, envelope.SealerConfig{}, key)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() { mustSeal(t, s, claims, "x") })
		}
		wg.Wait()
		if n := key.Counts().Wraps; n > 3 {
			t.Errorf("%d wrap calls for 64 payloads at once, want them batched", n)
		}
	})
}

func TestSealFailsClosed(t *testing.T) {
	for _, class := range kms.Classes() {
		t.Run(class.String(), func(t *testing.T) {
			a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
			b.Always(kmstest.Fail(class))
			s := newSealer(t, envelope.SealerConfig{}, a, b)
			out, err := s.Seal(t.Context(), claims, []byte("CANARY"))
			wantClass(t, err, class)
			if out != nil || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %v, %v", out, err)
			}
			b.Heal()
			mustSeal(t, s, claims, "x")
		})
	}
}

func TestSealErrorPrefersWhatMustBeMended(t *testing.T) {
	a, b := kmstest.NewFake("a"), kmstest.NewFake("b")
	a.Always(kmstest.Fail(kms.Unavailable))
	b.Always(kmstest.Fail(kms.Denied))
	_, err := newSealer(t, envelope.SealerConfig{}, a, b).Seal(t.Context(), claims, []byte("x"))
	wantClass(t, err, kms.Denied)
}

func TestSealKMSBreaksItsContract(t *testing.T) {
	key := kmstest.NewFake("a")
	key.ScriptWrap(kmstest.Fault{Drop: true})
	s := newSealer(t, envelope.SealerConfig{}, key)
	_, err := s.Seal(t.Context(), claims, []byte("x"), []byte("y"))
	wantClass(t, err, kms.Internal)
}

func TestSealStalledKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		key.Always(kmstest.Stall())
		s := newSealer(t, envelope.SealerConfig{WrapTimeout: 3 * time.Second}, key)
		start := time.Now()
		_, err := s.Seal(t.Context(), claims, []byte("x"))
		wantClass(t, err, kms.Unavailable)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("gave up after %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Seal(ctx, claims, []byte("x"))
		wantClass(t, err, kms.Canceled)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the context's error", err)
		}
		key.Heal()
		mustSeal(t, s, claims, "x") // the queue behind a caller that gave up moves on
	})
}

func TestSealRefusesBadInput(t *testing.T) {
	s := newSealer(t, envelope.SealerConfig{}, kmstest.NewFake("a"))
	for name, c := range map[string]envelope.Claims{
		"no namespace":    {},
		"reserved claim":  {Namespace: "n", Others: map[string]string{"namespace": "x"}},
		"empty name":      {Namespace: "n", Others: map[string]string{"": "x"}},
		"invalid UTF-8":   {Namespace: "n\xff"},
		"namespace bound": {Namespace: strings.Repeat("n", format.MaxNamespace+1)},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := s.Seal(t.Context(), c, []byte("CANARY")); err == nil || out != nil || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %v, %v", out, err)
			}
		})
	}
	_, err := s.Seal(t.Context(), claims, make([]byte, format.MaxPlaintext+1))
	wantClass(t, err, kms.Internal)
	if out, err := s.Seal(t.Context(), claims); err != nil || len(out) != 0 {
		t.Errorf("nothing to seal: %v, %v", out, err)
	}
}

func TestNewSealerListsAllProblems(t *testing.T) {
	a := kmstest.NewFake("a")
	_, err := envelope.NewSealer(envelope.SealerConfig{
		Keys:   []kms.Key{a, a},
		Limits: envelope.DataKeyLimits{MaxPayloads: 1_000_001, MaxAge: 2 * time.Hour, MaxBytes: -1},
	})
	for _, want := range []string{"named twice", "maxPayloads", "maxAge", "maxBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := envelope.NewSealer(envelope.SealerConfig{}); err == nil || !strings.Contains(err.Error(), "1 to 8 keys") {
		t.Errorf("no keys: %v", err)
	}
}

func TestCompression(t *testing.T) {
	long, short := strings.Repeat("a long and dull text. ", 500), "x"
	r := newRig(t, envelope.SealerConfig{Compress: true}, "a")
	sealed := mustSeal(t, r.sealer, claims, long, short)
	if n := len(sealed[0].Envelope); n > len(long)/10 {
		t.Errorf("%d bytes sealed into %d", len(long), n)
	}
	for i, want := range []format.Compression{format.CompressionZstd, format.CompressionNone} {
		e, err := format.Parse(sealed[i].Envelope)
		if err != nil || e.Header.Compression != want {
			t.Errorf("item %d: compression %v, %v", i, e.Header.Compression, err)
		}
	}
	for i, got := range r.opener.Open(t.Context(), items(sealed...)...) {
		if got.Err != nil || string(got.Plaintext) != []string{long, short}[i] {
			t.Errorf("item %d: %d bytes, %v", i, len(got.Plaintext), got.Err)
		}
	}
}

func TestDrainSealsUnderTheNewVersion(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{Limits: envelope.DataKeyLimits{MaxPayloads: 1000}}, "a")
	mustSeal(t, r.sealer, claims, "x")
	r.keys[0].Rotate()
	if got := mustSeal(t, r.sealer, claims, "x")[0].KeyIDs[0]; got != "fake://a@1" {
		t.Errorf("before draining: %s", got)
	}
	r.sealer.Drain()
	if got := mustSeal(t, r.sealer, claims, "x")[0].KeyIDs[0]; got != "fake://a@2" {
		t.Errorf("after draining: %s", got)
	}
}

func TestSealAfterClose(t *testing.T) {
	s := newSealer(t, envelope.SealerConfig{}, kmstest.NewFake("a"))
	mustSeal(t, s, claims, "x")
	s.Close()
	s.Close()
	if _, err := s.Seal(t.Context(), claims, []byte("x")); !errors.Is(err, envelope.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestCloseReleasesThoseInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		key.Always(kmstest.Stall())
		s := newSealer(t, envelope.SealerConfig{}, key)
		done := make(chan error)
		go func() {
			_, err := s.Seal(t.Context(), claims, []byte("x"))
			done <- err
		}()
		synctest.Wait()
		s.Close()
		if err := <-done; !errors.Is(err, envelope.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestManyContextsStayBounded(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{}, "a")
	for i := range 3000 { // past the bound on pools, twice over
		c := envelope.Claims{Namespace: fmt.Sprintf("n%d", i%1500)}
		got := openOne(t, r.opener, items(mustSeal(t, r.sealer, c, "x")...)[0])
		if got.Err != nil || got.Claims.Namespace != c.Namespace {
			t.Fatal(got.Err)
		}
	}
}

func TestSealDoesNotMutate(t *testing.T) {
	r := newRig(t, envelope.SealerConfig{Compress: true}, "a")
	in := bytes.Repeat([]byte("abc"), 1000)
	want := bytes.Clone(in)
	if _, err := r.sealer.Seal(t.Context(), claims, in); err != nil || !bytes.Equal(in, want) {
		t.Errorf("plaintext changed, or %v", err)
	}
}

func TestOutageIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		s := newSealer(t, envelope.SealerConfig{}, key)
		for range 10 {
			mustSeal(t, s, claims, "x")
		}
		synctest.Wait()
		key.Always(kmstest.Fail(kms.Unavailable))
		before := key.Counts().Wraps
		sealed := 0
		for range 100 {
			if _, err := s.Seal(t.Context(), claims, []byte("x")); err == nil {
				sealed++
			}
		}
		synctest.Wait()
		if n := key.Counts().Wraps - before; n > 100 {
			t.Errorf("%d wrap calls for 100 payloads during an outage", n)
		}
		if sealed == 0 {
			t.Error("the data keys in hand were not used")
		}
	})
}

// gatedKey holds the answers to its Wraps back until the gate opens.
type gatedKey struct {
	*kmstest.Fake
	wrapped chan struct{} // receives once for every answer that waits
	gate    chan struct{}
}

func (k *gatedKey) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	out, err := k.Fake.Wrap(ctx, dataKeys, ec)
	k.wrapped <- struct{}{}
	<-k.gate
	return out, err
}

func TestDrainWhileWrapping(t *testing.T) {
	key := &gatedKey{Fake: kmstest.NewFake("a"), wrapped: make(chan struct{}, 10), gate: make(chan struct{})}
	s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{key}, Limits: envelope.DataKeyLimits{MaxPayloads: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	done := make(chan error)
	go func() {
		_, err := s.Seal(t.Context(), claims, []byte("x"))
		done <- err
	}()
	<-key.wrapped // under version 1
	key.Rotate()
	s.Drain()
	close(key.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := mustSeal(t, s, claims, "x")[0].KeyIDs[0]; got != "fake://a@2" {
		t.Errorf("sealed under %s after a drain", got)
	}
}

// More encryption contexts at once than a Sealer keeps pools for, and a KMS
// that is slow: each waits for its own wrap, and no call is made twice.
func TestMoreContextsAtOnceThanPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const contexts = 1500
		key := kmstest.NewFake("a")
		key.Always(kmstest.Slow(time.Second))
		s := newSealer(t, envelope.SealerConfig{}, key)
		var wg sync.WaitGroup
		for i := range contexts {
			wg.Go(func() {
				mine := envelope.Claims{Namespace: fmt.Sprintf("n%d", i)}
				if _, err := s.Seal(t.Context(), mine, []byte("x")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := key.Counts().Wraps; n != contexts {
			t.Errorf("%d wraps for %d contexts", n, contexts)
		}
	})
}

func TestKMSSlowerThanTheAgeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := kmstest.NewFake("a")
		key.Always(kmstest.Slow(2 * time.Second))
		s := newSealer(t, envelope.SealerConfig{Limits: envelope.DataKeyLimits{MaxPayloads: 10, MaxAge: time.Second}}, key)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Seal(ctx, claims, []byte("x")); err != nil || key.Counts().Wraps != 1 {
			t.Errorf("%d wraps, %v", key.Counts().Wraps, err)
		}
	})
}

// oddKey answers Wraps with fixed results.
type oddKey struct {
	kms.Key
	answer kms.Wrapped
}

func (k oddKey) Wrap(_ context.Context, dataKeys [][]byte, _ kms.Context) ([]kms.Wrapped, error) {
	out := make([]kms.Wrapped, len(dataKeys))
	for i := range out {
		out[i] = k.answer
	}
	return out, nil
}

func TestWrappedKeysThatCannotBeRecorded(t *testing.T) {
	blob := []byte("blob")
	for name, answer := range map[string]kms.Wrapped{
		"empty":                           {},
		"too large":                       {Blob: make([]byte, kms.MaxWrappedSize+1)},
		"a version with a space":          {Blob: blob, Version: "1 2"},
		"a version with @":                {Blob: blob, Version: "1@2"},
		"a version with a line break":     {Blob: blob, Version: "1\n"},
		"a version that is not ASCII":     {Blob: blob, Version: "ä"},
		"a version too long for metadata": {Blob: blob, Version: strings.Repeat("7", format.MaxKeyID)},
	} {
		for _, outside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, named by container: %v", name, outside), func(t *testing.T) {
				s, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{oddKey{kmstest.NewFake("a"), answer}}, NamedByContainer: outside})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Close)
				_, err = s.Seal(t.Context(), claims, []byte("x"))
				wantClass(t, err, kms.Internal)
				if !strings.Contains(err.Error(), "cannot be recorded") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
