package resilience_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

// TestConformance: a decorated key keeps every promise that the key behind keeps,
// and shows each of its powers. It tries once and never breaks, so that nothing of
// what the suite does to a key is smoothed over.
func TestConformance(t *testing.T) {
	plain := resilience.Config{Attempts: 1, BreakerFailures: 10_000, MaxBatch: 100, Timeout: time.Minute}
	hasty := plain
	hasty.Timeout = 400 * time.Millisecond
	var made atomic.Int64
	var suffers sync.Map // key ID → kmstest.Fault
	of := func(t testing.TB, key kms.Key) *kmstest.Fake {
		t.Helper()
		m, ok := kms.As[*kmstest.Managed](key)
		if !ok {
			t.Fatalf("no Fake behind %T", key)
		}
		return m.Fake
	}
	open := func(t testing.TB, f *kmstest.Fake, cfg resilience.Config) kms.Key {
		t.Helper()
		f.Each(func(c kmstest.Call) kmstest.Fault {
			fault, ok := suffers.Load(f.ID())
			if !ok {
				return kmstest.Healthy()
			}
			return fault.(func(kmstest.Op) kmstest.Fault)(c.Op)
		})
		return decorate(t, f.Managed(), cfg)
	}
	create := func(t testing.TB) kms.Key {
		t.Helper()
		return open(t, kmstest.NewFake(fmt.Sprintf("key-%d", made.Add(1))), plain)
	}
	h := kmstest.Harness{
		NewKey: create, OtherKey: create,
		Reopen:           func(t testing.TB, k kms.Key) kms.Key { t.Helper(); return open(t, of(t, k).Reopen(), plain) },
		Hasty:            func(t testing.TB, k kms.Key) kms.Key { t.Helper(); return open(t, of(t, k).Reopen(), hasty) },
		Rotate:           func(t testing.TB, k kms.Key) { t.Helper(); of(t, k).Rotate() },
		Disable:          func(t testing.TB, k kms.Key) { t.Helper(); of(t, k).Disable() },
		Enable:           func(t testing.TB, k kms.Key) { t.Helper(); of(t, k).Enable() },
		DisableVersion:   func(t testing.TB, k kms.Key, version string) { t.Helper(); of(t, k).DisableVersion(version) },
		DestroyVersion:   func(t testing.TB, k kms.Key, version string) { t.Helper(); of(t, k).DestroyVersion(version) },
		ScheduleDeletion: func(t testing.TB, k kms.Key) { t.Helper(); of(t, k).ScheduleDeletion() },
		Faults:           map[kmstest.Power]func(testing.TB, kms.Key) func(){},
		VersionTold:      true,
	}
	throttle := func(after time.Duration) kmstest.Fault {
		return kmstest.Fault{Err: &kms.Error{Class: kms.Throttled, Detail: "scripted fault", Advice: "wait", RetryAfter: after}}
	}
	down := kmstest.Fail(kms.Unavailable)
	for power, fault := range map[kmstest.Power]kmstest.Fault{
		kmstest.FaultDenied: kmstest.Fail(kms.Denied), kmstest.FaultExpired: kmstest.Fail(kms.Denied),
		kmstest.FaultThrottled: throttle(0), kmstest.FaultThrottledFor: throttle(kmstest.ThrottledFor),
		kmstest.FaultDown: down, kmstest.FaultServerError: down, kmstest.FaultReset: down, kmstest.FaultNotTheKMS: down,
		kmstest.FaultHugeAnswer: down, kmstest.FaultRequestDamaged: down, kmstest.FaultAnswerDamaged: down,
		kmstest.FaultWrongKey: kmstest.Fail(kms.Internal), kmstest.FaultShortPlaintext: kmstest.Fail(kms.Corrupt),
		kmstest.FaultStall: kmstest.Stall(),
	} {
		h.Faults[power] = func(t testing.TB, k kms.Key) func() {
			t.Helper()
			suffers.Store(k.ID(), func(op kmstest.Op) kmstest.Fault {
				if power == kmstest.FaultShortPlaintext && op == kmstest.OpWrap {
					return kmstest.Healthy() // there is no plaintext in its answer
				}
				return fault
			})
			return func() { suffers.Delete(k.ID()) }
		}
	}
	kmstest.Run(t, h)
}
