package awskms_test

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/kmstest/awsserver"
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
