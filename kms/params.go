package kms

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Params reads the query of a key URI for a backend, and collects everything
// that is wrong with the URI, so that a user mends it in one go. It is for one
// goroutine.
type Params struct {
	uri      *url.URL
	values   url.Values
	problems []string
}

// ReadParams reads uri's query, in which each of known may occur once, with a
// value. It notes a scheme other than the backend's and a user name too.
func ReadParams(uri *url.URL, scheme string, known ...string) *Params {
	p := &Params{uri: uri}
	if uri.Scheme != scheme {
		p.Bad("the scheme is not %s", scheme)
	}
	if uri.User != nil {
		p.Bad("a user name or password does not belong in a key URI")
	}
	var err error
	if p.values, err = url.ParseQuery(uri.RawQuery); err != nil {
		p.Bad("what follows ? cannot be parsed")
	}
	for name, values := range p.values {
		if !slices.Contains(known, name) {
			p.Bad("unknown parameter %q (known are %s)", name, strings.Join(known, ", "))
		}
		if len(values) != 1 || values[0] == "" {
			p.Bad("parameter %q needs one value", name)
		}
	}
	return p
}

// Text returns a parameter's value, empty if it is not there.
func (p *Params) Text(name string) string { return p.values.Get(name) }

// Flag returns a parameter that is true or false; false if it is not there.
func (p *Params) Flag(name string) bool {
	switch p.values.Get(name) {
	case "", "false":
	case "true":
		return true
	default:
		p.Bad("parameter %q is neither true nor false", name)
	}
	return false
}

// Bad notes something wrong with the URI. The text must not quote a value,
// which may be a credential in the wrong place.
func (p *Params) Bad(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

// Err returns an *Error of Class Invalid that lists everything noted, with
// advice; nil if there is nothing.
func (p *Params) Err(advice string) error {
	if len(p.problems) == 0 {
		return nil
	}
	slices.Sort(p.problems) // the query is a map
	return &Error{Class: Invalid, Op: "open", KeyID: Redact(p.uri), Detail: strings.Join(p.problems, "; "), Advice: advice}
}
