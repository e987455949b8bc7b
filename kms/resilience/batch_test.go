package resilience_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

func TestBatchesAreSplit(t *testing.T) {
	for n, calls := range map[int]int{0: 1, 1: 1, 159: 1, 160: 1, 161: 2, 320: 2, 1000: 7, 9999: 63} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := kmstest.NewFake("k")
				fake.Always(kmstest.Slow(time.Second))
				k := decorate(t, fake, resilience.Config{})
				keys := dataKeys(n)
				start := time.Now()
				wrapped, err := k.Wrap(t.Context(), keys, nil)
				if err != nil || wrapped == nil || len(wrapped) != n {
					t.Fatalf("%d wrapped, %v", len(wrapped), err)
				}
				got, err := k.Unwrap(t.Context(), wrapped, nil)
				if err != nil || got == nil || len(got) != n {
					t.Fatalf("%d unwrapped, %v", len(got), err)
				}
				for i, u := range got {
					if u.Err != nil || !bytes.Equal(u.DataKey, keys[i]) {
						t.Fatalf("item %d: %v, %v", i, u.DataKey, u.Err)
					}
				}
				c := fake.Counts()
				if c.Wraps != calls || c.Unwraps != calls || c.WrapItems != n || c.UnwrapItems != n {
					t.Errorf("%+v, want %d calls each", c, calls)
				}
				if took, want := time.Since(start), 2*time.Duration((calls+31)/32)*time.Second; took != want {
					t.Errorf("took %s, want %s", took, want)
				}
			})
		})
	}
}

// TestEmptyTellsNothing: a call about nothing sends nothing, so it decides nothing.
func TestEmptyTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		k := opened(t, fake, resilience.Config{})
		fake.Always(kmstest.Fail(kms.Unavailable))
		wantClass(t, wrapOnce(t.Context(), k), kms.Unavailable) // open again
		fake.Heal()
		for range 3 {
			if got, err := k.Wrap(t.Context(), nil, nil); err != nil || got == nil || len(got) != 0 {
				t.Fatal(got, err)
			}
			if got, err := k.Unwrap(t.Context(), nil, nil); err != nil || got == nil || len(got) != 0 {
				t.Fatal(got, err)
			}
		}
		if available(t, k) {
			t.Error("calls about nothing closed the breaker")
		}
	})
}

// TestOneCallLeavesTheQueue: a call of any size never has more parts under way
// than may be, and so none of them waits where others would.
func TestOneCallLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Slow(time.Second))
		var s seen
		k := decorate(t, fake, resilience.Config{Concurrency: 3, Queue: 1, MaxBatch: 10, Hooks: s.hooks()})
		if _, err := k.Wrap(t.Context(), dataKeys(100), nil); err != nil {
			t.Fatal(err)
		}
		if c := fake.Counts(); c.Wraps != 10 || c.MaxInFlight != 3 || len(s.rejected) != 0 {
			t.Errorf("%+v, rejections %v", c, s.rejected)
		}
	})
}

// TestTrialOfSeveralParts: a call of several parts closes the breaker with its
// first, and is answered.
func TestTrialOfSeveralParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		_, wrapped := wrapOn(t, fake, 40)
		k := opened(t, fake, resilience.Config{MaxBatch: 10})
		fake.Always(kmstest.Slow(time.Second))
		start := time.Now()
		if _, err := k.Wrap(t.Context(), dataKeys(40), nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %s, want the trial and then the rest", took)
		}

		k = opened(t, fake, resilience.Config{MaxBatch: 10})
		got, err := k.Unwrap(t.Context(), wrapped, nil)
		if err != nil || slices.ContainsFunc(got, func(u kms.Unwrapped) bool { return u.Err != nil }) {
			t.Fatal(got, err)
		}

		k = opened(t, fake, resilience.Config{MaxBatch: 10, Attempts: 1})
		fake.Always(kmstest.Fail(kms.Unavailable))
		before := fake.Counts().Wraps
		if _, err := k.Wrap(t.Context(), dataKeys(40), nil); kms.ClassOf(err) != kms.Unavailable || fake.Counts().Wraps != before+1 {
			t.Errorf("%v after %d attempts, want one", err, fake.Counts().Wraps-before)
		}
	})
}

func TestWrapIsAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Each(func(c kmstest.Call) kmstest.Fault {
			if c.N == 2 {
				return kmstest.Fail(kms.Denied)
			}
			return kmstest.Slow(time.Second)
		})
		k := decorate(t, fake, resilience.Config{MaxBatch: 10, BreakerFailures: 1})
		start := time.Now()
		got, err := k.Wrap(t.Context(), dataKeys(45), nil)
		wantError(t, err, kms.Denied, "wrap", "scripted fault")
		if got != nil {
			t.Error("a failed Wrap answered")
		}
		if time.Since(start) != 0 {
			t.Errorf("the other parts went on for %s", time.Since(start))
		}
		if !available(t, k) {
			t.Error("parts that were canceled opened the breaker")
		}
	})
}

func TestPartsFailForThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		keys, wrapped := wrapOn(t, fake, 45)
		var mu sync.Mutex
		fake.Each(func(c kmstest.Call) kmstest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if c.Items == 5 { // the last part, each time
				return kmstest.Fail(kms.Throttled)
			}
			return kmstest.Healthy()
		})
		k := decorate(t, fake, resilience.Config{MaxBatch: 10})
		got, err := k.Unwrap(t.Context(), wrapped, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range got {
			switch {
			case i < 40:
				if u.Err != nil || !bytes.Equal(u.DataKey, keys[i]) {
					t.Fatalf("item %d: %v", i, u.Err)
				}
			default:
				wantError(t, u.Err, kms.Throttled, "unwrap", "scripted fault")
			}
		}
		if c := fake.Counts(); c.Unwraps != 4+3 {
			t.Errorf("%d calls, want four and three for the part that fails", c.Unwraps)
		}

		fake.Always(kmstest.Fail(kms.Denied))
		got, err = k.Unwrap(t.Context(), wrapped, nil)
		wantError(t, err, kms.Denied, "unwrap", "scripted fault")
		if got != nil {
			t.Error("what failed them all came with answers")
		}
	})
}

// TestOnlyWhatFailedIsAskedAgain walks through three attempts of one Unwrap.
func TestOnlyWhatFailedIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		keys, wrapped := wrapOn(t, fake, 6)
		down, throttled, denied := kmstest.Err(kms.Unavailable), kmstest.Err(kms.Throttled), kmstest.Err(kms.Denied)
		fake.ScriptUnwrap(
			kmstest.Fault{ItemErrs: map[int]error{1: down, 3: throttled, 4: denied, 5: down}}, // of items 0…5
			kmstest.Fault{ItemErrs: map[int]error{1: throttled, 2: down}},                     // for 1, 3, 5
			kmstest.Fault{ItemErrs: map[int]error{0: denied, 1: down}},                        // for 3, 5
		)
		var s seen
		k := decorate(t, fake, resilience.Config{Hooks: s.hooks()})
		got, err := k.Unwrap(t.Context(), wrapped, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{0, 1, 2} {
			if got[i].Err != nil || !bytes.Equal(got[i].DataKey, keys[i]) {
				t.Errorf("item %d: %v", i, got[i].Err)
			}
		}
		wantClass(t, got[3].Err, kms.Denied)
		wantClass(t, got[4].Err, kms.Denied)
		wantClass(t, got[5].Err, kms.Unavailable)
		if c := fake.Counts(); c.UnwrapItems != 6+3+2 {
			t.Errorf("%d items, want 6, 3 and 2", c.UnwrapItems)
		}
		var classes []kms.Class
		for _, e := range s.attempts {
			classes = append(classes, kms.ClassOf(e))
		}
		if !slices.Equal(classes, []kms.Class{kms.Unavailable, kms.Throttled, kms.Unavailable}) || !slices.Equal(s.ops, []string{"unwrap", "unwrap", "unwrap"}) {
			t.Errorf("attempts %v of %v", classes, s.ops)
		}
	})
}

// TestWholeFailureAfterAnswers: what failed all that were left does not take the
// answers of others along.
func TestWholeFailureAfterAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := kmstest.NewFake("k")
		keys, wrapped := wrapOn(t, fake, 3)
		fake.ScriptUnwrap(kmstest.FailItem(2, kms.Unavailable), kmstest.Fail(kms.Disabled))
		k := decorate(t, fake, resilience.Config{})
		got, err := k.Unwrap(t.Context(), wrapped, nil)
		if err != nil || got[0].Err != nil || !bytes.Equal(got[1].DataKey, keys[1]) {
			t.Fatal(got, err)
		}
		wantError(t, got[2].Err, kms.Disabled, "unwrap", "scripted fault")
	})
}

// TestTimeoutOfItems: a backend that sends items one by one answers for some before the
// time is over. Those are not retried.
func TestTimeoutOfItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var items atomic.Int64
		key := &script{unwrap: func(ctx context.Context, wrapped []kms.Wrapped) ([]kms.Unwrapped, error) {
			out := make([]kms.Unwrapped, len(wrapped))
			for i := range wrapped {
				items.Add(1)
				select {
				case <-time.After(700 * time.Millisecond):
					out[i].DataKey = make([]byte, kms.DataKeySize)
				case <-ctx.Done():
					out[i].Err = &kms.Error{Class: kms.Canceled, Op: "unwrap", KeyID: "script://k", Err: ctx.Err()}
				}
			}
			return out, nil
		}}
		k := decorate(t, key, resilience.Config{})
		got, err := k.Unwrap(t.Context(), make([]kms.Wrapped, 5), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range got {
			if u.Err != nil {
				t.Errorf("item %d: %v", i, u.Err)
			}
		}
		if items.Load() != 5+3+1 {
			t.Errorf("asked for %d items, want 5, 3 and 1", items.Load())
		}

		// With no time for another attempt, each item says what became of it.
		got, err = k.Unwrap(within(t, t.Context(), time.Second), make([]kms.Wrapped, 3), nil)
		if err != nil || got[0].Err != nil {
			t.Fatal(got, err)
		}
		wantError(t, got[1].Err, kms.Canceled, "unwrap", "canceled")
		// And if not one was answered, it is the whole call that the caller gave up.
		got, err = k.Unwrap(within(t, t.Context(), 100*time.Millisecond), make([]kms.Wrapped, 3), nil)
		wantError(t, err, kms.Canceled, "unwrap", "canceled")
		if got != nil {
			t.Error("a canceled Unwrap answered")
		}
	})
}

func TestBrokenPromises(t *testing.T) {
	t.Run("Wrap answers for fewer", func(t *testing.T) {
		fake := kmstest.NewFake("k")
		fake.Always(kmstest.Fault{Drop: true})
		_, err := decorate(t, fake, resilience.Config{}).Wrap(t.Context(), dataKeys(2), nil)
		wantError(t, err, kms.Internal, "wrap", "1 answers for 2 data keys")
	})
	t.Run("Unwrap answers for fewer, and is wiped", func(t *testing.T) {
		dropped := slices.Repeat([]byte{7}, kms.DataKeySize)
		key := &script{unwrap: func(context.Context, []kms.Wrapped) ([]kms.Unwrapped, error) {
			return []kms.Unwrapped{{DataKey: dropped}}, nil
		}}
		_, err := decorate(t, key, resilience.Config{}).Unwrap(t.Context(), make([]kms.Wrapped, 2), nil)
		wantError(t, err, kms.Internal, "unwrap", "1 answers for 2 data keys")
		wantWiped(t, dropped)
	})
	t.Run("an error with answers, which are wiped", func(t *testing.T) {
		dropped := slices.Repeat([]byte{7}, kms.DataKeySize)
		key := &script{unwrap: func(context.Context, []kms.Wrapped) ([]kms.Unwrapped, error) {
			return []kms.Unwrapped{{DataKey: dropped}}, classErr(kms.Denied)
		}}
		_, err := decorate(t, key, resilience.Config{}).Unwrap(t.Context(), make([]kms.Wrapped, 1), nil)
		wantClass(t, err, kms.Denied)
		wantWiped(t, dropped)
	})
	t.Run("an item with an error and an answer, which is wiped", func(t *testing.T) {
		dropped := slices.Repeat([]byte{7}, kms.DataKeySize)
		key := &script{unwrap: func(context.Context, []kms.Wrapped) ([]kms.Unwrapped, error) {
			return []kms.Unwrapped{{DataKey: dropped, Err: classErr(kms.Corrupt)}}, nil
		}}
		got, err := decorate(t, key, resilience.Config{}).Unwrap(t.Context(), make([]kms.Wrapped, 1), nil)
		if err != nil || got[0].DataKey != nil {
			t.Error(got, err)
		}
		wantWiped(t, dropped)
	})
	t.Run("an error that is none of ours", func(t *testing.T) {
		asked := 0
		k := decorate(t, wraps(func(context.Context) error {
			asked++
			return fmt.Errorf("strange")
		}), resilience.Config{})
		if err := wrapOnce(t.Context(), k); err == nil || err.Error() != "strange" || asked != 1 {
			t.Errorf("%v after %d attempts", err, asked)
		}
	})
}

func wantWiped(t testing.TB, b []byte) {
	t.Helper()
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("a data key that nobody gets was not wiped")
	}
}
