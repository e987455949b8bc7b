package codec

import (
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/kms"
)

// This file says what requireSealed refuses of single payloads; guard_plaintext.go and
// failure_plaintext.go refuse what no data converter opens.

// passThrough says whether a payload that is not sealed may pass as it is to a reader in
// a namespace. A reference into external storage may not pass where plaintext is refused:
// the SDK resolves references before it opens payloads, so one that comes here has no
// blob behind it that this reader could open, and may be forged.
func (s *snapshot) passThrough(namespace string, p *commonpb.Payload) error {
	if p == nil {
		return &kms.Error{Op: "open payload", Detail: "the payload is null", Advice: "pass a payload with metadata and data, or leave it out"}
	}
	switch {
	case !s.policy.RequiresSealed(namespace):
		return nil
	case sealed.IsStorageReference(p):
		return plaintextError("open payload", "the payload is a reference into external storage, which is not sealed",
			"configure the client's external storage, which replaces references by the payloads they name; without it they are not opened")
	}
	return plaintextError("open payload", "the payload is not sealed",
		"if plaintext from before the migration is still around, turn requireSealed off until it is gone")
}

// plaintextError refuses plaintext. what says which, and never quotes it.
func plaintextError(op, what, advice string) *kms.Error {
	return &kms.Error{Class: kms.Denied, Op: op, Detail: what + ", and the namespace requires it to be (requireSealed)", Advice: advice, Err: errPlaintext}
}
