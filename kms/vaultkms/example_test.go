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

// Keys of one address and login share a token: a key for each of ten thousand
// tenants is one login.
func ExampleNewBackend() {
	registry := kms.NewRegistry(vaultkms.NewBackend())
	for _, tenant := range []string{"acme", "globex"} {
		key, err := registry.Open(context.Background(), "hashivault://transit/tenant-"+tenant+"?auth=kubernetes&role=worker")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(key.ID())
	}
	// Output:
	// hashivault://transit/tenant-acme
	// hashivault://transit/tenant-globex
}

// A process logs in by AppRole; its secret ID is in a file that may be replaced.
func ExampleNew_appRole() {
	key, err := vaultkms.New(vaultkms.Config{
		Mount: "transit", Name: "payments", Address: "https://vault.example.com:8200",
		Auth: vaultkms.Auth{Method: vaultkms.AuthAppRole, RoleID: "216c563c", SecretIDFile: "/run/secrets/secret-id"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()
	fmt.Println(key.ID())
	// Output: hashivault://transit/payments
}

// A key that was made with derived=true rewraps inside Vault after a rotation.
func ExampleNewDerived() {
	ctx, ec := context.Background(), kms.Context{"namespace": "payments-prod"}
	key, err := vaultkms.NewDerived(vaultkms.Config{Mount: "transit", Name: "payments"})
	if err != nil {
		log.Fatal(err)
	}
	defer key.(kms.Closer).Close()
	wrapped, err := key.Wrap(ctx, [][]byte{make([]byte, kms.DataKeySize)}, ec)
	if err != nil {
		log.Fatal(err)
	}
	rotator, _ := kms.As[kms.Rotator](key)
	version, err := rotator.Rotate(ctx)
	if err != nil {
		log.Fatal(err)
	}
	rewrapper, _ := kms.As[kms.Rewrapper](key)
	rewrapped, err := rewrapper.Rewrap(ctx, key, wrapped, ec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rewrapped[0].Wrapped.Version == version.ID)
}

// What a doctor checks.
func ExampleKey_Probe() {
	key, err := vaultkms.New(vaultkms.Config{Mount: "transit", Name: "payments"})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()
	report, err := key.Probe(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Identity, report.Key, report.Warnings)
}
