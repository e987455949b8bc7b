package envelope

import (
	"context"
	"errors"

	"github.com/waxseal/waxseal/kms"
)

// ErrNotConfigured is in the chain of the error for an envelope none of whose
// keys the caller configured, for its namespace at least. No KMS has been called.
var ErrNotConfigured = errors.New("envelope: sealed under a key that is not configured")

// ErrClosed is in the chain of errors from a Sealer or Opener that was closed.
var ErrClosed = errors.New("envelope: closed")

// ErrNoRoom is in the chain of the error, of Class Internal, for an envelope
// whose plaintext Item.Room refused.
var ErrNoRoom = errors.New("envelope: no room for the plaintext")

func errNoRoom() error {
	return openError(kms.Internal, "", "the plaintexts together are larger than the caller has room for", "open fewer at a time", ErrNoRoom)
}

func openError(class kms.Class, keyID, detail, advice string, cause error) error {
	return &kms.Error{Class: class, Op: "open envelope", KeyID: keyID, Detail: detail, Advice: advice, Err: cause}
}

func corrupt(detail string, cause error) error {
	return openError(kms.Corrupt, "", detail, "the envelope was altered or cut short; fetch it again from where it is stored", cause)
}

// callerGaveUp turns the error of a caller's own context into one with a Class. It
// names the KEK that was waited for, if there is one: whose caller has less time
// than the KEK's own timeouts would learn of it by no other error.
func callerGaveUp(ctx context.Context, op, keyID string) error {
	return &kms.Error{Class: kms.Canceled, Op: op, KeyID: keyID, Detail: "the caller gave up", Err: context.Cause(ctx)}
}
