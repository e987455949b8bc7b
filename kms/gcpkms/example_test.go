package gcpkms_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
)

// A program names the backends that it links in. Opening a key looks for Google's
// Application Default Credentials, and does not reach Cloud KMS yet.
func Example() {
	registry := kms.NewRegistry(gcpkms.Backend)
	key, err := registry.Open(context.Background(), "gcpkms://projects/acme/locations/europe-west3/keyRings/waxseal/cryptoKeys/payments")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID())
}

// Against the test server, which needs no account: data keys are wrapped under the
// key's primary version, which is recorded.
func ExampleKey_Wrap() {
	ctx := context.Background()
	const name = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	server, err := gcpserver.Start(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.AddKey(name); err != nil {
		log.Fatal(err)
	}
	key, err := gcpkms.New(gcpkms.Config{Name: name, Endpoint: server.Addr(), InsecurePlaintext: true})
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
	// Output:
	// gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k@1 32 <nil>
	// gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k@1 32 <nil>
}

// A program with a key for each namespace has them share connections and tokens.
func ExampleNewBackend() {
	registry := kms.NewRegistry(gcpkms.NewBackend())
	for _, namespace := range []string{"payments-prod", "orders-prod"} {
		key, err := registry.Open(context.Background(), "gcpkms://projects/acme/locations/europe-west3/keyRings/waxseal/cryptoKeys/"+namespace)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(key.ID())
	}
}

// An administrator rotates a key and retires the version before: first disabled, which
// shows whether anything still needs it, and only later destroyed.
func ExampleKey_Rotate() {
	ctx := context.Background()
	const name = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	server, err := gcpserver.Start(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.AddKey(name); err != nil {
		log.Fatal(err)
	}
	key, err := gcpkms.New(gcpkms.Config{Name: name, Endpoint: server.Addr(), InsecurePlaintext: true})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	made, err := key.Rotate(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("wraps under", made.ID)
	if err := key.Disable(ctx, "1"); err != nil {
		log.Fatal(err)
	}
	if _, err := key.Destroy(ctx, "1", 0); err != nil { // not before its users had hours to complain
		log.Fatal(err)
	}
	versions, err := key.Versions(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range versions {
		fmt.Println(v.ID, v.State, v.Primary)
	}
	// Output:
	// wraps under 2
	// 1 pending destruction false
	// 2 enabled true
}

// What is wrong with a key shows before it is missed.
func ExampleKey_Probe() {
	ctx := context.Background()
	const name = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	server, err := gcpserver.Start(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.AddKey(name); err != nil {
		log.Fatal(err)
	}
	key, err := gcpkms.New(gcpkms.Config{Name: name, Endpoint: server.Addr(), InsecurePlaintext: true})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()

	report, err := key.Probe(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range report.Warnings {
		fmt.Println(w)
	}
	// Output:
	// the key has no rotation schedule
}
