package kmstest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// An outage that ends: two calls fail, the third is answered.
func ExampleFake() {
	ctx := context.Background()
	key := kmstest.NewFake("payments")
	key.ScriptWrap(kmstest.Fail(kms.Unavailable), kmstest.Fail(kms.Throttled))

	dataKeys := [][]byte{make([]byte, kms.DataKeySize)}
	for range 3 {
		wrapped, err := key.Wrap(ctx, dataKeys, kms.Context{"namespace": "default"})
		fmt.Println(len(wrapped), err)
	}
	fmt.Println(key.Counts().Wraps, "calls")
	// Output:
	// 0 kms: wrap with fake://payments: unavailable: scripted fault
	// 0 kms: wrap with fake://payments: throttled: scripted fault
	// 1 <nil>
	// 3 calls
}

func ExampleNewBackend() {
	backend := kmstest.NewBackend(kmstest.NewFake("payments"))
	registry := kms.NewRegistry(backend)
	key, err := registry.Open(context.Background(), "fake://payments")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.ID())
	// Output: fake://payments
}

// exampleHarness hands the suite a Fake that can be rotated and switched off,
// and says why nothing else can happen to it.
func exampleHarness() kmstest.Harness {
	newKey := func(testing.TB) kms.Key { return kmstest.NewFake(fmt.Sprintf("%p", new(byte))) }
	fake := func(k kms.Key) *kmstest.Fake { return k.(*kmstest.Fake) }
	h := kmstest.Harness{
		NewKey: newKey, OtherKey: newKey,
		Reopen:      func(_ testing.TB, k kms.Key) kms.Key { return fake(k).Reopen() },
		Rotate:      func(_ testing.TB, k kms.Key) { fake(k).Rotate() },
		Disable:     func(_ testing.TB, k kms.Key) { fake(k).Disable() },
		Enable:      func(_ testing.TB, k kms.Key) { fake(k).Enable() },
		VersionTold: true,
		Lacks: map[kmstest.Power]string{
			kmstest.PowerRewrapper: "this KMS has no such call",
			kmstest.PowerRotator:   "versions are managed elsewhere",
			kmstest.PowerRetirer:   "versions are managed elsewhere",
			kmstest.PowerProber:    "there is nothing to ask about",
		},
	}
	for _, p := range []kmstest.Power{
		kmstest.PowerDisableVersion, kmstest.PowerDestroyVersion, kmstest.PowerPendingDeletion, kmstest.PowerHasty,
		kmstest.FaultDenied, kmstest.FaultThrottled, kmstest.FaultThrottledFor, kmstest.FaultExpired, kmstest.FaultDown,
		kmstest.FaultServerError, kmstest.FaultStall, kmstest.FaultReset, kmstest.FaultNotTheKMS, kmstest.FaultWrongKey,
		kmstest.FaultShortPlaintext, kmstest.FaultRequestDamaged, kmstest.FaultAnswerDamaged, kmstest.FaultHugeAnswer,
	} {
		h.Lacks[p] = "this KMS is a map in memory"
	}
	return h
}

// A backend's test hands its keys to the suite, and says what they cannot do.
func ExampleRun() {
	test := func(t *testing.T) { kmstest.Run(t, exampleHarness()) }
	_ = test // go test calls it: func TestConformance(t *testing.T)
	// Output:
}

func TestExampleHarness(t *testing.T) { kmstest.Run(t, exampleHarness()) }

// The same suite against a key of the real service:
//
//	WAXSEAL_TEST_AWS_KEY=awskms:///alias/test?region=eu-west-1 go test -v -run Real ./kms/awskms
func ExampleRunReal() {
	registry := kms.NewRegistry(kmstest.NewBackend()) // a backend's test names its own: awskms.Backend
	test := func(t *testing.T) { kmstest.RunReal(t, "WAXSEAL_TEST_AWS_KEY", registry) }
	_ = test // go test calls it: func TestReal(t *testing.T)
	// Output:
}
