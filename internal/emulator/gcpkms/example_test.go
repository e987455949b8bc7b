package gcpkms_test

import (
	"context"
	"fmt"
	"log"
	"time"

	gcp "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/internal/emulator/gcpkms"
)

// connect returns Google's own client of server, as any program would make it for an
// emulator.
func connect(ctx context.Context, server *gcpkms.Server) (*gcp.KeyManagementClient, error) {
	conn, err := grpc.NewClient(server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return gcp.NewKeyManagementClient(ctx, option.WithGRPCConn(conn))
}

// Google's own client against the server: a round trip, a rotation, and a fault.
func Example() {
	ctx := context.Background()
	const key = "projects/p/locations/global/keyRings/r/cryptoKeys/k"

	server, err := gcpkms.Start(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.AddKey(key); err != nil {
		log.Fatal(err)
	}

	client, err := connect(ctx, server)
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

	server.Inject(gcpkms.Fault{Method: "Decrypt", Code: codes.ResourceExhausted, Times: 1})
	_, err = client.Decrypt(ctx, &kmspb.DecryptRequest{Name: key, Ciphertext: sealed.Ciphertext})
	fmt.Println(status.Code(err), server.Calls("Decrypt"))
	// Output:
	// projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1 hello false
	// ResourceExhausted 2
}

// Throttling, as Google documents it for clients: a status, and in its details how long to
// wait.
func ExampleServer_Inject() {
	ctx := context.Background()
	const key = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	server, err := gcpkms.Start(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.AddKey(key); err != nil {
		log.Fatal(err)
	}
	client, err := connect(ctx, server)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	server.Inject(gcpkms.Fault{Method: "Encrypt", Times: 2, Code: codes.ResourceExhausted, RetryAfter: time.Second})
	for range 3 {
		_, err := client.Encrypt(ctx, &kmspb.EncryptRequest{Name: key, Plaintext: []byte("hello")})
		st := status.Convert(err)
		fmt.Println(st.Code(), len(st.Details()))
	}
	// Output:
	// ResourceExhausted 1
	// ResourceExhausted 1
	// OK 0
}

// A service account with one role may do what is in that role.
func ExampleServer_Grant() {
	ctx := context.Background()
	const key = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	server, err := gcpkms.Start(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.AddKey(key); err != nil {
		log.Fatal(err)
	}
	client, err := connect(ctx, server)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	const worker = "serviceAccount:worker@p.iam.gserviceaccount.com"
	server.SignIn(worker, "token")
	if err := server.Grant(worker, key, "roles/cloudkms.cryptoKeyEncrypter"); err != nil {
		log.Fatal(err)
	}
	signedIn := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer token")
	sealed, err := client.Encrypt(signedIn, &kmspb.EncryptRequest{Name: key, Plaintext: []byte("hello")})
	fmt.Println("encrypt:", status.Code(err))
	_, err = client.Decrypt(signedIn, &kmspb.DecryptRequest{Name: key, Ciphertext: sealed.GetCiphertext()})
	fmt.Println("decrypt:", status.Code(err))
	_, err = client.Encrypt(ctx, &kmspb.EncryptRequest{Name: key, Plaintext: []byte("hello")})
	fmt.Println("without a token:", status.Code(err))
	// Output:
	// encrypt: OK
	// decrypt: PermissionDenied
	// without a token: Unauthenticated
}
