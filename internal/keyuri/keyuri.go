// Package keyuri checks the text of a key URI for packages kms and policy. It knows no backend, and it promises that no
// answer quotes the URI: a URI may hold a credential by mistake.
package keyuri

import (
	"net/url"
	"strings"
	"unicode"
)

// Advice shows what key URIs look like.
const Advice = "key URIs look like awskms:///alias/name?region=eu-west-1, gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k, " +
	"hashivault://transit/name or local:///path/to/keyring#name"

// Problems of which a caller can say more.
const (
	Blank    = "holds a space or a control character"
	NoScheme = "does not start with a scheme and ://"
)

// Parse parses a key URI. problem completes the sentence "the URI …", and is empty for a good one. u is nil where the
// text is no URI with a scheme.
func Parse(uri string) (u *url.URL, problem string) {
	switch {
	case uri == "":
		return nil, "is empty"
	case strings.ContainsFunc(uri, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return nil, Blank
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return nil, "is not a URI" // the text of err would quote the input
	case u.Scheme == "" || !strings.HasPrefix(uri[len(u.Scheme):], "://"):
		return nil, NoScheme
	case u.User != nil:
		return u, "holds a user name or password, which do not belong in a key URI"
	}
	return u, ""
}
