package kmstest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func contextCases() []conformance {
	return []conformance{
		{name: "missing claim is refused", check: func(t testing.TB, h Harness) {
			checkContexts(t, h, kms.Context{"namespace": "payments", "workflowType": "Charge"}, nil, kms.Context{},
				kms.Context{"namespace": "payments"}, kms.Context{"workflowType": "Charge"})
		}},
		{name: "extra claim is refused", check: func(t testing.TB, h Harness) {
			checkContexts(t, h, kms.Context{"namespace": "payments"},
				kms.Context{"namespace": "payments", "extra": "1"})
			checkContexts(t, h, nil, kms.Context{"namespace": "payments"})
		}},
		{name: "changed value is refused", check: func(t testing.TB, h Harness) {
			checkContexts(t, h, kms.Context{"namespace": "payments", "note": "é"},
				kms.Context{"namespace": "payments2", "note": "é"}, kms.Context{"namespace": "Payments", "note": "é"},
				kms.Context{"namespace": "payment", "note": "é"}, kms.Context{"namespace": " payments", "note": "é"},
				kms.Context{"namespace": "payments", "note": "e\u0301"})
		}},
		{name: "renamed claim is refused", check: func(t testing.TB, h Harness) {
			checkContexts(t, h, kms.Context{"namespace": "payments", "workflowType": "Charge"},
				kms.Context{"Namespace": "payments", "workflowType": "Charge"}, kms.Context{"namespacep": "ayments", "workflowType": "Charge"},
				kms.Context{"namespac": "epayments", "workflowType": "Charge"})
		}},
		{name: "swapped values are refused", check: func(t testing.TB, h Harness) {
			checkContexts(t, h, kms.Context{"namespace": "payments", "workflowType": "Charge"},
				kms.Context{"namespace": "Charge", "workflowType": "payments"}, kms.Context{"payments": "namespace", "Charge": "workflowType"})
		}},
		{name: "many claims are all bound", check: checkManyClaims},
		{name: "oversized context is refused or bound whole", check: checkOversizedContext},
		{name: "empty name or value is refused", check: checkEmptyInContext},
		{name: "empty name or value is refused without asking", needs: []Power{FaultDown}, testOnly: true, check: checkEmptyNotSent},
		{name: "contexts of concurrent calls stay apart", check: checkContextsApart},
	}
}

// checkContexts wraps under right, and wants a refusal under each of wrong.
func checkContexts(t testing.TB, h Harness, right kms.Context, wrong ...kms.Context) {
	t.Helper()
	s := sampleUnder(t, h.NewKey(t), 1, right)
	for _, ec := range wrong {
		t.Logf("context %v", ec)
		s.refused(t, ec, refusedContext()...)
	}
	s.opens(t)
}

// checkManyClaims omits, then alters, each of many claims.
func checkManyClaims(t testing.TB, h Harness) {
	right := kms.Context{}
	for i := range 12 {
		right[fmt.Sprintf("claim%d", i)] = strings.Repeat(string(rune('a'+i)), 1+3*i)
	}
	var wrong []kms.Context
	for name := range right {
		without, other := maps.Clone(right), maps.Clone(right)
		delete(without, name)
		other[name] += "x"
		wrong = append(wrong, without, other)
	}
	checkContexts(t, h, right, wrong...)
}

// checkOversizedContext exceeds what AWS KMS (8 KiB) and Google Cloud KMS (64 KiB)
// accept, and what an envelope can hold. A key may refuse it; it must not cut it
// short, for then its end binds nothing.
func checkOversizedContext(t testing.TB, h Harness) {
	small := sampleOf(t, h.NewKey(t), 1)
	for _, size := range []int{8 << 10, 64 << 10, 256 << 10} {
		big := small
		big.ec = kms.Context{"namespace": strings.Repeat("n", size-1) + "a"}
		wrapped, err := big.key.Wrap(t.Context(), big.dataKeys, big.ec)
		switch {
		case err != nil:
			if wrapped != nil {
				t.Errorf("context of %d bytes: Wrap gave both an error and an answer", size)
			}
			checkError(t, fmt.Sprintf("context of %d bytes", size), big.key, "wrap", err, []kms.Class{kms.Internal}, big.dataKeys...)
		case len(wrapped) != 1:
			t.Fatalf("context of %d bytes: Wrap of one gave %d answers", size, len(wrapped))
		default:
			big.wrapped = wrapped
			big.opens(t)
			big.refused(t, kms.Context{"namespace": strings.Repeat("n", size-1) + "b"}, refusedContext()...)
		}
		small.refused(t, big.ec, append(refusedContext(), kms.Internal)...)
	}
	small.opens(t) // the key is none the worse
}

// emptyContexts are those that AWS KMS does not take.
func emptyContexts() []kms.Context {
	return []kms.Context{{"namespace": ""}, {"": "payments"}, {"": ""}, {"namespace": "payments", "note": ""}}
}

func checkEmptyInContext(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 2)
	s.refusesEmpty(t)
	s.opens(t) // the key is none the worse
}

// checkEmptyNotSent: while the KMS is down, the refusal must come from the key itself.
func checkEmptyNotSent(t testing.TB, h Harness) {
	s := sampleOf(t, h.NewKey(t), 2)
	heal := once(h.Faults[FaultDown](t, s.key))
	defer heal()
	s.refusesEmpty(t)
	heal()
	s.back(t, FaultDown)
}

// refusesEmpty wants every operation with a context to refuse an empty name or
// value, with Class Internal: the caller has a bug.
func (s sample) refusesEmpty(t testing.TB) {
	t.Helper()
	for _, ec := range emptyContexts() {
		t.Logf("context %q", ec)
		empty := s
		empty.ec = ec
		if err := empty.wrapCall().failure(t.Context(), t); err != nil {
			checkError(t, "Wrap", s.key, "wrap", err, []kms.Class{kms.Internal}, s.secrets()...)
			if e, ok := errors.AsType[*kms.Error](err); !ok || e.Hint() == "" {
				t.Error("Wrap gives no advice")
			}
		}
		s.refused(t, ec, kms.Internal)
		if _, ok := kms.As[kms.Rewrapper](s.key); ok {
			s.notRewrapped(t, s.key, ec, kms.Internal)
		}
	}
}

// checkContextsApart makes calls under different contexts at one time.
func checkContextsApart(t testing.TB, h Harness) {
	const contexts = 16
	key := h.NewKey(t)
	wrapped := make([]kms.Wrapped, contexts)
	dataKeys := newDataKeys(contexts)
	of := func(i int) kms.Context { return kms.Context{"namespace": fmt.Sprintf("tenant-%d", i)} }
	inParallel(contexts, func(i int) {
		w, err := key.Wrap(t.Context(), dataKeys[i:i+1], of(i))
		if err != nil || len(w) != 1 {
			t.Errorf("Wrap: %d answers, error %v", len(w), err)
			return
		}
		wrapped[i] = w[0]
	})
	inParallel(contexts, func(i int) {
		for other := range 3 {
			got, err := key.Unwrap(t.Context(), wrapped[i:i+1], of((i+other)%contexts))
			if err != nil && other == 0 || err == nil && len(got) != 1 {
				t.Errorf("Unwrap: %d answers, error %v", len(got), err)
				return
			}
			opened := err == nil && got[0].Err == nil
			if opened != (other == 0) || opened && !bytes.Equal(got[0].DataKey, dataKeys[i]) {
				t.Errorf("what was wrapped for tenant %d: opened for tenant %d: %v", i, (i+other)%contexts, opened)
			}
		}
	})
}
