package resilience_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

// A KMS that fails once gets a second attempt; its callers notice nothing.
func ExampleNew() {
	bare := kmstest.NewFake("payments")
	bare.ScriptWrap(kmstest.Fail(kms.Unavailable))

	key, err := resilience.New(bare, resilience.Config{Timeout: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	wrapped, err := key.Wrap(context.Background(), [][]byte{make([]byte, kms.DataKeySize)}, nil)
	fmt.Println(len(wrapped), err, bare.Counts().Wraps)
	// Output: 1 <nil> 2
}
