package envelope

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

// namespaceClaim names the namespace in the encryption context; package format reserves it.
const namespaceClaim = "namespace"

// Claims are plaintext but authenticated facts in the envelope, which the KMS binds to
// the data key as its encryption context.
type Claims struct {
	// Namespace is required: authorization to open is decided on it.
	Namespace string
	// Others are further claims by name, few and short. Payloads with different values share no data key.
	Others map[string]string
}

// ClaimsOf returns the claims that an envelope's header holds.
func ClaimsOf(h format.Header) Claims {
	c := Claims{Namespace: h.Namespace}
	if len(h.Claims) > 0 {
		c.Others = make(map[string]string, len(h.Claims))
		for _, claim := range h.Claims {
			c.Others[claim.Name] = claim.Value
		}
	}
	return c
}

// header returns the claims in the form of package format, validated.
func (c Claims) header(compression format.Compression) (format.Header, error) {
	h := format.Header{Namespace: c.Namespace, Compression: compression}
	for name, value := range c.Others {
		h.Claims = append(h.Claims, format.Claim{Name: name, Value: value})
	}
	slices.SortFunc(h.Claims, func(a, b format.Claim) int { return cmp.Compare(a.Name, b.Name) })
	if err := h.Validate(); err != nil {
		return format.Header{}, fmt.Errorf("envelope: claims: %w", err)
	}
	return h, nil
}

// EncryptionContext returns a new map of the claims as the KMS binds them to the data
// key: AWS KMS's encryption context, the additional authenticated data of the others.
// It is injective: Namespace is never empty and no other claim has its name.
func (c Claims) EncryptionContext() kms.Context {
	ec := make(kms.Context, 1+len(c.Others))
	maps.Copy(ec, c.Others)
	ec[namespaceClaim] = c.Namespace
	return ec
}
