package kmstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// patience is how long a caller waits for a KMS that stalls, and promptly how
	// soon it wants its call back after that, on a machine that has much else to do.
	patience = 100 * time.Millisecond
	promptly = 3 * time.Second
)

func stallCases() []conformance {
	stalls := []Power{FaultStall}
	return []conformance{
		{name: "stalled: the caller's deadline gives Canceled", needs: stalls, check: checkStallDeadline},
		{name: "stalled: a caller who gives up gets Canceled", needs: stalls, check: checkStallGivenUp},
		{name: "stalled: a large batch ends with its caller", needs: stalls, check: checkStallBatch},
		{name: "stalled: calls leave nothing behind", needs: stalls, check: checkStallLeavesNothing},
		{name: "stalled: the key's own timeout gives Unavailable", needs: []Power{FaultStall, PowerHasty}, check: checkStallTimeout},
	}
}

// stalled has a key stall during a check, which gets data keys and their blobs,
// and wants the key to work at once when it is over.
func stalled(t testing.TB, h Harness, n int, check func(key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped)) {
	t.Helper()
	key := h.NewKey(t)
	dataKeys := newDataKeys(n)
	wrapped := mustWrap(t, key, dataKeys, testContext())
	heal := once(h.Faults[FaultStall](t, key))
	defer heal()
	check(key, dataKeys, wrapped)
	heal()
	mustBeBack(t, key, FaultStall, wrapped, dataKeys)
}

// mustEnd makes both calls, each under a context that newCtx makes, and wants
// both to end promptly, with Class Canceled and cause.
func mustEnd(t testing.TB, h Harness, key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped, cause error, newCtx func() (context.Context, context.CancelFunc)) {
	t.Helper()
	secrets := append(h.credentials(), dataKeys...)
	for _, op := range []string{"wrap", "unwrap"} {
		ctx, cancel := newCtx()
		began := time.Now()
		var err error
		var answered bool
		if op == "wrap" {
			var got []kms.Wrapped
			got, err = key.Wrap(ctx, dataKeys, testContext())
			answered = got != nil
		} else {
			var got []kms.Unwrapped
			got, err = key.Unwrap(ctx, wrapped, testContext())
			answered = got != nil
		}
		took := time.Since(began)
		cancel()
		if err == nil || answered {
			t.Errorf("%s of %d: answered, or answered in part (error %v)", op, len(dataKeys), err)
			continue
		}
		checkError(t, op, key, op, err, []kms.Class{kms.Canceled}, secrets...)
		if !errors.Is(err, cause) {
			t.Errorf("%s: errors.Is(err, %q) is false", op, cause)
		}
		if took > patience+promptly {
			t.Errorf("%s: took %v after its caller had given up", op, took-patience)
		}
	}
}

func checkStallDeadline(t testing.TB, h Harness) {
	stalled(t, h, 3, func(key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped) {
		mustEnd(t, h, key, dataKeys, wrapped, context.DeadlineExceeded, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), patience)
		})
	})
}

func checkStallGivenUp(t testing.TB, h Harness) {
	stalled(t, h, 3, func(key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped) {
		mustEnd(t, h, key, dataKeys, wrapped, context.Canceled, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(patience, cancel)
			return ctx, cancel
		})
	})
}

// checkStallBatch stalls more items than any backend sends at one time.
func checkStallBatch(t testing.TB, h Harness) {
	stalled(t, h, 250, func(key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped) {
		mustEnd(t, h, key, dataKeys, wrapped, context.DeadlineExceeded, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), patience)
		})
	})
}

// checkStallLeavesNothing counts goroutines by a label that those inherit which
// a call starts. A few may stay, such as those of a connection.
func checkStallLeavesNothing(t testing.TB, h Harness) {
	const calls, few = 64, 16
	label := fmt.Sprintf("%s %p", t.Name(), new(byte))
	stalled(t, h, 1, func(key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped) {
		inParallel(calls, func(i int) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			pprof.Do(ctx, pprof.Labels(callLabel, label), func(ctx context.Context) {
				var err error
				if i%2 == 0 {
					_, err = key.Wrap(ctx, dataKeys, testContext())
				} else {
					_, err = key.Unwrap(ctx, wrapped, testContext())
				}
				if kms.ClassOf(err) != kms.Canceled {
					t.Errorf("error %v", err)
				}
			})
		})
	})
	left := 0
	for began := time.Now(); time.Since(began) < promptly; pause(t, 10*time.Millisecond) {
		var err error
		if left, err = countGoroutines(label); err != nil {
			t.Fatalf("count goroutines: %v", err)
		}
		if left <= few {
			return
		}
	}
	t.Errorf("%d calls that ended with their callers left %d goroutines behind", calls, left)
}

// callLabel marks goroutines in profiles, and so those that they start.
const callLabel = "kmstest call"

// countGoroutines returns how many goroutines have the label.
func countGoroutines(label string) (int, error) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return 0, err
	}
	count := 0
	for record := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(record, strconv.Quote(label)) {
			continue
		}
		// "3 @ 0x…", after a line about the whole profile in the first record.
		for line := range strings.Lines(record) {
			number, _, found := strings.Cut(line, " @ ")
			if !found {
				continue
			}
			n, err := strconv.Atoi(number)
			if err != nil {
				return 0, fmt.Errorf("a goroutine profile does not read as expected: %w", err)
			}
			count += n
			break
		}
	}
	return count, nil
}

// checkStallTimeout leaves a stalled key to its own devices.
func checkStallTimeout(t testing.TB, h Harness) {
	stalled(t, h, 2, func(key kms.Key, dataKeys [][]byte, wrapped []kms.Wrapped) {
		hasty := h.Hasty(t, key)
		promise := faultPromise{fault: FaultStall, wrap: []kms.Class{kms.Unavailable}, unwrap: []kms.Class{kms.Unavailable}}
		for _, check := range []func(ctx context.Context){
			func(ctx context.Context) { promise.checkWrap(t, ctx, h, hasty, dataKeys) },
			func(ctx context.Context) { promise.checkUnwrap(t, ctx, h, hasty, wrapped, dataKeys) },
		} {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), callLimit)
			check(ctx)
			cancel()
			if took := time.Since(began); took > promptly {
				t.Errorf("a key with a short timeout of its own took %v", took)
			}
		}
	})
}
