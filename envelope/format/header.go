package format

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// reservedClaim is the name of no further claim: lists of all claims, such as the KMS's
// encryption context, have the namespace under it.
const reservedClaim = "namespace"

// Claim is a plaintext but authenticated fact about what is sealed.
type Claim struct {
	// Name is 1 to maxClaimName bytes of UTF-8 without control characters, and not "namespace".
	Name string
	// Value is 1 to MaxClaimValue bytes of UTF-8 without control characters.
	Value string
}

// Compression says how the plaintext was compressed before it was sealed. This package only records it.
type Compression uint32

// The compressions of version 1.
const (
	CompressionNone Compression = 0 // the plaintext as it is
	CompressionZstd Compression = 1 // exactly one Zstandard frame (RFC 8878)
)

// String returns "none", "zstd", or such as "compression(7)" if unknown.
func (c Compression) String() string {
	switch c {
	case CompressionNone:
		return "none"
	case CompressionZstd:
		return "zstd"
	default:
		return fmt.Sprintf("compression(%d)", uint32(c))
	}
}

// Header is the part of the protected fields that the caller chooses. It is
// readable without any key and cannot be altered without breaking the envelope.
type Header struct {
	// Namespace is the claim that authorization is decided on: 1 to MaxNamespace
	// bytes of UTF-8 without control characters.
	Namespace string
	// Claims are up to maxClaims further claims, in ascending order of their names' bytes, each name once.
	Claims []Claim
	// Compression of the plaintext.
	Compression Compression
}

// Validate reports whether an envelope can carry h. It returns an *Error that
// wraps ErrMalformed, ErrUnsupported or ErrLimit. Parse applies the same rules.
func (h Header) Validate() error {
	bad := cmp.Or(checkNamespace(h.Namespace), checkClaimCount(len(h.Claims)))
	for i := 0; bad == nil && i < len(h.Claims); i++ {
		bad = checkClaim(h.Claims, i)
	}
	return refuse("check header", cmp.Or(bad, checkCompression(h.Compression)))
}

func checkNamespace(ns string) *Error {
	return checkText(path{name: "namespace"}, ns, MaxNamespace)
}

func checkClaimCount(n int) *Error {
	if n > maxClaims {
		return fault(ErrLimit, path{name: "claims"}, fmt.Sprintf("more than %d", maxClaims))
	}
	return nil
}

// checkClaim checks claims[i] and its place behind the claim before it.
func checkClaim(claims []Claim, i int) *Error {
	name := path{list: "claims", index: i, name: "name"}
	if bad := checkText(name, claims[i].Name, maxClaimName); bad != nil {
		return bad
	}
	if claims[i].Name == reservedClaim {
		return fault(ErrMalformed, name, "the name is reserved")
	}
	if i > 0 && claims[i-1].Name >= claims[i].Name {
		return fault(ErrMalformed, name, "not in ascending order, or twice")
	}
	return checkText(path{list: "claims", index: i, name: "value"}, claims[i].Value, MaxClaimValue)
}

func checkCompression(c Compression) *Error {
	switch c {
	case CompressionNone, CompressionZstd:
		return nil
	default:
		return fault(ErrUnsupported, path{name: "compression"}, fmt.Sprintf("%d is not known", uint32(c)))
	}
}

// checkText checks that s has 1 to most bytes of UTF-8, and that it holds no control character (category Cc: U+0000 to
// U+001F and U+007F to U+009F), which could forge log lines and terminal output.
func checkText(field path, s string, most int) *Error {
	switch {
	case s == "":
		return fault(ErrMalformed, field, "missing")
	case len(s) > most:
		return tooLong(field, uint64(len(s)), most)
	case !utf8.ValidString(s):
		return fault(ErrMalformed, field, "not UTF-8")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fault(ErrMalformed, field, "holds a control character")
	}
	return nil
}
