package httpapi

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/waxseal/waxseal/kms"
)

// maxCause bounds what the log tells of an error, in bytes.
const maxCause = 1024

// describe is what the log may tell of a codec's error. Errors that carry a
// Class are made by our packages and hold nothing secret; of any other, only
// the type is known to be harmless.
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

// printable makes a text that may name what a caller sent fit for one line of
// any log.
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
