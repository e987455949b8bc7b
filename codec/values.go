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

// The SDK reads as many values as there are payloads, and leaves the others zero. So a
// server that drops the last payload of an input sets that argument to zero: a limit, or
// the only argument. No envelope shows it. But a data converter sees how many values the
// program reads, and can refuse to read more than there are.
//
// A result is the exception. The SDK sends none for a function that returns a nil
// pointer, or an error alone, so a result that is missing as a whole is read as ever.

// ConverterOption changes how a data converter of this package reads and writes.
type ConverterOption func(*dataConverter)

// RefuseMissingArguments says whether reading more values than there are payloads is an
// error, instead of leaving the others zero: the arguments of workflows, activities,
// signals, queries, updates and Nexus operations, the details of errors and heartbeats,
// markers, and what a program reads with EncodedValues. Without the option it is one
// where the policy says requireSealed for the client's namespace: there nothing else that
// the server makes up is read. A result that is missing as a whole is no error: the SDK
// sends a nil pointer that way.
//
// The error is of Class Corrupt. In workflow code it holds the workflow task, until the
// program reads what was sent, or the option is false: nothing is lost. It refuses an
// update or a query, and fails an activity's attempt.
//
// A program whose function has a new argument reads what older programs sent without it:
// give it false until that is over. A worker has it from its start.
func RefuseMissingArguments(refuse bool) ConverterOption {
	return func(d *dataConverter) { d.missing = &refuse }
}

// errNoVersion is in the chain if it is the version in a marker, of which the SDK
// ignores the error: the workflow would go on with version 0.
var errNoVersion = errors.New("codec: a marker without its version")

// complete returns an error if payloads are fewer than the values to read and the
// converter refuses that.
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

// readsResult reports whether what is read may be the result of an activity, a child, or
// a Nexus operation. Without the plugin a workflow's input looks the same.
func (d *dataConverter) readsResult() bool {
	s := d.codec.site
	if s.workflow != nil {
		return !inQueryHandler(s.workflow) && s.workflow.Value(inSignal{}) == nil &&
			(!d.marked || s.workflow.Value(inCode{}) != nil)
	}
	_, ofActivity := s.serialization.(converter.ActivitySerializationContext) // as a client describes it
	return ofActivity && (s.ctx == nil || !activity.IsActivity(s.ctx))
}

// noInput returns an error if a Nexus operation has no input where it reads one and the
// converter refuses that.
func (d *dataConverter) noInput(valuePtr any) error {
	if !d.refusesMissing() || valueless(valuePtr) {
		return nil
	}
	return missingError(0, 1, hold.ErrMissing)
}

// valueless reports whether a pointer is to a type without values, as nexus.NoValue is.
func valueless(valuePtr any) bool {
	t := reflect.TypeOf(valuePtr)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t != nil && t.Kind() == reflect.Struct && t.NumField() == 0
}

// The SDK's sessions (workflow.CreateSession) learn their task queue from a signal, and schedule
// activities there: what the signal has as its Taskqueue leaves in plaintext. The server may put
// anything that was sealed for the namespace into that signal.

// checkSession returns an error of Class Corrupt unless the SDK itself made what it just read as the
// answer to a new session. Its task queue is made of its other two fields; no value of a program is.
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
