package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// Refusal is what an answer of a KMS means, in our words.
type Refusal struct {
	Class  kms.Class
	Detail string
	Advice string
	// Item says that it is about one data key, not about the key or the service.
	Item bool
	// Unsupported puts errors.ErrUnsupported into the error's chain.
	Unsupported bool
	// RetryAfter is how long the KMS wants no further request.
	RetryAfter time.Duration
}

// Refuse returns the Refusal of a class, for reasons that concern the key or the service.
func Refuse(class kms.Class, detail, advice string) Refusal {
	return Refusal{Class: class, Detail: detail, Advice: advice}
}

// RefuseItem returns the Refusal of a class, for reasons that concern one data key.
func RefuseItem(class kms.Class, detail, advice string) Refusal {
	return Refusal{Class: class, Detail: detail, Advice: advice, Item: true}
}

// Error makes the error of one operation. cause is kept for errors.Is and errors.As,
// and never printed.
func (r Refusal) Error(op, keyID string, cause error) *kms.Error {
	switch {
	case r.Unsupported && cause == nil:
		cause = errors.ErrUnsupported
	case r.Unsupported:
		cause = errors.Join(errors.ErrUnsupported, cause)
	}
	return &kms.Error{Class: r.Class, Op: op, KeyID: keyID, Detail: r.Detail, Advice: r.Advice, RetryAfter: r.RetryAfter, Err: cause}
}

// Canceled is the error of a call that its caller gave up.
func Canceled(op, keyID string, cause error) *kms.Error {
	return &kms.Error{Class: kms.Canceled, Op: op, KeyID: keyID, Detail: "the caller's context ended first", Err: cause}
}

// Damaged is the advice about a wrapped data key that does not open.
const Damaged = "open it with the key and in the namespace it was sealed under; if those are right, the bytes were damaged and only a copy helps"

// NotADataKey is a wrapped data key that opens to something else.
func NotADataKey() Refusal {
	return Refusal{Class: kms.Corrupt, Detail: "what was wrapped is not a data key", Advice: Damaged}
}

// Ready returns the error of a call that need not begin: a data key has another
// length, the caller gave up, or no KMS takes the context.
func Ready(ctx context.Context, op, keyID string, dataKeys [][]byte, ec kms.Context) error {
	for _, d := range dataKeys {
		if len(d) != kms.DataKeySize {
			return &kms.Error{Op: op, KeyID: keyID, Detail: fmt.Sprintf("a data key of %d bytes, want %d", len(d), kms.DataKeySize)}
		}
	}
	if err := ctx.Err(); err != nil {
		return Canceled(op, keyID, err)
	}
	return ec.Check(op, keyID)
}

// Problems collects all that is wrong with a configuration.
type Problems struct{ texts, advice []string }

// Bad notes a problem and what to do about it. Neither may quote a value.
func (p *Problems) Bad(problem, advice string) {
	p.texts = append(p.texts, problem)
	if !slices.Contains(p.advice, advice) {
		p.advice = append(p.advice, advice)
	}
}

// Only reports whether problem is all that was noted.
func (p *Problems) Only(problem string) bool { return slices.Equal(p.texts, []string{problem}) }

// Err returns an *kms.Error of class Invalid that lists all problems, or nil.
func (p *Problems) Err(op, keyID string) *kms.Error {
	if len(p.texts) == 0 {
		return nil
	}
	return &kms.Error{Class: kms.Invalid, Op: op, KeyID: keyID, Detail: strings.Join(p.texts, "; "), Advice: strings.Join(p.advice, "; ")}
}
