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

// A backend's test hands its keys to the suite. This one cannot switch keys off
// and says so.
func ExampleRun() {
	test := func(t *testing.T) {
		newKey := func(testing.TB) kms.Key { return kmstest.NewFake(fmt.Sprintf("%p", new(byte))) }
		kmstest.Run(t, kmstest.Harness{
			NewKey: newKey, OtherKey: newKey,
			Reopen:      func(_ testing.TB, k kms.Key) kms.Key { return k.(*kmstest.Fake).Reopen() },
			Rotate:      func(_ testing.TB, k kms.Key) { k.(*kmstest.Fake).Rotate() },
			VersionTold: true,
			Lacks:       map[kmstest.Power]string{kmstest.PowerDisable: "this KMS only deletes"},
		})
	}
	_ = test // go test calls it: func TestConformance(t *testing.T)
	// Output:
}
