package httpapi

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/waxseal/waxseal/kms"
)

// maxCause bounds the text of an error in the log, in bytes.
const maxCause = 1024

// describe is the text of a codec's error for the log. Errors with a Class hold nothing secret; of others only the type
// is known to be harmless.
func describe(err error) string {
	if _, ok := errors.AsType[*kms.Error](err); !ok {
		return fmt.Sprintf("%T", err)
	}
	text := err.Error()
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		text += " (" + hinted.Hint() + ")"
	}
	return printable(text)
}

// printable makes a text, which may quote a caller, fit for one line of any log.
func printable(text string) string {
	if len(text) > maxCause {
		text = text[:maxCause] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
