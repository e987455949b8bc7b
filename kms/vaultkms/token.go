package vaultkms

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Token is a Vault token. It prints, logs and marshals as "[redacted]"; convert
// it to a string to use it.
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

// tokenSource says which token to send with the next request; empty for none.
// It is a function so that printing a Key shows no token. Logins that renew
// their token have their place here; their failures are *kms.Errors.
type tokenSource func(ctx context.Context) (Token, error)

func fixedToken(t Token) tokenSource {
	return func(context.Context) (Token, error) { return t, nil }
}
