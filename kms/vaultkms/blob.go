package vaultkms

import (
	"bytes"
	"encoding/base64"

	"github.com/waxseal/waxseal/kms"
)

// blobPrefix begins every ciphertext of a transit engine; the key's version in
// decimal and a colon follow, then base64.
const blobPrefix = "vault:v"

// maxVersionDigits is more than a key that rotates every second would need in a
// century, and keeps the version in Vault's range.
const maxVersionDigits = 10

// parseBlob returns the key version that blob names, and whether blob is a ciphertext as
// Vault writes it. Vault itself takes more than it writes (version 0 for 1, leading zeros,
// line breaks in the base64): a blob could be altered and still open.
func parseBlob(blob []byte) (version string, ok bool) {
	if len(blob) > kms.MaxWrappedSize {
		return "", false
	}
	rest, ok := bytes.CutPrefix(blob, []byte(blobPrefix))
	if !ok {
		return "", false
	}
	digits, body, ok := bytes.Cut(rest, []byte(":"))
	if !ok || len(digits) == 0 || len(digits) > maxVersionDigits || digits[0] == '0' || len(body) == 0 {
		return "", false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return "", false
		}
	}
	if bytes.ContainsAny(body, "\r\n") { // the one thing that even strict decoding skips
		return "", false
	}
	if _, err := base64.StdEncoding.Strict().AppendDecode(nil, body); err != nil {
		return "", false
	}
	return string(digits), true
}
