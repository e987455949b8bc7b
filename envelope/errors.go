package envelope

import (
	"context"
	"errors"

	"github.com/waxseal/waxseal/kms"
)

// ErrNotConfigured is in the chain of the error for an envelope if the caller
// configured none of its keys for its namespace. No KMS was called.
var ErrNotConfigured = errors.New("envelope: sealed under a key that is not configured")

// ErrClosed is in the chain of errors from a closed Sealer or Opener.
var ErrClosed = errors.New("envelope: closed")

// ErrNoRoom is in the chain of the error, of Class Internal, for a plaintext that Item.Room refused.
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

// callerGaveUp is the error for the end of the caller's context. It names the pending KEK,
// if there is one, because a caller with little time sees no other error of that KEK.
func callerGaveUp(ctx context.Context, op, keyID string) error {
	return &kms.Error{Class: kms.Canceled, Op: op, KeyID: keyID, Detail: "the caller gave up", Err: context.Cause(ctx)}
}
