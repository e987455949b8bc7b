package kmstest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// checkContexts wraps under right, and wants every one of wrong refused.
func checkContexts(t testing.TB, h Harness, right kms.Context, wrong ...kms.Context) {
	t.Helper()
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, right)
	for _, ec := range wrong {
		t.Logf("context %v", ec)
		mustRefuse(t, key, []kms.Wrapped{wrapped}, ec, refusedContext(), dataKey)
	}
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, right, [][]byte{dataKey})
}

// checkManyClaims leaves each of many claims away in turn, and alters it.
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

// checkOversizedContext goes beyond what AWS KMS (8 KiB) and Google Cloud KMS
// (64 KiB) take, and what an envelope can hold. It may be refused; it must not be
// cut short, for then the end of it binds nothing.
func checkOversizedContext(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKeys := newDataKeys(1)
	small := mustWrap(t, key, dataKeys, testContext())
	for _, size := range []int{8 << 10, 64 << 10, 256 << 10} {
		ec := kms.Context{"namespace": strings.Repeat("n", size-1) + "a"}
		wrapped, err := key.Wrap(t.Context(), dataKeys, ec)
		switch {
		case err != nil:
			if wrapped != nil {
				t.Errorf("context of %d bytes: Wrap gave both an error and an answer", size)
			}
			checkError(t, fmt.Sprintf("context of %d bytes", size), key, "wrap", err, []kms.Class{kms.Internal}, dataKeys...)
		case len(wrapped) != 1:
			t.Fatalf("context of %d bytes: Wrap of one gave %d answers", size, len(wrapped))
		default:
			mustUnwrap(t, key, wrapped, ec, dataKeys)
			mustRefuse(t, key, wrapped, kms.Context{"namespace": strings.Repeat("n", size-1) + "b"}, refusedContext(), dataKeys...)
		}
		mustRefuse(t, key, small, ec, slices.Concat(refusedContext(), []kms.Class{kms.Internal}), dataKeys...)
	}
	mustUnwrap(t, key, small, testContext(), dataKeys) // the key is none the worse
}

// emptyContexts are those that AWS KMS does not take.
func emptyContexts() []kms.Context {
	return []kms.Context{{"namespace": ""}, {"": "payments"}, {"": ""}, {"namespace": "payments", "note": ""}}
}

func checkEmptyInContext(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	mustRefuseEmpty(t, key, dataKey, wrapped)
	mustUnwrap(t, key, []kms.Wrapped{wrapped}, testContext(), [][]byte{dataKey}) // the key is none the worse
}

// checkEmptyNotSent: what a KMS that is down cannot have refused, the key did.
func checkEmptyNotSent(t testing.TB, h Harness) {
	key := h.NewKey(t)
	dataKey, wrapped := wrapOne(t, key, testContext())
	heal := once(h.Faults[FaultDown](t, key))
	defer heal()
	mustRefuseEmpty(t, key, dataKey, wrapped)
	heal()
	mustBeBack(t, key, FaultDown, []kms.Wrapped{wrapped}, [][]byte{dataKey})
}

// mustRefuseEmpty wants all that takes a context to refuse an empty name or value,
// with Class Internal: the caller has a bug.
func mustRefuseEmpty(t testing.TB, key kms.Key, dataKey []byte, wrapped kms.Wrapped) {
	t.Helper()
	internal := []kms.Class{kms.Internal}
	for _, ec := range emptyContexts() {
		got, err := key.Wrap(t.Context(), [][]byte{dataKey}, ec)
		if err == nil || got != nil {
			t.Errorf("context %q: Wrap gave %d answers, error %v", ec, len(got), err)
			continue
		}
		checkError(t, fmt.Sprintf("Wrap under %q", ec), key, "wrap", err, internal, dataKey)
		if e, ok := errors.AsType[*kms.Error](err); !ok || e.Hint() == "" {
			t.Errorf("context %q: Wrap gives no advice", ec)
		}
		mustRefuse(t, key, []kms.Wrapped{wrapped, wrapped}, ec, internal, dataKey)
		if _, ok := kms.As[kms.Rewrapper](key); ok {
			mustNotRewrap(t, key, key, []kms.Wrapped{wrapped, wrapped}, ec, internal, dataKey)
		}
	}
}

// checkContextsApart has calls under different contexts run at one time.
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
