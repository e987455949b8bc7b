package codec

import (
	"errors"
	"fmt"
	"reflect"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/waxseal/waxseal/codec/internal/hold"
	"github.com/waxseal/waxseal/kms"
)

// The SDK reads as many values as there are payloads, and leaves the others zero. So a server
// that drops the last payload of an input sets that argument to zero: a limit, or the only
// argument. No envelope shows that. But a data converter sees how many values the program
// reads, and can refuse to read more than there are.
//
// A result is the exception. The SDK sends no payload for a function that returns a nil
// pointer, or only an error. So a result that is missing as a whole is read as nil.

// ConverterOption changes how a data converter of this package reads and writes.
type ConverterOption func(*dataConverter)

// RefuseMissingArguments says whether reading more values than there are payloads is an error,
// instead of leaving the others zero: the arguments of workflows, activities, signals, queries,
// updates and Nexus operations, the details of errors and heartbeats, markers, and values read
// with EncodedValues. By default it is an error where the policy says requireSealed for the
// client's namespace: nothing else that the server could make up is read there. A result that
// is missing as a whole is no error, because the SDK sends a nil pointer that way.
//
// The error is of Class Corrupt. In workflow code it holds the workflow task until the program
// reads what was sent, or until the option is false: nothing is lost. Elsewhere it refuses an
// update or a query, and fails an activity's attempt.
//
// When a function gets a new argument, older programs still send input without it: pass false
// until that is over. A worker applies the option from its start.
func RefuseMissingArguments(refuse bool) ConverterOption {
	return func(d *dataConverter) { d.missing = &refuse }
}

// errNoVersion is in the chain if the version in a marker is missing. The SDK ignores the
// error: the workflow would continue with version 0.
var errNoVersion = errors.New("codec: a marker without its version")

// complete returns an error if there are fewer payloads than values to read and the converter
// refuses that.
func (d *dataConverter) complete(payloads *commonpb.Payloads, valuePtrs []any) error {
	got, want := len(payloads.GetPayloads()), len(valuePtrs)
	if got >= want || !d.refusesMissing() || want == 1 && payloads == nil && d.readsResult() {
		return nil
	}
	cause := hold.ErrMissing
	if _, version := valuePtrs[0].(*workflow.Version); version {
		cause = errors.Join(hold.ErrMissing, errNoVersion)
	}
	return d.hold(missingError(got, want, cause))
}

func missingError(got, want int, cause error) error {
	return &kms.Error{
		Class: kms.Corrupt, Op: "read values", Detail: fmt.Sprintf("payloads: %d, values that the program reads: %d", got, want),
		Advice: "if an older program sent fewer, give codec.NewPlugin the option codec.RefuseMissingArguments(false) for as long; if none did, the Temporal server dropped some",
		Err:    cause,
	}
}

// refusesMissing reports whether reading more values than there are payloads is an error.
func (d *dataConverter) refusesMissing() bool {
	if d.missing != nil {
		return *d.missing
	}
	return d.requiresSealed()
}

// readsResult reports whether the payloads may be the result of an activity, a child or a Nexus
// operation. Without the plugin a workflow's input looks the same.
func (d *dataConverter) readsResult() bool {
	s := d.codec.site
	if s.workflow != nil {
		return !inQueryHandler(s.workflow) && s.workflow.Value(inSignal{}) == nil &&
			(!d.marked || s.workflow.Value(inCode{}) != nil)
	}
	_, ofActivity := s.serialization.(converter.ActivitySerializationContext) // as a client describes it
	return ofActivity && (s.ctx == nil || !activity.IsActivity(s.ctx))
}

// noInput returns an error if a Nexus operation reads an input, has none, and the converter
// refuses that.
func (d *dataConverter) noInput(valuePtr any) error {
	if !d.refusesMissing() || valueless(valuePtr) {
		return nil
	}
	return missingError(0, 1, hold.ErrMissing)
}

// valueless reports whether a pointer's type has no values, such as nexus.NoValue.
func valueless(valuePtr any) bool {
	t := reflect.TypeOf(valuePtr)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t != nil && t.Kind() == reflect.Struct && t.NumField() == 0
}

// The SDK's sessions (workflow.CreateSession) learn their task queue from a signal, and
// schedule activities there: the Taskqueue of the signal leaves in plaintext. The server may
// put any payload that was sealed for the namespace into that signal.

// checkSession returns an error of Class Corrupt unless the SDK itself made the answer to a new
// session. Its task queue consists of its other two fields; no value of a program does.
func checkSession(values []any) error {
	for _, v := range values {
		t := reflect.TypeOf(v)
		if t == nil || t.Kind() != reflect.Pointer || t.Elem().Name() != "sessionCreationResponse" || t.Elem().PkgPath() != "go.temporal.io/sdk/internal" {
			continue
		}
		field := func(name string) string {
			f := reflect.ValueOf(v).Elem().FieldByName(name)
			if f.Kind() != reflect.String {
				return ""
			}
			return f.String()
		}
		if field("Taskqueue") != field("ResourceID")+"@"+field("HostName") {
			return &kms.Error{
				Class: kms.Corrupt, Op: "read the task queue of a session", Detail: "the signal does not hold what the SDK writes there",
				Advice: "the history was altered: compare the signal's sender with the worker that made the session",
			}
		}
	}
	return nil
}
