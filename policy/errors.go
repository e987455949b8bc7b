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
	// Excerpt is the line of the file with a caret under the column, on two lines, with credentials masked. It may be empty.
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
	if len(e.Problems) == 1 {
		return "policy: " + e.text(e.Problems[0])
	}
	lines := []string{fmt.Sprintf("policy: %s: %d problems", e.File, len(e.Problems))}
	for i, p := range e.Problems {
		if i == maxShown {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.Problems)-maxShown))
			break
		}
		lines = append(lines, e.text(p))
		if p.Advice != "" {
			lines = append(lines, "  hint: "+p.Advice)
		}
	}
	return strings.Join(lines, "\n")
}

func (e *Error) text(p Problem) string {
	text := fmt.Sprintf("%s:%d:%d: %s", e.File, p.Line, p.Column, p.Message)
	if p.Excerpt != "" {
		text += "\n" + p.Excerpt
	}
	return text
}

// Hint says what to do next.
func (e *Error) Hint() string {
	if len(e.Problems) == 1 && e.Problems[0].Advice != "" {
		return e.Problems[0].Advice
	}
	return "correct the places shown; docs/policy.md describes every field"
}

// NoRuleError says that no rule of the policy matches: the caller must refuse the payload (kms.Denied).
type NoRuleError struct {
	// Facts are what was known about the payload.
	Facts Facts
}

// Error implements error. It leaves out the workflow ID: rules do not match it, and people put personal data in it.
func (e *NoRuleError) Error() string {
	known := func(s string) string {
		if s == "" {
			return "unknown"
		}
		return quote(s)
	}
	return fmt.Sprintf("policy: match rule: none for namespace %s, workflow type %s, activity type %s, task queue %s",
		known(e.Facts.Namespace), known(e.Facts.WorkflowType), known(e.Facts.ActivityType), known(e.Facts.TaskQueue))
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
