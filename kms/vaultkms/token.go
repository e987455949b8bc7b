package vaultkms

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Token is a Vault token, or another secret to log in with. It prints, logs and
// marshals as "[redacted]"; convert it to a string to use it.
type Token string

const redacted = "[redacted]"

// Format implements fmt.Formatter for every verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, which encoding/json uses too.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// valid reports whether t can stand in an HTTP header.
func (t Token) valid() bool {
	return !strings.ContainsFunc(string(t), func(r rune) bool { return r <= ' ' || r > '~' })
}
