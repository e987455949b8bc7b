package kms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/internal/keyuri"
)

// Backend opens keys of one URI scheme. Each backend package exports one:
// localkms.Backend, vaultkms.Backend and so on.
type Backend interface {
	// Scheme is the URI scheme without "://", lower case.
	Scheme() string
	// Open returns the key that uri names, with an ID of the same scheme. It may
	// reach the KMS to resolve an alias; a key that does not exist may be found out
	// only when it is used.
	Open(ctx context.Context, uri *url.URL) (Key, error)
}

// Matcher is implemented by backends that know something of what a key's ID will
// be before they open it. An envelope names its keys, and may be forged: a key that
// cannot be the one it names is not opened for it.
type Matcher interface {
	// MayRecord reports whether the key that uri names can have the ID id, which is
	// any text. False is certain, and so it is for a URI that Open refuses. True only
	// means that nothing speaks against it. MayRecord reaches no KMS and makes nothing.
	MayRecord(uri *url.URL, id string) bool
}

// Registry opens keys by URI through the backends it was made of. It is a
// value without global state, immutable, and safe for concurrent use.
type Registry struct {
	backends map[string]Backend
}

// NewRegistry returns a Registry of these backends. Two backends of one scheme,
// or a nil one, are a bug in the calling program: NewRegistry panics.
func NewRegistry(backends ...Backend) *Registry {
	r := &Registry{backends: make(map[string]Backend, len(backends))}
	for _, b := range backends {
		if b == nil {
			panic("kms: NewRegistry: nil backend") //nolint:forbidigo // a bug in the calling program, found at its start
		}
		if _, twice := r.backends[b.Scheme()]; twice {
			panic(fmt.Sprintf("kms: NewRegistry: two backends for scheme %q", b.Scheme())) //nolint:forbidigo // likewise
		}
		r.backends[b.Scheme()] = b
	}
	return r
}

// Schemes returns the schemes that can be opened, sorted.
func (r *Registry) Schemes() []string {
	return slices.Sorted(maps.Keys(r.backends))
}

// Open returns the key that uri names. A URI that cannot be understood gives an
// *Error of Class Invalid with a hint; what the backend reports keeps its Class.
// Open checks that the key's ID has the URI's scheme and can be recorded.
func (r *Registry) Open(ctx context.Context, uri string) (Key, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	b, ok := r.backends[u.Scheme]
	if !ok {
		advice := "pass the backend to kms.NewRegistry"
		if known := r.Schemes(); len(known) > 0 {
			advice = "use one of " + strings.Join(known, ", ") + ", or " + advice
		}
		return nil, &Error{Class: Invalid, Op: "open", KeyID: Redact(u), Detail: fmt.Sprintf("no backend for scheme %q is linked in", u.Scheme), Advice: advice}
	}
	key, err := b.Open(ctx, u)
	if err != nil {
		return nil, openError(u, err)
	}
	if key == nil {
		return nil, &Error{Op: "open", KeyID: Redact(u), Detail: "the backend gave no key", Advice: "this is a bug in the backend: please report it"}
	}
	if err := checkKey(u, key); err != nil {
		if c, ok := key.(Closer); ok {
			_ = c.Close() // it was not used; the ID is the problem to report
		}
		return nil, err
	}
	return key, nil
}

// checkKey checks the ID of a key that uri opened.
func checkKey(uri *url.URL, key Key) error {
	if err := CheckID(key.ID()); err != nil {
		return err
	}
	if !strings.HasPrefix(key.ID(), uri.Scheme+"://") {
		return &Error{Op: "open", KeyID: Redact(uri), Detail: "the key's ID has another scheme than its URI", Advice: "this is a bug in the backend: please report it"}
	}
	return nil
}

// MayRecord reports whether the key that uri names can have the ID id, as far as
// its backend knows without opening it: see Matcher. A key's ID has the scheme of its
// URI, whatever the backend.
func (r *Registry) MayRecord(uri, id string) bool {
	scheme, _, ok := strings.Cut(uri, "://")
	if !ok || !strings.HasPrefix(id, scheme+"://") {
		return false
	}
	u, err := ParseURI(uri)
	if err != nil {
		return false
	}
	m, ok := r.backends[u.Scheme].(Matcher)
	return !ok || m.MayRecord(u, id)
}

// openError returns what a backend reported as an *Error.
func openError(u *url.URL, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Class: ClassOf(err), Op: "open", KeyID: Redact(u), Detail: fmt.Sprintf("the backend reports a %T", err), Err: err}
}

// ParseURI parses a key URI such as "hashivault://transit/payments" and rejects
// one without a scheme, with a password, or with characters that an envelope
// could not record.
func ParseURI(uri string) (*url.URL, error) {
	u, problem := keyuri.Parse(uri)
	if problem != "" {
		return nil, &Error{Class: Invalid, Op: "parse key URI", Detail: "it " + problem, Advice: keyuri.Advice}
	}
	return u, nil
}

// Redact returns u as text without its query, where people put what they should not.
func Redact(u *url.URL) string {
	c := *u
	c.RawQuery, c.ForceQuery, c.User = "", false, nil
	return c.String()
}

// CheckID reports whether id can be recorded in an envelope: not empty, at most
// MaxKeyIDSize bytes, printable ASCII without a space or '@', with a scheme.
func CheckID(id string) error {
	fail := func(detail string) error {
		return &Error{Op: "check key ID", Detail: detail, Advice: "this is a bug in the backend, or a key name with unusual characters: rename the key"}
	}
	switch {
	case len(id) > MaxKeyIDSize:
		return fail(fmt.Sprintf("longer than %d bytes", MaxKeyIDSize))
	case strings.Index(id, "://") < 1:
		return fail("no scheme")
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '@' }):
		return fail("a character other than printable ASCII, or a space or @")
	}
	return nil
}

// VersionedID is how a recipient's key is written in metadata: id, and
// "@version" where there is a version.
func VersionedID(id, version string) string {
	if version == "" {
		return id
	}
	return id + "@" + version
}

// SplitVersionedID is the inverse of VersionedID.
func SplitVersionedID(s string) (id, version string) {
	id, version, _ = strings.Cut(s, "@")
	return id, version
}
