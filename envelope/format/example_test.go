package format_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"

	"github.com/waxseal/waxseal/envelope/format"
)

// exampleKey stands for 32 random bytes that a KMS has wrapped.
var exampleKey = pattern(format.DataKeySize, 1)

func exampleEnvelope() []byte {
	sealed, err := format.Seal(exampleKey,
		[]format.Recipient{{KeyID: "hashivault://transit/payments@7", WrappedKey: []byte("vault:v7:…")}},
		format.Header{Namespace: "payments-prod", Claims: []format.Claim{{Name: "workflowId", Value: "order-1"}}},
		[]byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	return sealed
}

func ExampleSeal() {
	recipients := []format.Recipient{{WrappedKey: []byte("what the KMS made of the data key")}}
	sealed, err := format.Seal(exampleKey, recipients, format.Header{Namespace: "default"}, []byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sealed), "bytes")
	// Output: 137 bytes
}

// What an envelope says without any key.
func ExampleParse() {
	e, err := format.Parse(exampleEnvelope())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("suite:      ", e.Suite)
	fmt.Println("namespace:  ", e.Header.Namespace)
	for _, c := range e.Header.Claims {
		fmt.Printf("claim:       %s=%s\n", c.Name, c.Value)
	}
	fmt.Println("compression:", e.Header.Compression)
	for _, r := range e.Recipients {
		fmt.Printf("recipient:   %s, %d bytes\n", r.KeyID, len(r.WrappedKey))
	}
	fmt.Println("ciphertext: ", e.CiphertextSize(), "bytes, of which plaintext", e.PlaintextSize())
	// Output:
	// suite:       HKDF-Expand-SHA256 + AES-256-GCM
	// namespace:   payments-prod
	// claim:       workflowId=order-1
	// compression: none
	// recipient:   hashivault://transit/payments@7, 12 bytes
	// ciphertext:  33 bytes, of which plaintext 5
}

func ExampleEnvelope_Open() {
	e, err := format.Parse(exampleEnvelope())
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := e.Open(exampleKey)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", plaintext)
	// Output: hello
}

func ExampleEnvelope_CommitsTo() {
	e, err := format.Parse(exampleEnvelope())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.CommitsTo(exampleKey), e.CommitsTo(bytes.Repeat([]byte{1}, format.DataKeySize)))
	// Output: true false
}

// A rotation unwraps the data key, checks it, wraps it again and leaves the
// ciphertext alone.
func ExampleRewrap() {
	old := exampleEnvelope()
	e, err := format.Parse(old)
	if err != nil {
		log.Fatal(err)
	}
	if !e.CommitsTo(exampleKey) {
		log.Fatal("this is not the envelope's data key")
	}
	rewrapped, err := format.Rewrap(old, []format.Recipient{{KeyID: "hashivault://transit/payments@8", WrappedKey: []byte("vault:v8:…")}})
	if err != nil {
		log.Fatal(err)
	}
	e, err = format.Parse(rewrapped)
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := e.Open(exampleKey)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", e.Recipients[0].KeyID, plaintext)
	// Output: hashivault://transit/payments@8: hello
}

func ExampleHeader_Validate() {
	h := format.Header{Namespace: "default", Claims: []format.Claim{{Name: "workflowType", Value: "Charge"}, {Name: "workflowId", Value: "order-1"}}}
	fmt.Println(h.Validate())
	// Output: format: check header: claims[1].name: not in ascending order, or twice: malformed envelope
}

func ExampleValidateRecipients() {
	fmt.Println(format.ValidateRecipients([]format.Recipient{{KeyID: "awskms:///alias/payments"}}))
	// Output: format: check recipients: recipients[0].wrapped_key: missing: malformed envelope
}

func ExampleError() {
	_, err := format.Parse(exampleEnvelope()[:100])
	if bad, ok := errors.AsType[*format.Error](err); ok {
		fmt.Println("error:", bad)
		fmt.Println("field:", bad.Field, "at", bad.Offset)
		fmt.Println("hint:", bad.Hint())
	}
	fmt.Println(errors.Is(err, format.ErrMalformed))
	// Output:
	// error: format: parse envelope: protected at byte 49: runs past the end: malformed envelope
	// field: protected at 49
	// hint: the bytes were altered, cut short, or never were a waxseal envelope: fetch them again from their source
	// true
}
