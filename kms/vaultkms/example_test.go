package vaultkms_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/vaultkms"
)

// A program names the backends that it links in. Opening a key reads VAULT_ADDR,
// VAULT_TOKEN and the like, and does not reach Vault yet.
func Example() {
	registry := kms.NewRegistry(vaultkms.Backend)
	key, err := registry.Open(context.Background(), "hashivault://transit/payments")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID())
}

// What is recorded is the mount, the key and the Vault namespace; not the address.
func ExampleNew() {
	key, err := vaultkms.New(vaultkms.Config{
		Mount:     "team-a/transit",
		Name:      "payments",
		Namespace: "org/eu",
		Address:   "https://vault.example.com:8200",
		Token:     "hvs.from-somewhere-safe",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID())
	// Output: hashivault://team-a/transit/payments?namespace=org/eu
}

// Two data keys are wrapped in one request, and unwrapped in another.
func ExampleKey_Wrap() {
	ctx := context.Background()
	key, err := vaultkms.New(vaultkms.Config{Mount: "transit", Name: "payments"})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	dataKeys := [][]byte{make([]byte, kms.DataKeySize), make([]byte, kms.DataKeySize)}
	for _, k := range dataKeys {
		rand.Read(k)
	}
	wrapped, err := key.Wrap(ctx, dataKeys, kms.Context{"namespace": "payments-prod"})
	if err != nil {
		log.Fatal(err)
	}
	unwrapped, err := key.Unwrap(ctx, wrapped, kms.Context{"namespace": "payments-prod"})
	if err != nil {
		log.Fatal(err)
	}
	for i, u := range unwrapped {
		fmt.Println(kms.VersionedID(key.ID(), wrapped[i].Version), len(u.DataKey), u.Err)
	}
}
