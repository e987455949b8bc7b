package codec

import (
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// HeldError is what a workflow task is failed with, so that the server tries it
// again: while the KMS is unavailable or throttling, and where the rule says
// holdWorkflows also while it denies a key, has it disabled or does not find it; and
// while workflow code reads more values than there are, if that is refused.
type HeldError struct {
	// Err is the failure; kms.ClassOf tells its Class.
	Err error
}

// Error implements error. It names the key and the class and nothing secret.
func (e *HeldError) Error() string {
	when := "when the KMS answers again"
	switch {
	case errors.Is(e.Err, errMissing):
		when = "when the program reads what was sent"
	case !kms.ClassOf(e.Err).Transient():
		when = "when the KMS permits it again"
	}
	return fmt.Sprintf("waxseal: workflow task held, the workflow goes on %s: %v", when, e.Err)
}

// Unwrap returns the failure.
func (e *HeldError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *HeldError) Hint() string { return hintOf(e.Err) }

// errPlaintext is in the chain of the refusal to pass plaintext through.
var errPlaintext = errors.New("codec: not sealed")

// holds reports whether err is to hold up the workflow of these facts. What the
// policy refuses, and not a KMS, is no matter of waiting.
func (c *Codec) holds(facts policy.Facts, err error) bool {
	switch kms.ClassOf(err) {
	case kms.Unavailable, kms.Throttled:
		return true
	case kms.Denied, kms.NotFound, kms.Disabled:
		if refusedHere(err) {
			return false
		}
		rule, err := c.policy().SealRule(facts)
		return err == nil && rule.HoldWorkflows
	case kms.Corrupt:
		return errors.Is(err, errNoVersion)
	case kms.Internal, kms.Canceled:
	}
	return false
}

// refusedHere reports whether it is this process that refuses, and not a KMS: waiting
// does not help.
func refusedHere(err error) bool {
	_, foreign := errors.AsType[*NamespaceError](err)
	_, task := errors.AsType[*TaskNamespaceError](err)
	_, moved := errors.AsType[*BindError](err)
	_, noRule := errors.AsType[*policy.NoRuleError](err)
	return foreign || task || moved || noRule || errors.Is(err, errPlaintext)
}
