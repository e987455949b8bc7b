package codec

import (
	"reflect"

	"github.com/waxseal/waxseal/kms"
)

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
