package codec

import (
	"fmt"

	"github.com/waxseal/waxseal/kms"
)

// TaskNamespaceError refuses an activity task of a namespace that is not the client's. A
// server gives a worker tasks of its client's namespace only, and with another one it
// would choose whose payloads open and which rule seals.
type TaskNamespaceError struct {
	// Known is the client's namespace, Stated the one that the task names. Known is
	// empty if the data converter was made without a namespace.
	Known, Stated string
}

// Error implements error.
func (e *TaskNamespaceError) Error() string {
	if e.Known == "" {
		return fmt.Sprintf("codec: in a task of namespace %q, and the client's namespace is not known", e.Stated)
	}
	return fmt.Sprintf("codec: in an activity task of namespace %q, and the client's is %q", e.Stated, e.Known)
}

// Hint says what to check.
func (e *TaskNamespaceError) Hint() string {
	if e.Known == "" {
		return "use codec.NewPlugin, or pass the client's namespace to codec.NewDataConverter"
	}
	return fmt.Sprintf("a worker's namespace is its client's: pass %q to codec.NewDataConverter if that is the client's; otherwise the server, or a proxy before it, alters tasks", e.Stated)
}

// taskOfAnother returns the error of a conversion in a task that names another
// namespace than the client's.
func taskOfAnother(op, known, stated string) error {
	e := &TaskNamespaceError{Known: known, Stated: stated}
	return &kms.Error{Class: kms.Denied, Op: op, Detail: e.Error(), Advice: e.Hint(), Err: e}
}
