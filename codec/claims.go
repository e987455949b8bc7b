package codec

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// claimsFor records the namespace and the facts that the rule names, where they
// are known. Its errors are Denied: the policy demands a claim that no envelope
// can hold.
func claimsFor(rule *policy.Rule, facts policy.Facts) (envelope.Claims, error) {
	claims := envelope.Claims{Namespace: facts.Namespace}
	if err := (format.Header{Namespace: facts.Namespace}).Validate(); err != nil {
		return envelope.Claims{}, &kms.Error{
			Class: kms.Denied, Op: "seal payload",
			Detail: fmt.Sprintf("the namespace cannot be recorded: it is not 1 to %d bytes of UTF-8 without control characters", format.MaxNamespace),
			Advice: "use a namespace of another name, and correct the namespace that the client is configured with if it is not the one you mean",
			Err:    err,
		}
	}
	for _, name := range rule.Claims {
		fact := claimFact(name, facts)
		if fact == "" { // not known here: an envelope holds no empty claim
			continue
		}
		value, err := claimValue(fact)
		if err != nil {
			return envelope.Claims{}, fmt.Errorf("codec: record claim %s: %w", name, err)
		}
		if claims.Others == nil {
			claims.Others = make(map[string]string, len(rule.Claims))
		}
		claims.Others[name] = value
	}
	return claims, nil
}

// The names of the claims that a rule may bind.
const (
	claimWorkflowID   = "workflowId"
	claimActivityType = "activityType"
)

// claimFact returns the fact that a claim of this name records; empty if it is
// not known.
func claimFact(name string, facts policy.Facts) string {
	switch name {
	case claimWorkflowID:
		return facts.WorkflowID
	case "workflowType":
		return facts.WorkflowType
	case claimActivityType:
		return facts.ActivityType
	case "taskQueue":
		return facts.TaskQueue
	}
	return ""
}

// claimValue returns the claim that records a fact. Temporal takes any bytes as a
// workflow ID, and a claim is text without control characters; so the bytes of
// what a claim cannot hold, or should not show, are written as %XX, and % as %25.
// All other text stands as it is. Different facts give different claims: reading
// %XX as a byte is the inverse.
//
// The characters are fixed here and in docs/policy.md, and do not follow Unicode's
// tables, which grow: two versions must give one claim for one fact, because
// claims are compared. The error, for what is then too long for a claim, is Denied.
func claimValue(fact string) (string, error) {
	value := escaped(fact)
	if len(value) > format.MaxClaimValue {
		return "", &kms.Error{
			Class: kms.Denied, Op: "seal payload",
			Detail: fmt.Sprintf("it takes %d bytes, and a claim has at most %d", len(value), format.MaxClaimValue),
			Advice: "use a shorter name, or one without control characters and %, each of which takes three bytes or more; or take the claim out of claims: in the rule",
		}
	}
	return value, nil
}

// escaped returns a fact as a claim of any length holds it.
func escaped(fact string) string {
	if utf8.ValidString(fact) && !strings.ContainsFunc(fact, inEscape) {
		return fact
	}
	var b strings.Builder
	for len(fact) > 0 {
		r, size := utf8.DecodeRuneInString(fact)
		if invalid := r == utf8.RuneError && size == 1; invalid || inEscape(r) {
			for _, c := range []byte(fact[:size]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(fact[:size])
		}
		fact = fact[size:]
	}
	return b.String()
}

// inEscape reports whether a claim holds the bytes of r as %XX.
func inEscape(r rune) bool {
	switch {
	case r == '%': // so that %XX is never text of the fact's own
		return true
	case r < 0x20, r >= 0x7f && r <= 0x9f: // control characters
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // the direction of text
		return true
	case r == 0x2028, r == 0x2029: // line and paragraph separator
		return true
	}
	return false
}
