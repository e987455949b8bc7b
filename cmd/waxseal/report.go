package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxseal/waxseal/internal/terminal"
	"github.com/waxseal/waxseal/kms"
)

// The exit codes. "waxseal help exit-codes" and docs/cli.md list them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitPartly      = 3
	exitTryLater    = 4
	exitInterrupted = 130
)

var errInterrupted = errors.New("interrupted")

// exitCode is the exit code for the outcome of a command.
func exitCode(err error) int {
	var usage *usageError
	var partly *partialError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &partly) && partly.done:
		return exitPartly
	case partly != nil && partly.passing(), partly == nil && tryLater(err):
		return exitTryLater
	}
	return exitFailure
}

// tryLater reports whether the same command may succeed later by itself.
func tryLater(err error) bool { return kms.ClassOf(err).Transient() }

// usageError is a command line that makes no sense.
type usageError struct{ text, hint string }

func (e *usageError) Error() string { return e.text }

// Hint says what to do next.
func (e *usageError) Hint() string { return e.hint }

// misused makes a usageError of what cobra says about a command line.
func misused(cmd *cobra.Command, err error) error {
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	return &usageError{text: err.Error(), hint: cmd.CommandPath() + " --help shows how"}
}

// noSuchCommand refuses arguments where only commands can be.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := cmd.CommandPath() + " --help lists the commands"
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = "did you mean " + strings.Join(similar, " or ") + "? " + hint
	}
	return &usageError{text: fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath()), hint: hint}
}

// adviseError gives an error of another package a hint that speaks of flags.
type adviseError struct {
	err  error
	hint string
}

func (e *adviseError) Error() string { return e.err.Error() }
func (e *adviseError) Unwrap() error { return e.err }

// Hint says what to do next.
func (e *adviseError) Hint() string { return e.hint }

// advise returns err with another hint.
func advise(err error, hint string) error { return &adviseError{err: err, hint: hint} }

// hints returns the outermost hint of an error, or those of each error that it joins.
func hints(err error) []string {
	if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
		return []string{h.Hint()}
	}
	switch e := err.(type) { //nolint:errorlint // walks the tree itself
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return hints(inner)
		}
	case interface{ Unwrap() []error }:
		var all []string
		for _, inner := range e.Unwrap() {
			for _, h := range hints(inner) {
				if !slices.Contains(all, h) {
					all = append(all, h)
				}
			}
		}
		return all
	}
	return nil
}

// report writes an error, and what to do about it, to standard error.
func (a *app) report(err error) {
	var partly *partialError
	switch {
	case err == nil:
	case errors.As(err, &partly):
		a.reportPartial(partly)
	default:
		a.say(severityError, err.Error())
		a.sayHints(err)
	}
}

// severity returns the label of a message.
type severity func(terminal.Style) string

func severityError(s terminal.Style) string   { return s.Error("error:") }
func severityWarning(s terminal.Style) string { return s.Warning("warning:") }
func severityHint(s terminal.Style) string    { return s.Hint("hint:") }
func severityNote(terminal.Style) string      { return "note:" }

// say writes one message to standard error.
func (a *app) say(label severity, text string) {
	fmt.Fprintf(a.err, "waxseal: %s %s\n", label(terminal.StyleFor(a.err, a.lookup)), terminal.EscapeLines(text))
}

func (a *app) sayHints(err error) {
	for _, h := range hints(err) {
		a.say(severityHint, h)
	}
}
