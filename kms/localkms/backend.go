package localkms

import (
	"context"
	"net/url"
	"strings"

	"github.com/waxseal/waxseal/kms"
)

// Scheme is the URI scheme of local keyrings.
const Scheme = "local"

// Backend opens keys of local keyrings by URI: local:///path/to/keyring#name.
// Opening makes the file and the last folder of its path if they do not exist,
// and the key's first Wrap makes the key. It has no state.
var Backend kms.Backend = backend{}

type backend struct{}

func (backend) Scheme() string { return Scheme }

func (backend) Open(ctx context.Context, uri *url.URL) (kms.Key, error) {
	k, err := open(ctx, uri)
	if err != nil {
		return nil, report("open", kms.Redact(uri), err)
	}
	return k, nil
}

func open(ctx context.Context, uri *url.URL) (*Key, error) {
	path, name, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	r, err := OpenKeyring(path)
	if err != nil {
		return nil, err
	}
	return r.Open(ctx, name)
}

var _ kms.Matcher = backend{}

// MayRecord implements kms.Matcher: the ID ends in the key's name. The keyring's part
// of it is in the file alone.
func (backend) MayRecord(uri *url.URL, id string) bool {
	_, name, err := parseURI(uri)
	if err != nil {
		return false
	}
	rest, ours := strings.CutPrefix(id, Scheme+"://")
	keyring, its, _ := strings.Cut(rest, "/")
	return ours && keyring != "" && its == name
}

// URI returns the URI of the key called name in the keyring at path, an absolute
// path: what a configuration file holds.
func URI(path, name string) string {
	return (&url.URL{Scheme: Scheme, Path: path, Fragment: name}).String()
}

func parseURI(uri *url.URL) (path, name string, err error) {
	bad := func(detail string) (string, string, error) {
		return "", "", problem(kms.Invalid, detail, "local key URIs look like local:///var/lib/waxseal/keyring#name, with three slashes and an absolute path", nil)
	}
	switch {
	case uri.Scheme != Scheme:
		return bad("the scheme is not " + Scheme)
	case uri.Opaque != "":
		return bad("the path does not start with a slash")
	case uri.Host != "":
		return bad("there is a host name where the path should start")
	case uri.RawQuery != "" || uri.ForceQuery:
		return bad("there is a query, and local keyrings know none")
	case uri.Path == "" || uri.Path == "/":
		return bad("there is no path")
	case uri.Fragment == "":
		return bad("there is no #name of a key")
	}
	if err := checkName(uri.Fragment); err != nil {
		return "", "", err
	}
	return uri.Path, uri.Fragment, nil
}
