package gcpserver_test

import (
	"context"
	"fmt"
	"log"

	gcp "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms/kmstest/gcpserver"
)

// Google's own client against the server: a round trip, a rotation, and a fault.
func Example() {
	ctx := context.Background()
	const key = "projects/p/locations/global/keyRings/r/cryptoKeys/k"

	server, err := gcpserver.Start(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.AddKey(key); err != nil {
		log.Fatal(err)
	}

	conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	client, err := gcp.NewKeyManagementClient(ctx, option.WithGRPCConn(conn))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	sealed, err := client.Encrypt(ctx, &kmspb.EncryptRequest{Name: key, Plaintext: []byte("hello")})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := server.Rotate(key); err != nil {
		log.Fatal(err)
	}
	opened, err := client.Decrypt(ctx, &kmspb.DecryptRequest{Name: key, Ciphertext: sealed.Ciphertext})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed.Name, string(opened.Plaintext), opened.UsedPrimary)

	server.Inject(gcpserver.Fault{Method: "Decrypt", Code: codes.ResourceExhausted, Times: 1})
	_, err = client.Decrypt(ctx, &kmspb.DecryptRequest{Name: key, Ciphertext: sealed.Ciphertext})
	fmt.Println(status.Code(err), server.Calls("Decrypt"))
	// Output:
	// projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1 hello false
	// ResourceExhausted 2
}
