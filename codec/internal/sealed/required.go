package sealed

import (
	"errors"

	"github.com/waxseal/waxseal/kms"
)

// ErrPlaintext is in the chain of the error that refuses to pass plaintext through.
var ErrPlaintext = errors.New("codec: not sealed")

// Required refuses plaintext where the namespace requires payloads to be sealed. what names the
// payload, and never quotes it. The error's Class is Denied.
func Required(op, what, advice string) *kms.Error {
	return &kms.Error{Class: kms.Denied, Op: op, Detail: what + ", and the namespace requires it to be (requireSealed)", Advice: advice, Err: ErrPlaintext}
}
