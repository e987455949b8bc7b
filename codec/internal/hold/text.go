package hold

import (
	"errors"

	failurepb "go.temporal.io/api/failure/v1"

	"github.com/waxseal/waxseal/kms"
)

// plainFailure returns the failure of a task, in plaintext.
func plainFailure(why error) *failurepb.Failure {
	return &failurepb.Failure{
		Message: PlainReason(why), Source: "GoSDK",
		FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "HeldError"}},
	}
}

// OwnText is an error with a text that only the guard wrote.
type OwnText string

// Error implements error.
func (e OwnText) Error() string { return string(e) }

// PlainReason returns in plaintext why a task failed, and what to do. The texts of a *kms.Error
// and of the guard quote no payload. No other text leaves: a program's converter, or
// encoding/json, puts the value that it could not convert into its error, and a wrapping error
// may add to it.
func PlainReason(why error) string {
	if own, ok := why.(OwnText); ok { //nolint:errorlint // a wrapping error has other text
		return string(own)
	}
	about, ok := errors.AsType[*kms.Error](why)
	if !ok {
		return "waxseal: the task met an error (" + kms.ClassOf(why).String() + ") whose text is withheld, since it could quote a payload; waxseal doctor, with this worker's policy file and credentials, looks for the cause"
	}
	text := about.Error()
	if _, held := errors.AsType[*Error](why); held {
		text = (&Error{Err: about}).Error()
	}
	if hint := about.Hint(); hint != "" {
		text += " (" + hint + ")"
	}
	return text
}
