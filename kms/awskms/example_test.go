package awskms_test

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// A program names the backends that it links in. Credentials come from where
// AWS's own tools find them; the alias is resolved when the key is opened.
func Example() {
	ctx := context.Background()
	registry := kms.NewRegistry(awskms.Backend)
	key, err := registry.Open(ctx, "awskms:///alias/payments?region=eu-west-1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID()) // awskms:///arn:aws:kms:eu-west-1:111122223333:key/…
}

// A key of the test server: no account is needed.
func ExampleNew() {
	ctx := context.Background()
	server, err := awsserver.Start(awsserver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	made, err := server.CreateKey(awsserver.KeySpec{})
	if err != nil {
		log.Fatal(err)
	}

	key, err := awskms.New(ctx, awskms.Config{
		Key:         made.ARN(),
		Endpoint:    server.URL(),
		Credentials: credentials.NewStaticCredentialsProvider(awsserver.DefaultAccessKeyID, awsserver.DefaultSecretAccessKey, ""),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer key.Close()
	wrapped, err := key.Wrap(ctx, [][]byte{make([]byte, kms.DataKeySize)}, kms.Context{"namespace": "payments"})
	if err != nil {
		log.Fatal(err)
	}
	unwrapped, err := key.Unwrap(ctx, wrapped, kms.Context{"namespace": "payments"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID() == "awskms:///"+made.ARN(), len(wrapped[0].Blob), len(unwrapped[0].DataKey))
	// Output: true 184 32
}

// testKeys returns new keys of a test server, which close ends.
func testKeys(ctx context.Context, n int) (keys []*awskms.Key, end func()) {
	server, err := awsserver.Start(awsserver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for range n {
		made, err := server.CreateKey(awsserver.KeySpec{})
		if err != nil {
			log.Fatal(err)
		}
		key, err := awskms.New(ctx, awskms.Config{
			Key:         made.ARN(),
			Endpoint:    server.URL(),
			Credentials: credentials.NewStaticCredentialsProvider(awsserver.DefaultAccessKeyID, awsserver.DefaultSecretAccessKey, ""),
		})
		if err != nil {
			log.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys, func() {
		for _, key := range keys {
			key.Close()
		}
		server.Close()
	}
}

// A data key moves to another KEK without leaving AWS KMS.
func ExampleKey_Rewrap() {
	ctx := context.Background()
	keys, end := testKeys(ctx, 2)
	defer end()
	from, to := keys[0], keys[1]
	ec := kms.Context{"namespace": "payments"}
	wrapped, err := from.Wrap(ctx, [][]byte{make([]byte, kms.DataKeySize)}, ec)
	if err != nil {
		log.Fatal(err)
	}
	rewrapped, err := to.Rewrap(ctx, from, wrapped, ec)
	if err != nil {
		log.Fatal(err)
	}
	opened, err := to.Unwrap(ctx, []kms.Wrapped{rewrapped[0].Wrapped}, ec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(to.RewrapsFrom(from), rewrapped[0].Err, len(opened[0].DataKey))
	// Output: true <nil> 32
}

// A key gets new material, and keeps the old one for what it wrapped.
func ExampleKey_Rotate() {
	ctx := context.Background()
	keys, end := testKeys(ctx, 1)
	defer end()
	now, err := keys[0].Rotate(ctx)
	if err != nil {
		log.Fatal(err)
	}
	versions, err := keys[0].Versions(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range versions {
		fmt.Println(v.State, v.Primary, v.ID == now.ID)
	}
	// Output:
	// enabled false false
	// enabled true true
}

// The identity that AWS sees, and what an operator should know about the key.
func ExampleKey_Probe() {
	ctx := context.Background()
	keys, end := testKeys(ctx, 1)
	defer end()
	report, err := keys[0].Probe(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Identity)
	fmt.Println(report.Warnings[0])
	// Output:
	// arn:aws:iam::111122223333:user/tester
	// Automatic rotation of the key material is off: aws kms enable-key-rotation turns it on.
}
