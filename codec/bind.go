package codec

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
)

// place is what a reader knows, of itself, of where a payload stands. It is compared with
// the claims of the envelope, if the reader's rules bind them. docs/adr/013 has the
// places and the exceptions.
type place struct{ workflowID, activityType fact }

// fact is a value that may be known; a known one may be empty: a workflow's own payloads
// are no activity's.
type fact struct {
	value string
	known bool
}

// place returns what the SDK says of where a payload stands. Without a serialization
// context nothing is known: what runs may convert payloads of others.
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

// certain returns what is known without what a caller merely left out: a program that
// completes an activity from outside need not say of which workflow it is.
func (p place) certain() place {
	p.workflowID.known = p.workflowID.value != ""
	return p
}

// bound refuses an envelope that was sealed for another place than a reader's, as far as
// the rules of the reader's namespace bind its claims. A claim that the envelope does not
// hold is not compared: it was sealed before bind, or where the value was not known.
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

// sameWorkflow reports whether a workflow may read what was sealed for a workflow ID. A
// server appends a time to the ID of each workflow that a schedule starts: the schedule's
// input was sealed for the ID without it, and the last result for one with another time.
func sameWorkflow(claimed, known string) bool {
	return claimed == known || withoutTime(claimed) == withoutTime(known)
}

// withoutTime returns a workflow ID without the time that a server appended to it.
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

// BindError refuses an envelope that was sealed for another place of the namespace than
// the one that it is read in.
type BindError struct {
	// Claim is the name of the claim that differs.
	Claim string
	// Known is the reader's own value, empty if the payload is no activity's or no
	// workflow's. Sealed is the one in the envelope.
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

// inFailure is the serialization context with which failures are converted. The SDK
// passes a failure on as it is, from activities, children and other workflows to the
// caller of a caller: what it holds was sealed in any of these places.
type inFailure struct{ converter.SerializationContext }
