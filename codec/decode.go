package codec

import (
	"context"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/waxseal/waxseal/codec/internal/sealed"
	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// Decoded is the outcome of opening one payload.
type Decoded struct {
	// Payload is the original payload. It is the input itself if that was not sealed or could
	// not be opened (Err says why).
	Payload *commonpb.Payload
	// Sealed says that the input was an envelope, of ours or of a legacy format.
	Sealed bool
	// Namespace is the namespace claim of the envelope; empty if none could be read.
	Namespace string
	// KeyIDs are the KEKs that the envelope names, with versions, in recipient order.
	KeyIDs []string
	// Err is why Payload could not be opened; kms.ClassOf returns its Class.
	Err error
}

// DecodeOptions describe the reader of a call.
type DecodeOptions struct {
	// Namespace is the reader's. Envelopes of another namespace are refused unless the reader's
	// rule accepts them. If it is empty, each envelope is opened for its own namespace.
	Namespace string
	// Accept, if set, authorizes the opening of an envelope by its claims. It is called after
	// the checks of the policy, and before a KMS is called and anything is decrypted. Its error
	// becomes Decoded.Err.
	Accept func(envelope.Claims) error
	// Room, if set, is called before a payload is decrypted, with the bytes that its plaintext
	// takes; if it returns false the payload fails with envelope.ErrNoRoom, of Class Internal.
	Room func(size int) bool
}

// Decode opens payloads. It returns one Decoded for each, in order, each with its own error.
// Payloads that are not sealed pass through, unless the namespace's rule says requireSealed.
func (c *Codec) Decode(ctx context.Context, opts DecodeOptions, payloads []*commonpb.Payload) []Decoded {
	return c.open(ctx, policy.Facts{Namespace: opts.Namespace}, place{}, opts, payloads)
}

// NamespaceError refuses an envelope that was sealed for another namespace.
type NamespaceError struct {
	// Known is the namespace in which the envelope was to be opened. Sealed is the namespace
	// that it claims.
	Known, Sealed string
}

// Error implements error.
func (e *NamespaceError) Error() string {
	return fmt.Sprintf("codec: sealed for namespace %q, not for %q", e.Sealed, e.Known)
}

// Hint says which setting would allow it.
func (e *NamespaceError) Hint() string {
	return fmt.Sprintf("if namespace %q may read payloads of %q (Nexus, cross-namespace children), add %q to accept: in its rule", e.Known, e.Sealed, e.Sealed)
}

// decode opens the sealed ones of payloads, without comparing the place that they are in.
func (c *Codec) decode(ctx context.Context, facts policy.Facts, payloads []*commonpb.Payload) []Decoded {
	return c.decodeAt(ctx, facts, place{}, payloads)
}

// decodeAt opens the sealed ones of payloads at a place.
func (c *Codec) decodeAt(ctx context.Context, facts policy.Facts, at place, payloads []*commonpb.Payload) []Decoded {
	return c.open(ctx, facts, at, DecodeOptions{}, payloads)
}

// open opens the sealed ones of payloads at a place, with the Accept and the Room of opts.
func (c *Codec) open(ctx context.Context, facts policy.Facts, at place, opts DecodeOptions, payloads []*commonpb.Payload) []Decoded {
	s, ctx := c.use(ctx)
	defer s.leave()
	out := make([]Decoded, len(payloads))
	var items []envelope.Item
	var index []int
	for i, p := range payloads {
		out[i].Payload = p
		if !sealed.Claims(p) {
			out[i].Err = s.passThrough(facts.Namespace, p)
			continue
		}
		out[i].Sealed, out[i].KeyIDs = true, sealed.KeyIDs(p)
		if out[i].KeyIDs == nil {
			out[i].Err = &kms.Error{
				Class: kms.Corrupt, Op: "open payload", Detail: "its metadata does not name the keys in " + sealed.MetadataKeyIDs + " as the format demands",
				Advice: "the payload was altered or cut short; fetch it again from where it is stored",
			}
			continue
		}
		items = append(items, envelope.Item{
			Envelope: p.GetData(), KeyIDs: out[i].KeyIDs, Reader: facts.Namespace, Room: opts.Room,
			Accept: func(claims envelope.Claims) error {
				if err := s.accept(facts.Namespace, claims.Namespace); err != nil {
					return err
				}
				if err := s.bound(facts.Namespace, at, claims); err != nil || opts.Accept == nil {
					return err
				}
				return opts.Accept(claims)
			},
		})
		index = append(index, i)
	}
	if len(items) == 0 {
		return out
	}
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	for n, opened := range c.opener.Open(ctx, items...) {
		d := &out[index[n]]
		d.Namespace = opened.Claims.Namespace
		if opened.Err != nil {
			d.Err = &callError{op: "open payload", err: c.timedOut(ctx, "open payload", opened.Err)}
			continue
		}
		original := new(commonpb.Payload)
		err := proto.Unmarshal(opened.Plaintext, original)
		clear(opened.Plaintext)
		if err != nil {
			d.Err = &kms.Error{Class: kms.Corrupt, Op: "open payload", Detail: "what was sealed is not a Temporal payload", Advice: "it was sealed by something other than this codec"}
			continue
		}
		d.Payload = original
	}
	return out
}

// accept returns an error unless an envelope that claims one namespace may be opened in
// another. If the reader's namespace is not known, the envelope may be opened.
func (s *snapshot) accept(known, sealed string) error {
	if known == "" || s.policy.Accepts(known, sealed) {
		return nil
	}
	e := &NamespaceError{Known: known, Sealed: sealed}
	return &kms.Error{Class: kms.Denied, Op: "open payload", Detail: e.Error(), Advice: e.Hint(), Err: e}
}

// passThrough returns an error unless a payload that is not sealed may pass unchanged to a
// reader in a namespace. A reference into external storage may not pass where plaintext is
// refused. The SDK resolves references before it opens payloads, so a reference that gets here
// has no blob that this reader could open, and may be forged.
func (s *snapshot) passThrough(namespace string, p *commonpb.Payload) error {
	if p == nil {
		return &kms.Error{Op: "open payload", Detail: "the payload is null", Advice: "pass a payload with metadata and data, or leave it out"}
	}
	switch {
	case !s.policy.RequiresSealed(namespace):
		return nil
	case sealed.IsStorageReference(p):
		return sealed.Required("open payload", "the payload is a reference into external storage, which is not sealed",
			"configure the client's external storage, which replaces references by the payloads they name; without it they are not opened")
	}
	return sealed.Required("open payload", "the payload is not sealed",
		"if plaintext from before the migration is still around, turn requireSealed off until it is gone")
}

// warm puts the data keys of sealed payloads into the cache and returns one error for each
// payload. It decrypts no payload, and skips those that name no keys.
func (c *Codec) warm(ctx context.Context, namespace string, payloads []*commonpb.Payload) []error {
	s, ctx := c.use(ctx)
	defer s.leave()
	errs := make([]error, len(payloads))
	var items []envelope.Item
	var index []int
	for i, p := range payloads {
		if ids := sealed.KeyIDs(p); ids != nil {
			items, index = append(items, envelope.Item{
				Envelope: p.GetData(), KeyIDs: ids, Reader: namespace,
				Accept: func(claims envelope.Claims) error { return s.accept(namespace, claims.Namespace) },
			}), append(index, i)
		}
	}
	for n, err := range c.opener.Warm(ctx, items...) {
		if err != nil {
			errs[index[n]] = c.timedOut(ctx, "open payload ahead of a workflow task", err)
		}
	}
	return errs
}

// place is what a reader knows about where a payload belongs, from its own side. It is compared
// with the claims of the envelope, if the reader's rules bind them. docs/adr/013 has the places
// and the exceptions.
type place struct{ workflowID, activityType fact }

// fact is a value that may be known. A known one may be empty: a workflow's own payloads belong
// to no activity.
type fact struct {
	value string
	known bool
}

// place returns what the SDK's serialization context says about where a payload belongs.
// Without one nothing is known: the code that runs may convert payloads of others.
func (s site) place() place {
	if s.unbound {
		return place{}
	}
	switch sc := s.serialization.(type) {
	case converter.WorkflowSerializationContext:
		return place{workflowID: fact{sc.WorkflowID, sc.WorkflowID != ""}, activityType: fact{"", true}}
	case converter.ActivitySerializationContext:
		return place{workflowID: fact{sc.WorkflowID, true}, activityType: fact{sc.ActivityType, sc.ActivityType != ""}}
	}
	return place{}
}

// certain returns p without a workflow ID that the caller may have left out: a program that
// completes an activity from outside need not pass one.
func (p place) certain() place {
	p.workflowID.known = p.workflowID.value != ""
	return p
}

// bound refuses an envelope that was sealed for another place than the reader's, as far as the
// rules of the reader's namespace bind its claims. It does not compare a claim that the
// envelope lacks: the envelope was sealed before bind was set, or the value was not known.
func (s *snapshot) bound(namespace string, at place, claims envelope.Claims) error {
	for _, b := range [...]struct {
		claim string
		known fact
		same  func(claimed, known string) bool
	}{
		{claimWorkflowID, at.workflowID, sameWorkflow},
		{claimActivityType, at.activityType, func(claimed, known string) bool { return claimed == known }},
	} {
		claimed, ok := claims.Others[b.claim]
		if !ok || !b.known.known || b.same(claimed, escaped(b.known.value)) || !s.policy.Binds(namespace, b.claim) {
			continue
		}
		e := &BindError{Claim: b.claim, Known: b.known.value, Sealed: claimed}
		return &kms.Error{Class: kms.Denied, Op: "open payload", Detail: e.Error(), Advice: e.Hint(), Err: e}
	}
	return nil
}

// sameWorkflow reports whether a workflow may read what was sealed for a workflow ID. The
// server appends a time to the ID of each workflow that a schedule starts. The schedule's input
// was sealed for the ID without the time, and the last result for the ID with another time.
func sameWorkflow(claimed, known string) bool {
	return claimed == known || withoutTime(claimed) == withoutTime(known)
}

// withoutTime returns a workflow ID without the time that the server appended.
func withoutTime(id string) string {
	const appended = "-2006-01-02T15:04:05Z"
	at := len(id) - len(appended)
	if at <= 0 {
		return id
	}
	if _, err := time.Parse(appended, id[at:]); err != nil {
		return id
	}
	return id[:at]
}

// BindError refuses an envelope that was sealed for another place of the namespace than the one
// it is read in.
type BindError struct {
	// Claim is the name of the claim that differs.
	Claim string
	// Known is the reader's own value, empty if the payload belongs to no activity or no
	// workflow. Sealed is the value in the envelope.
	Known, Sealed string
}

// Error implements error. Claims are readable without a key.
func (e *BindError) Error() string {
	if e.Known == "" {
		return fmt.Sprintf("codec: sealed for %s %q, and read where there is none", e.Claim, e.Sealed)
	}
	return fmt.Sprintf("codec: sealed for %s %q, not for %q", e.Claim, e.Sealed, e.Known)
}

// Hint says what to check.
func (e *BindError) Hint() string {
	return fmt.Sprintf("the server, or a program that copies sealed payloads, moved it; if that is meant to be, take %s out of bind: in the rules of the namespace", e.Claim)
}

// inFailure is the serialization context with which failures are converted. The SDK passes a
// failure on unchanged, from activities, children and other workflows through any number of
// callers. So its payloads may have been sealed in any of these places.
type inFailure struct{ converter.SerializationContext }
