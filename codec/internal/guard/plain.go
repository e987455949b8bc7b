package guard

import (
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// This file is the list of all payloads that a guard lets leave in plaintext.
// docs/what-is-encrypted.md gives users the same reasons. Whatever is not named
// here is refused unless it is sealed. Of the one search attribute that the SDK
// fills from payloads only what the program names leaves (see changes.go).

// Why payloads may stay plain.
const (
	plainAttributes = payloadwalk.PlainAttributes
	plainReferences = "the plugin lets the SDK store sealed payloads only"
)

// whyPlain says why one payload may leave in plaintext; empty if it may not.
func (g *Guard) whyPlain(p *commonpb.Payload) string {
	if g.Drivers != nil && sealed.IsStorageReference(p) && len(p.GetExternalPayloads()) > 0 {
		return plainReferences
	}
	return ""
}

// mayLeave reports whether a payload may leave as it is.
func (g *Guard) mayLeave(p *commonpb.Payload) bool {
	return sealed.WellFormed(p) || g.whyPlain(p) != ""
}
