//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/localkms"
)

// tempKeyring returns the path of a keyring for an example, and how to remove it.
func tempKeyring() (path string, remove func()) {
	dir, err := os.MkdirTemp("", "waxseal")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(dir, "keyring"), func() { _ = os.RemoveAll(dir) }
}

func Example() {
	path, remove := tempKeyring()
	defer remove()
	ctx := context.Background()

	registry := kms.NewRegistry(localkms.Backend)
	key, err := registry.Open(ctx, localkms.URI(path, "payments")) // made on first use
	if err != nil {
		log.Fatal(err)
	}
	dataKey := []byte("32 random bytes, usually; really")
	wrapped, err := key.Wrap(ctx, [][]byte{dataKey}, kms.Context{"namespace": "default"})
	if err != nil {
		log.Fatal(err)
	}
	got, err := key.Unwrap(ctx, wrapped, kms.Context{"namespace": "default"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(got[0].DataKey))

	got, err = key.Unwrap(ctx, wrapped, kms.Context{"namespace": "other"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kms.ClassOf(got[0].Err))
	// Output:
	// 32 random bytes, usually; really
	// corrupt
}

func ExampleOpenKeyring() {
	path, remove := tempKeyring()
	defer remove()

	ring, err := localkms.OpenKeyring(path)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ring.Create("payments"); err != nil {
		log.Fatal(err)
	}
	if _, err := ring.Rotate("payments"); err != nil {
		log.Fatal(err)
	}
	if err := ring.Disable("payments", "1"); err != nil {
		log.Fatal(err)
	}
	keys, err := ring.List()
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range keys {
		for _, v := range k.Versions {
			fmt.Println(k.Name, v.Version, v.State, v.Primary)
		}
	}
	// Output:
	// payments 1 disabled false
	// payments 2 enabled true
}

func ExampleKeyring_Open() {
	path, remove := tempKeyring()
	defer remove()

	ring, err := localkms.OpenKeyring(path)
	if err != nil {
		log.Fatal(err)
	}
	key, err := ring.Open(context.Background(), "payments")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = key.Close() }()
	id := key.ID()
	fmt.Println(strings.HasPrefix(id, "local://"), strings.HasSuffix(id, "/payments"), strings.Contains(id, path))
	// Output: true true false
}

// Once a version is no longer needed, it is switched off, and destroyed when
// nothing missed it.
func ExampleKeyring_Destroy() {
	path, remove := tempKeyring()
	defer remove()

	ring, err := localkms.OpenKeyring(path)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ring.Create("payments"); err != nil {
		log.Fatal(err)
	}
	if _, rotated, err := ring.RotateIfOlder("payments", 0); err != nil || !rotated {
		log.Fatal("not rotated: ", err)
	}
	_, err = ring.Destroy("payments", "1", 24*time.Hour)
	fmt.Println(kms.ClassOf(err)) // it is enabled

	if err := ring.Disable("payments", "1"); err != nil {
		log.Fatal(err)
	}
	if _, err := ring.Destroy("payments", "1", 24*time.Hour); err != nil {
		log.Fatal(err)
	}
	keys, err := ring.List()
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range keys[0].Versions {
		fmt.Println(v.Version, v.State)
	}
	// Output:
	// invalid
	// 1 pending destruction
	// 2 enabled
}

func ExampleURI() {
	fmt.Println(localkms.URI("/var/lib/waxseal/keyring", "payments"))
	// Output: local:///var/lib/waxseal/keyring#payments
}
