package kmstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// callLimit is how long a call that does not stall may take, on a machine that
	// has much else to do.
	callLimit = 10 * time.Second
	// backWithin is how soon a key is of use again after nothing was listening:
	// clients pause between attempts to connect.
	backWithin = 10 * time.Second
)

// faultPromise is how calls fail while something goes wrong.
type faultPromise struct {
	fault        Power
	name         string
	wrap, unwrap []kms.Class
	// wrapMayWork and unwrapMayWork: a right answer may come too, since the answers of
	// some KMSs do not show the fault.
	wrapMayWork, unwrapMayWork bool
	// onTheWay: the fault is between us and the KMS, so it affects all operations.
	onTheWay bool
}

// faultPromises says which Class each fault has: package kms documents them.
// FaultStall has cases of its own.
func faultPromises() []faultPromise {
	one := func(c ...kms.Class) []kms.Class { return c }
	same := func(fault Power, name string, c kms.Class) faultPromise {
		return faultPromise{fault: fault, name: name, wrap: one(c), unwrap: one(c), onTheWay: true}
	}
	return []faultPromise{
		same(FaultDenied, "denied gives Denied", kms.Denied),
		same(FaultThrottled, "throttled gives Throttled", kms.Throttled),
		same(FaultThrottledFor, "throttled for a time tells how long", kms.Throttled),
		same(FaultExpired, "expired credentials give Denied", kms.Denied),
		same(FaultDown, "a KMS that is down gives Unavailable", kms.Unavailable),
		same(FaultServerError, "server error gives Unavailable", kms.Unavailable),
		same(FaultReset, "reset in the answer gives Unavailable", kms.Unavailable),
		same(FaultNotTheKMS, "a stranger's answer gives Unavailable", kms.Unavailable),
		{
			fault: FaultWrongKey, name: "wrong key in the answer is refused",
			wrap: one(kms.Internal), unwrap: one(kms.Internal, kms.Corrupt), unwrapMayWork: true,
		},
		{
			fault: FaultShortPlaintext, name: "truncated plaintext is refused",
			wrap: one(kms.Internal, kms.Corrupt), unwrap: one(kms.Corrupt), wrapMayWork: true,
		},
		// Damage on the way is gone at the next attempt.
		{fault: FaultRequestDamaged, name: "damaged request gives Unavailable", wrap: one(kms.Unavailable), unwrap: one(kms.Unavailable)},
		{fault: FaultAnswerDamaged, name: "damaged answer gives Unavailable", wrap: one(kms.Unavailable), unwrap: one(kms.Unavailable)},
		{
			fault: FaultHugeAnswer, name: "huge answer is refused",
			wrap: one(kms.Unavailable, kms.Internal), unwrap: one(kms.Unavailable, kms.Internal, kms.Corrupt),
		},
	}
}

func faultCases() []conformance {
	var out []conformance
	for _, p := range faultPromises() {
		out = append(out, conformance{
			name: p.name, needs: []Power{p.fault},
			check: func(t testing.TB, h Harness) { p.checkFault(t, h) },
		})
	}
	return out
}

// checkFault makes everything fail, checks a handle that was in use and one that was
// not, and wants both to work when the fault is over.
func (p faultPromise) checkFault(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 5)
	s.opens(t)
	keys := []kms.Key{s.key, h.Reopen(t, s.key)}

	heal := once(h.Faults[p.fault](t, s.key))
	defer heal()
	for _, k := range keys {
		for _, n := range []int{1, len(s.dataKeys)} {
			limited(t, func(ctx context.Context) { p.checkWrap(ctx, t, h, s.on(k).part(0, n)) })
			limited(t, func(ctx context.Context) { p.checkUnwrap(ctx, t, h, s.on(k).part(0, n)) })
		}
	}
	heal()
	for _, k := range keys {
		s.on(k).back(t, p.fault)
	}
}

// limited runs check with the time that calls have which do not stall.
func limited(t testing.TB, check func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	check(ctx)
}

// eachFaultOnTheWay runs check under every fault that affects all operations of a
// key, with a key of its own that works afterwards.
func eachFaultOnTheWay(t testing.TB, h Harness, check func(ctx context.Context, p faultPromise, s sample)) {
	t.Helper()
	for _, p := range faultPromises() {
		if _, lacks := h.Lacks[p.fault]; lacks || !p.onTheWay {
			continue
		}
		s := sampleOf(t, h.NewKey(t), 2)
		heal := once(h.Faults[p.fault](t, s.key))
		func() {
			defer heal() // also when check ends the test
			limited(t, func(ctx context.Context) { check(ctx, p, s) })
		}()
		s.back(t, p.fault)
	}
}

// once keeps a deferred heal from running a second time.
func once(heal func()) func() {
	healed := false
	return func() {
		if !healed {
			healed = true
			heal()
		}
	}
}

func (p faultPromise) checkWrap(ctx context.Context, t testing.TB, h Harness, s sample) {
	t.Helper()
	got, err := s.key.Wrap(ctx, s.dataKeys, s.ec)
	switch {
	case err != nil && got != nil:
		t.Errorf("Wrap of %d: part of an answer came with the error", len(s.dataKeys))
	case err != nil:
		p.checkFailure(t, h, fmt.Sprintf("Wrap of %d", len(s.dataKeys)), s.key, "wrap", err, p.wrap, s.dataKeys...)
	case !p.wrapMayWork:
		t.Errorf("Wrap of %d: answered", len(s.dataKeys))
	case len(got) != len(s.dataKeys):
		t.Errorf("Wrap of %d gave %d answers", len(s.dataKeys), len(got))
	}
}

func (p faultPromise) checkUnwrap(ctx context.Context, t testing.TB, h Harness, s sample) {
	t.Helper()
	what := fmt.Sprintf("Unwrap of %d", len(s.wrapped))
	got, err := s.key.Unwrap(ctx, s.wrapped, s.ec)
	for i, u := range itemsOf(t, what, len(s.wrapped), got, err, kms.Unwrapped{Err: err}) {
		switch {
		case u.Err != nil && u.DataKey != nil:
			t.Errorf("%s: item %d: a data key came with the error", what, i)
		case u.Err != nil:
			p.checkFailure(t, h, what, s.key, "unwrap", u.Err, p.unwrap, s.part(i, i+1).secrets()...)
		case !p.unwrapMayWork:
			t.Errorf("%s: item %d: answered", what, i)
		case !bytes.Equal(u.DataKey, s.dataKeys[i]):
			t.Errorf("%s: item %d: not the data key that was wrapped", what, i)
		}
	}
}

// checkCall wants an operation to fail as Wrap does.
func (p faultPromise) checkCall(ctx context.Context, t testing.TB, h Harness, s sample, c call) {
	t.Helper()
	what := fmt.Sprintf("%s: %s", p.fault, c.name)
	if _, err := c.do(ctx); err == nil {
		t.Errorf("%s: answered", what)
	} else {
		p.checkFailure(t, h, what, s.key, c.op, err, p.wrap, s.secrets()...)
	}
}

func (p faultPromise) checkFailure(t testing.TB, h Harness, what string, key kms.Key, op string, err error, classes []kms.Class, secrets ...[]byte) {
	t.Helper()
	checkError(t, what, key, op, err, classes, slices.Concat(secrets, h.credentials())...)
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		return // checkError said so
	}
	if e.Hint() == "" {
		t.Errorf("%s: nothing says what to do next: %v", what, err)
	}
	// A date in an answer has whole seconds, and some time has passed since.
	low, high := time.Duration(0), time.Duration(0)
	if p.fault == FaultThrottledFor {
		low, high = ThrottledFor-2*time.Second, ThrottledFor
	}
	if e.RetryAfter < low || e.RetryAfter > high {
		t.Errorf("%s: RetryAfter = %v, want %v to %v", what, e.RetryAfter, low, high)
	}
}

// back wants the key to work again once a fault is over: at once, but where nothing
// was listening.
func (s sample) back(t testing.TB, fault Power) {
	t.Helper()
	for began := time.Now(); fault == FaultDown && time.Since(began) < backWithin; pause(t, 20*time.Millisecond) {
		_, err := s.key.Wrap(t.Context(), s.dataKeys[:1], s.ec)
		if err == nil {
			break
		}
		checkError(t, "Wrap", s.key, "wrap", err, []kms.Class{kms.Unavailable}, s.dataKeys...)
	}
	s.opens(t)
	mustUnwrap(t, s.key, mustWrap(t, s.key, s.dataKeys, s.ec), s.ec, s.dataKeys)
}

// pause lets d pass, or the test end.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
