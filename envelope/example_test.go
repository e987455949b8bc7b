package envelope_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/localkms"
)

// Sealing a file, and a column of a table, without Temporal: the same keys,
// cache and limits.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "waxseal")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	registry := kms.NewRegistry(localkms.Backend)
	key, err := registry.Open(ctx, "local://"+filepath.Join(dir, "keyring")+"#backups")
	if err != nil {
		log.Fatal(err)
	}
	opener, err := envelope.NewOpener(envelope.OpenerConfig{
		Keys: envelope.StaticKeys(key),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer opener.Close()
	sealer, err := envelope.NewSealer(envelope.SealerConfig{Keys: []kms.Key{key}, Opener: opener, Compress: true})
	if err != nil {
		log.Fatal(err)
	}
	defer sealer.Close()

	// A file: the claims say what it is, and cannot be exchanged afterwards.
	file := envelope.Claims{Namespace: "backups", Others: map[string]string{"file": "2026-11.csv"}}
	sealed, err := sealer.Seal(ctx, file, []byte("name,iban\n"))
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "2026-11.csv.sealed")
	if err := os.WriteFile(path, sealed[0].Envelope, 0o600); err != nil {
		log.Fatal(err)
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	opened := opener.Open(ctx, envelope.Item{Envelope: stored})[0]
	fmt.Printf("%s: %q %v\n", opened.Claims.Others["file"], opened.Plaintext, opened.Err)

	// A column: many values at once; their data keys are unwrapped together.
	rows, err := sealer.Seal(ctx, envelope.Claims{Namespace: "crm.iban"}, []byte("DE02…"), []byte("FR14…"))
	if err != nil {
		log.Fatal(err)
	}
	for _, value := range opener.Open(ctx, envelope.Item{Envelope: rows[0].Envelope}, envelope.Item{Envelope: rows[1].Envelope}) {
		fmt.Printf("%q\n", value.Plaintext)
	}
	// Output:
	// 2026-11.csv: "name,iban\n" <nil>
	// "DE02…"
	// "FR14…"
}

// A recovery key of a KMS that is out is left out, and MissingRecipient reports it.
func ExampleSealerConfig_recipients() {
	near, recovery := kmstest.NewFake("near"), kmstest.NewFake("recovery")
	sealer, err := envelope.NewSealer(envelope.SealerConfig{
		Keys: []kms.Key{near, recovery}, Recipients: envelope.PrimaryRecipient,
		MissingRecipient: func(keyID string, class kms.Class, n int) { fmt.Printf("%d without %s: %s\n", n, keyID, class) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sealer.Close()
	recovery.Always(kmstest.Fail(kms.Unavailable))
	sealed, err := sealer.Seal(context.Background(), envelope.Claims{Namespace: "payments"}, []byte("x"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed[0].KeyIDs)
	// Output:
	// 1 without fake://recovery: unavailable
	// [fake://near@1]
}
