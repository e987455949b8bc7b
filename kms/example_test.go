package kms_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// A program names the backends it links in and opens keys by URI. This one has
// the fake of tests; others pass awskms.Backend, vaultkms.Backend, localkms.Backend.
func ExampleRegistry() {
	ctx := context.Background()
	registry := kms.NewRegistry(kmstest.NewBackend())
	key, err := registry.Open(ctx, "fake://payments")
	if err != nil {
		fmt.Println(err)
		return
	}
	ec := kms.Context{"namespace": "default"}
	wrapped, err := key.Wrap(ctx, [][]byte{make([]byte, kms.DataKeySize)}, ec)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(kms.VersionedID(key.ID(), wrapped[0].Version))

	unwrapped, err := key.Unwrap(ctx, wrapped, ec)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(unwrapped[0].DataKey), "bytes, error", unwrapped[0].Err)
	// Output:
	// fake://payments@1
	// 32 bytes, error <nil>
}

// An error says what to do next, and its class decides what a program does.
func ExampleClassOf() {
	_, err := kms.NewRegistry(kmstest.NewBackend()).Open(context.Background(), "awskms:///alias/payments")
	fmt.Println(err)
	if e, ok := errors.AsType[*kms.Error](err); ok {
		fmt.Println("hint:", e.Hint())
	}
	fmt.Println("retry:", kms.ClassOf(err).Transient())
	// Output:
	// kms: open with awskms:///alias/payments: invalid: no backend for scheme "awskms" is linked in
	// hint: use one of fake, or pass the backend to kms.NewRegistry
	// retry: false
}

func ExampleParseURI() {
	_, err := kms.ParseURI("hashivault://me:password@vault/payments")
	fmt.Println(err)
	// Output: kms: parse key URI: invalid: it holds a user name or password, which do not belong in a key URI
}

func ExampleContext_AssociatedData() {
	fmt.Println(hex.EncodeToString(kms.Context{"ns": "a"}.AssociatedData()))
	// Output: 000000026e730000000161
}

func ExampleSplitVersionedID() {
	id, version := kms.SplitVersionedID("hashivault://transit/payments@7")
	fmt.Println(id, version)
	// Output: hashivault://transit/payments 7
}
