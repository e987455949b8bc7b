package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Problem is one thing that is wrong with a policy file.
type Problem struct {
	// Line and Column are where, both from 1; the column counts characters.
	Line, Column int
	// Message says what is wrong, on one line, without the position.
	Message string
	// Advice says what to do, in one sentence.
	Advice string
	// Excerpt is the line of the file with a caret under the column, on two lines; empty where there is nothing to show,
	// and after the first 20 problems. Credentials in it are masked.
	Excerpt string
}

// Error is a policy file that was refused. Its text shows where and why.
type Error struct {
	// File is the name that Parse was given.
	File string
	// Problems are all problems found, in the order of the file; at least one.
	Problems []Problem
}

// maxShown is how many problems an Error's text lists, and have an excerpt.
const maxShown = 20

// Error implements error. One problem is a message with its excerpt; several are a list with the advice for each.
func (e *Error) Error() string {
	var b strings.Builder
	if len(e.Problems) == 1 {
		b.WriteString("policy: ")
		e.write(&b, e.Problems[0])
		return b.String()
	}
	fmt.Fprintf(&b, "policy: %s: %d problems", e.File, len(e.Problems))
	for i, p := range e.Problems {
		b.WriteByte('\n')
		if i == maxShown {
			fmt.Fprintf(&b, "and %d more", len(e.Problems)-maxShown)
			break
		}
		e.write(&b, p)
		if p.Advice != "" {
			b.WriteString("\n  hint: ")
			b.WriteString(p.Advice)
		}
	}
	return b.String()
}

func (e *Error) write(b *strings.Builder, p Problem) {
	fmt.Fprintf(b, "%s:%d:%d: %s", e.File, p.Line, p.Column, p.Message)
	if p.Excerpt != "" {
		b.WriteByte('\n')
		b.WriteString(p.Excerpt)
	}
}

// Hint says what to do next.
func (e *Error) Hint() string {
	if len(e.Problems) == 1 && e.Problems[0].Advice != "" {
		return e.Problems[0].Advice
	}
	return "correct the places shown; docs/policy.md describes every field"
}

// NoRuleError says that no rule of the policy matches. The payload is not sealed, and the caller must refuse it
// (kms.Denied).
type NoRuleError struct {
	// Facts are what was known about the payload.
	Facts Facts
}

// Error implements error. It leaves out the workflow ID: rules do not match it, and people put personal data in it.
func (e *NoRuleError) Error() string {
	var b strings.Builder
	b.WriteString("policy: match rule: none for ")
	e.facts(&b)
	return b.String()
}

func (e *NoRuleError) facts(b *strings.Builder) {
	known := func(s string) string {
		if s == "" {
			return "unknown"
		}
		return quote(s)
	}
	b.WriteString("namespace ")
	b.WriteString(known(e.Facts.Namespace))
	for _, f := range [...]struct{ name, value string }{
		{"workflow type", e.Facts.WorkflowType},
		{"activity type", e.Facts.ActivityType},
		{"task queue", e.Facts.TaskQueue},
	} {
		b.WriteString(", ")
		b.WriteString(f.name)
		b.WriteByte(' ')
		b.WriteString(known(f.value))
	}
}

// Hint says what to do next.
func (e *NoRuleError) Hint() string {
	if e.Facts.Namespace == "" {
		return `pass the namespace, or add a rule with match: {namespace: "*"} to the policy's seal list`
	}
	return "add a rule to the policy's seal list that matches this namespace by what is known here; an unknown fact is matched only by a rule that does not ask for it"
}

// readError says that a policy file could not be read at all.
type readError struct {
	File string // as given to Load
	Err  error
}

func (e *readError) Error() string {
	cause := e.Err
	if p, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = p.Err // the path is in the text already
	}
	return fmt.Sprintf("policy: read %s: %v", e.File, cause)
}

func (e *readError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *readError) Hint() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return "check the path; docs/policy.md has a file to start from"
	case errors.Is(e.Err, fs.ErrPermission):
		return "let the user that runs this process read the file"
	}
	return "name a readable YAML file"
}
