package guard

import (
	commonpb "go.temporal.io/api/common/v1"

	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/internal/payloadwalk"
)

// This file lists all payloads that a guard lets leave in plaintext. docs/what-is-encrypted.md
// gives users the same reasons. The guard refuses every other payload unless it is sealed. The
// SDK fills one search attribute from payloads: of that one, only entries that the program
// names leave (see changes.go).

// The reasons why payloads may be plaintext.
const (
	plainAttributes = payloadwalk.PlainAttributes
	plainReferences = "the plugin lets the SDK store sealed payloads only"
)

// whyPlain returns why a payload may leave in plaintext; empty if it may not.
func (g *Guard) whyPlain(p *commonpb.Payload) string {
	if g.Drivers != nil && sealed.IsStorageReference(p) && len(p.GetExternalPayloads()) > 0 {
		return plainReferences
	}
	return ""
}

// mayLeave reports whether a payload may leave unchanged.
func (g *Guard) mayLeave(p *commonpb.Payload) bool {
	return sealed.WellFormed(p) || g.whyPlain(p) != ""
}
