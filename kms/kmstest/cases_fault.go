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

// faultPromise is what becomes of calls while something goes wrong.
type faultPromise struct {
	fault        Power
	name         string
	wrap, unwrap []kms.Class
	// wrapMayWork and unwrapMayWork: an answer may come too, if it is right, since
	// not every KMS's answers tell.
	wrapMayWork, unwrapMayWork bool
	// onTheWay: the fault is between us and the KMS, and so befalls all that a key
	// can be asked.
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

// checkFault has everything fail, looks at what a handle that was in use and one
// that was not say, and wants both to work when it is over.
func (p faultPromise) checkFault(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys := newDataKeys(5)
	wrapped := mustWrap(t, key, dataKeys, testContext())
	mustUnwrap(t, key, wrapped, testContext(), dataKeys)
	unused := h.Reopen(t, key)

	heal := once(h.Faults[p.fault](t, key))
	defer heal()
	limited := func(check func(ctx context.Context)) {
		ctx, cancel := context.WithTimeout(t.Context(), callLimit)
		defer cancel()
		check(ctx)
	}
	for _, k := range []kms.Key{key, unused} {
		for _, n := range []int{1, len(dataKeys)} {
			limited(func(ctx context.Context) { p.checkWrap(t, ctx, h, k, dataKeys[:n]) })
			limited(func(ctx context.Context) { p.checkUnwrap(t, ctx, h, k, wrapped[:n], dataKeys[:n]) })
		}
	}
	heal()
	for _, k := range []kms.Key{key, unused} {
		mustBeBack(t, k, p.fault, wrapped, dataKeys)
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

//nolint:revive // t first, as everywhere in tests
func (p faultPromise) checkWrap(t testing.TB, ctx context.Context, h Harness, key kms.Key, dataKeys [][]byte) {
	t.Helper()
	got, err := key.Wrap(ctx, dataKeys, testContext())
	switch {
	case err != nil && got != nil:
		t.Errorf("Wrap of %d: part of an answer came with the error", len(dataKeys))
	case err != nil:
		p.checkFailure(t, h, fmt.Sprintf("Wrap of %d", len(dataKeys)), key, "wrap", err, p.wrap, dataKeys...)
	case !p.wrapMayWork:
		t.Errorf("Wrap of %d: answered", len(dataKeys))
	case len(got) != len(dataKeys):
		t.Errorf("Wrap of %d gave %d answers", len(dataKeys), len(got))
	}
}

//nolint:revive // t first, as everywhere in tests
func (p faultPromise) checkUnwrap(t testing.TB, ctx context.Context, h Harness, key kms.Key, wrapped []kms.Wrapped, dataKeys [][]byte) {
	t.Helper()
	what := fmt.Sprintf("Unwrap of %d", len(wrapped))
	got, err := key.Unwrap(ctx, wrapped, testContext())
	if err != nil {
		if got != nil {
			t.Errorf("%s: part of an answer came with the error", what)
		}
		got = slices.Repeat([]kms.Unwrapped{{Err: err}}, len(wrapped))
	}
	if len(got) != len(wrapped) {
		t.Errorf("%s gave %d answers", what, len(got))
		return
	}
	for i, u := range got {
		switch {
		case u.Err != nil && u.DataKey != nil:
			t.Errorf("%s: item %d: a data key came with the error", what, i)
		case u.Err != nil:
			p.checkFailure(t, h, what, key, "unwrap", u.Err, p.unwrap, dataKeys[i], wrapped[i].Blob)
		case !p.unwrapMayWork:
			t.Errorf("%s: item %d: answered", what, i)
		case !bytes.Equal(u.DataKey, dataKeys[i]):
			t.Errorf("%s: item %d: not the data key that was wrapped", what, i)
		}
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

// mustBeBack checks that a key works again once a fault is over: at once, but
// where nothing was listening.
func mustBeBack(t testing.TB, key kms.Key, fault Power, wrapped []kms.Wrapped, dataKeys [][]byte) {
	t.Helper()
	for began := time.Now(); fault == FaultDown && time.Since(began) < backWithin; {
		_, err := key.Wrap(t.Context(), dataKeys[:1], testContext())
		if err == nil {
			break
		}
		checkError(t, "Wrap", key, "wrap", err, []kms.Class{kms.Unavailable}, dataKeys...)
		pause(t, 20*time.Millisecond)
	}
	mustUnwrap(t, key, wrapped, testContext(), dataKeys)
	mustUnwrap(t, key, mustWrap(t, key, dataKeys, testContext()), testContext(), dataKeys)
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
