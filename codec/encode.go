package codec

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// EncodeOptions describe what a call seals.
type EncodeOptions struct {
	// Namespace is the namespace that payloads are sealed for; required.
	Namespace string
	// Room is DecodeOptions.Room, for payloads that are sealed already: Encode opens them.
	Room func(size int) bool
}

// Encode seals payloads, in order, all or none. It returns a payload that is already sealed
// unchanged, after opening it as proof. It does not mutate its inputs.
//
// It takes any number of payloads. Each takes about 1 KiB of memory besides three times its
// size, and can cost a wrap by each KMS key of its rule. A program that seals for others limits
// their number, as package httpapi does.
//
// Classes of errors: Denied if no rule of the policy matches; Internal for a nil payload or a
// missing namespace; otherwise the KMS's.
func (c *Codec) Encode(ctx context.Context, opts EncodeOptions, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return c.encodeAt(ctx, policy.Facts{Namespace: opts.Namespace}, place{}, opts.Room, payloads)
}

// encode seals payloads under the rule that facts choose.
func (c *Codec) encode(ctx context.Context, facts policy.Facts, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	return c.encodeAt(ctx, facts, place{}, nil, payloads)
}

// encodeAt seals payloads for a place. room is DecodeOptions.Room, for payloads that are
// already sealed.
func (c *Codec) encodeAt(ctx context.Context, facts policy.Facts, at place, room func(int) bool, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if len(payloads) == 0 {
		return payloads, nil
	}
	if facts.Namespace == "" {
		return nil, &kms.Error{
			Op: "seal payload", Detail: "the namespace is not known",
			Advice: "use codec.NewPlugin, or pass the namespace to codec.NewDataConverter",
		}
	}
	s, ctx := c.use(ctx)
	defer s.leave()
	rule, err := s.policy.SealRule(facts)
	if err != nil {
		return nil, &kms.Error{Class: kms.Denied, Op: "seal payload", Detail: err.Error(), Advice: hold.HintOf(err), Err: err}
	}
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	out := make([]*commonpb.Payload, len(payloads))
	if err := c.keepSealed(ctx, facts, at, room, payloads, out); err != nil {
		return nil, &callError{op: "seal payload", err: c.timedOut(ctx, "seal payload", err)}
	}
	var todo []int
	var plaintexts [][]byte
	defer func() {
		for _, b := range plaintexts {
			clear(b)
		}
	}()
	for i, p := range payloads {
		if out[i] != nil {
			continue
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
		if err != nil {
			return nil, &kms.Error{Op: "seal payload", Detail: fmt.Sprintf("payload %d cannot be marshalled", i), Err: err}
		}
		todo, plaintexts = append(todo, i), append(plaintexts, b)
	}
	if len(todo) == 0 {
		return out, nil
	}
	claims, err := claimsFor(rule, facts)
	if err != nil {
		return nil, err
	}
	envelopes, err := s.sealers.seal(ctx, rule, claims, plaintexts)
	if err != nil {
		return nil, &callError{op: "seal payload", err: c.timedOut(ctx, "seal payload", err)}
	}
	for n, i := range todo {
		out[i] = sealed.New(envelopes[n].Envelope, envelopes[n].KeyIDs)
	}
	return out, nil
}

// keepSealed copies the payloads that are already sealed to out. It opens each as proof. It
// leaves a payload to be sealed as ordinary bytes if the envelope is invalid, if the payload
// holds more than the envelope, or if it was sealed for another namespace, another place or a
// key that is not ours: its reader could not open it. If the proof fails for now, keepSealed
// returns an error: guessing could leak the payload, or seal it twice.
func (c *Codec) keepSealed(ctx context.Context, facts policy.Facts, at place, room func(int) bool, payloads, out []*commonpb.Payload) error {
	var claiming []*commonpb.Payload
	var index []int
	for i, p := range payloads {
		if p == nil {
			return &kms.Error{Op: "seal payload", Detail: fmt.Sprintf("payload %d is null", i), Advice: "pass a payload with metadata and data, or leave it out"}
		}
		if sealed.Claims(p) && sealed.Bare(p) {
			claiming, index = append(claiming, p), append(index, i)
		}
	}
	if len(claiming) == 0 {
		return nil
	}
	for n, d := range c.open(ctx, facts, at.certain(), DecodeOptions{Room: room}, claiming) {
		switch {
		case d.Err == nil:
			out[index[n]] = claiming[n]
		case notOurs(d.Err):
		default:
			return fmt.Errorf("check whether payload %d is sealed already: %w", index[n], d.Err)
		}
	}
	return nil
}

func notOurs(err error) bool {
	_, foreign := errors.AsType[*NamespaceError](err)
	_, moved := errors.AsType[*BindError](err)
	return kms.ClassOf(err) == kms.Corrupt || errors.Is(err, envelope.ErrNotConfigured) || foreign || moved
}

// claimsFor returns the claims for a rule: the namespace, and the facts that the rule names, as
// far as they are known. Its errors are Denied: the policy requires a claim that an envelope
// cannot hold.
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
		if fact == "" { // not known here; an envelope holds no empty claim
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

// claimFact returns the fact for the claim of this name; empty if it is not known.
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

// claimValue returns the claim that records a fact. A Temporal workflow ID is any bytes, but a
// claim is text without control characters. So bytes that a claim cannot hold, or should not
// show, are written as %XX, and % as %25. All other text is unchanged. Decoding %XX gives the
// fact back, so different facts give different claims.
//
// The set of characters is fixed here and in docs/policy.md. It does not follow Unicode's
// tables, which grow: claims are compared, so two versions must give one claim for one fact.
// The error is Denied: the result is too long for a claim.
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

// escaped returns a fact as text for a claim, of any length.
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
	case r == '%': // so that %XX in a claim is never text of the fact itself
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
