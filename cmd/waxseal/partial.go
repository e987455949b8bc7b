package main

import (
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/internal/terminal"
)

// maxCauses is how many different causes are listed; the rest is counted.
const maxCauses = 5

// partialError is the failure of some payloads of a document.
type partialError struct {
	// failed of total payloads.
	failed, total int
	// done is set if the other payloads were written.
	done bool
	// verdict says what failed, and what happened to the rest.
	verdict string
	causes  []cause
}

// cause is a failure that several payloads may share.
type cause struct {
	path  string // of the first one
	count int
	err   error
}

// fail notes the failure of the payload at path.
func (e *partialError) fail(path string, err error) {
	e.failed++
	for i := range e.causes {
		if e.causes[i].err.Error() == err.Error() {
			e.causes[i].count++
			return
		}
	}
	e.causes = append(e.causes, cause{path: path, count: 1, err: err})
}

// Error implements error.
func (e *partialError) Error() string { return e.verdict }

// count is "2 of 3 payloads".
func (e *partialError) count() string {
	return fmt.Sprintf("%d of %d payloads", e.failed, e.total)
}

// none is "none of 3 payloads".
func (e *partialError) none() string {
	return fmt.Sprintf("none of %d payloads", e.total)
}

// Unwrap returns the causes.
func (e *partialError) Unwrap() []error {
	all := make([]error, len(e.causes))
	for i, c := range e.causes {
		all[i] = c.err
	}
	return all
}

// passing reports whether a retry may help with all causes.
func (e *partialError) passing() bool {
	return !slices.ContainsFunc(e.causes, func(c cause) bool { return !tryLater(c.err) })
}

// reportPartial writes what failed and why, each cause once.
func (a *app) reportPartial(e *partialError) {
	s := severity(severityError)
	if e.done {
		s = severityWarning
	}
	a.say(s, e.Error())
	for i, c := range e.causes {
		if i == maxCauses {
			a.say(s, fmt.Sprintf("and %d more causes", len(e.causes)-maxCauses))
			break
		}
		where := terminal.Escape(c.path) // line breaks too, because names in it come from the document
		if c.count > 1 {
			where += fmt.Sprintf(" and %d more", c.count-1)
		}
		a.say(s, where+": "+c.err.Error())
		a.sayHints(c.err)
	}
}
