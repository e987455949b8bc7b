package kms_test

import (
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	gcpserver "github.com/waxseal/waxseal/internal/emulator/gcpkms"
	"github.com/waxseal/waxseal/kms/awskms"
	"github.com/waxseal/waxseal/kms/gcpkms"
	"github.com/waxseal/waxseal/kms/localkms"
)

// The backends that tests of this package run over, each with one key. What they
// start ends with t.

func startAWS(t testing.TB) (*awsserver.Server, *awsserver.Key, *awskms.Key) {
	t.Helper()
	server, err := awsserver.Start(awsserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	made, err := server.CreateKey(awsserver.KeySpec{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := awskms.New(t.Context(), awskms.Config{
		Key: made.ARN(), Endpoint: server.URL(),
		Credentials: credentials.NewStaticCredentialsProvider(awsserver.DefaultAccessKeyID, awsserver.DefaultSecretAccessKey, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	return server, made, key
}

const gcpName = "projects/p/locations/global/keyRings/r/cryptoKeys/k"

// startGCP starts a server with a key of the name gcpName.
func startGCP(t testing.TB) (*gcpserver.Server, *gcpkms.Key) {
	t.Helper()
	server, err := gcpserver.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if err := server.AddKey(gcpName); err != nil {
		t.Fatal(err)
	}
	key, err := gcpkms.New(gcpkms.Config{Name: gcpName, Endpoint: server.Addr(), InsecurePlaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	return server, key
}

// makeKeyring makes a keyring with a key of the name k.
func makeKeyring(t testing.TB) (*localkms.Keyring, *localkms.Key) {
	t.Helper()
	ring, err := localkms.OpenKeyring(filepath.Join(t.TempDir(), "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Create("k"); err != nil {
		t.Fatal(err)
	}
	key, err := ring.Open(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	return ring, key
}
