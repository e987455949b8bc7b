package kmstest

import (
	"bytes"
	"context"
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
		{name: "stalled: the caller's deadline gives Canceled", needs: stalls, check: func(t testing.TB, h Harness) {
			checkStall(t, h, 3, context.DeadlineExceeded, deadline)
		}},
		{name: "stalled: a caller that gives up gets Canceled", needs: stalls, check: func(t testing.TB, h Harness) {
			checkStall(t, h, 3, context.Canceled, givingUp)
		}},
		// More items than any backend sends at one time.
		{name: "stalled: a large batch ends with its caller", needs: stalls, check: func(t testing.TB, h Harness) {
			checkStall(t, h, 250, context.DeadlineExceeded, deadline)
		}},
		{name: "stalled: calls leave nothing behind", needs: stalls, check: checkStallLeavesNothing},
		{name: "stalled: the key's own timeout gives Unavailable", needs: []Power{FaultStall, PowerHasty}, check: checkStallTimeout},
	}
}

// stalled runs check with a key that stalls and n data keys that it wrapped before,
// and wants the key to work at once afterwards.
func stalled(t testing.TB, h Harness, n int, check func(s sample)) {
	t.Helper()
	s := sampleOf(t, h.NewKey(t), n)
	heal := once(h.Faults[FaultStall](t, s.key))
	defer heal()
	check(s)
	heal()
	s.back(t, FaultStall)
}

// deadline returns a context that ends after patience, as one with a timeout does.
func deadline(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), patience)
}

// givingUp returns a context that its caller cancels after patience.
func givingUp(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(patience, cancel)
	return ctx, cancel
}

// mustEnd makes each call under a new context, and wants it to end promptly, with
// Class Canceled and cause.
func mustEnd(
	t testing.TB, h Harness, s sample, cause error,
	newContext func(testing.TB) (context.Context, context.CancelFunc), calls ...call,
) {
	t.Helper()
	for _, c := range calls {
		ctx, cancel := newContext(t)
		began := time.Now()
		c.canceled(ctx, t, s, cause, h.credentials()...)
		cancel()
		if took := time.Since(began); took > patience+promptly {
			t.Errorf("%s: took %v after its caller had given up", c.name, took-patience)
		}
	}
}

func checkStall(t testing.TB, h Harness, n int, cause error, newContext func(testing.TB) (context.Context, context.CancelFunc)) {
	t.Helper()
	stalled(t, h, n, func(s sample) {
		mustEnd(t, h, s, cause, newContext, s.wrapCall(), s.unwrapCall())
	})
}

// checkStallLeavesNothing counts the goroutines of calls by a label that they inherit.
// A few may stay, such as those of a connection.
func checkStallLeavesNothing(t testing.TB, h Harness) {
	const calls, few = 64, 16
	label := fmt.Sprintf("%s %p", t.Name(), new(byte))
	stalled(t, h, 1, func(s sample) {
		kinds := []call{s.wrapCall(), s.unwrapCall()}
		inParallel(calls, func(i int) {
			ctx, cancel := deadline(t)
			defer cancel()
			pprof.Do(ctx, pprof.Labels(callLabel, label), func(ctx context.Context) {
				if _, err := kinds[i%2].do(ctx); kms.ClassOf(err) != kms.Canceled {
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

// callLabel marks a goroutine, and those that it starts, in profiles.
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

// checkStallTimeout sets no deadline that a stalled key with a timeout of its own reaches.
func checkStallTimeout(t testing.TB, h Harness) {
	stalled(t, h, 2, func(s sample) {
		hasty := s.on(h.Hasty(t, s.key))
		promise := faultPromise{fault: FaultStall, wrap: []kms.Class{kms.Unavailable}, unwrap: []kms.Class{kms.Unavailable}}
		for _, check := range []func(context.Context, testing.TB, Harness, sample){promise.checkWrap, promise.checkUnwrap} {
			began := time.Now()
			limited(t, func(ctx context.Context) { check(ctx, t, h, hasty) })
			if took := time.Since(began); took > promptly {
				t.Errorf("a key with a short timeout of its own took %v", took)
			}
		}
	})
}
