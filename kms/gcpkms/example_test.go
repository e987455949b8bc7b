package gcpkms_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/gcpkms"
	"github.com/waxseal/waxseal/kms/kmstest/gcpserver"
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
