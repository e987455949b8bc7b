package vaultkms

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/kms"
)

// Scheme of the URIs that Backend opens.
const Scheme = "hashivault"

// Parameters of a key URI. Only the namespace says which key it is, and is
// recorded; the others say how to get there.
const (
	paramNamespace = "namespace"
	paramAddress   = "address"
	paramInsecure  = "insecure-plain-http"
)

// Backend opens keys by URIs of the form
//
//	hashivault://mount/key[?namespace=NS][&address=URL][&insecure-plain-http=true]
//
// where mount may have several segments and the last one is the key's name.
// Everything else comes from the environment, as New documents.
const Backend backend = Scheme

// backend is a string so that Backend can be a constant.
type backend string

var _ kms.Backend = Backend

// Scheme implements kms.Backend.
func (b backend) Scheme() string { return string(b) }

// Open implements kms.Backend. It does not reach Vault. A URI or an environment
// that cannot be used gives an *kms.Error of class Internal with a hint.
func (b backend) Open(_ context.Context, uri *url.URL) (kms.Key, error) {
	cfg, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	return New(cfg)
}

func parseURI(u *url.URL) (Config, error) {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if u.Scheme != Scheme {
		bad("the scheme is not %s", Scheme)
	}
	if u.User != nil {
		bad("a user name or password does not belong in a key URI")
	}
	if u.Fragment != "" {
		bad("there is nothing after # in a key URI of Vault's")
	}
	// Checked as written: an escape could smuggle a slash into a name.
	var cfg Config
	path := u.Host + u.EscapedPath()
	if i := strings.LastIndexByte(path, '/'); i < 0 || u.Host == "" {
		bad("it does not name a mount and a key")
	} else {
		cfg.Mount, cfg.Name = path[:i], path[i+1:]
	}

	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		bad("what follows ? cannot be parsed")
	}
	for name, values := range query {
		if !slices.Contains([]string{paramNamespace, paramAddress, paramInsecure}, name) {
			bad("unknown parameter %q", name)
		}
		if len(values) != 1 || values[0] == "" {
			bad("parameter %q needs one value", name)
		}
	}
	cfg.Namespace, cfg.Address = query.Get(paramNamespace), query.Get(paramAddress)
	switch query.Get(paramInsecure) {
	case "", "false":
	case "true":
		cfg.InsecurePlainHTTP = true
	default:
		bad("parameter %q is neither true nor false", paramInsecure)
	}
	if len(problems) > 0 {
		slices.Sort(problems) // the query is a map
		return Config{}, &kms.Error{
			Op: "open", KeyID: kms.Redact(u), Detail: strings.Join(problems, "; "),
			Advice: "write hashivault://mount/key, such as hashivault://transit/payments or hashivault://transit/payments?namespace=team-a",
		}
	}
	return cfg, nil
}

// keyID is what envelopes record: the mount, the key and the Vault namespace.
// Vault's address is left out: it changes with DNS and differs between networks
// while the key stays the same.
func keyID(mount, name, namespace string) string {
	id := Scheme + "://" + mount + "/" + name
	if namespace != "" {
		id += "?" + paramNamespace + "=" + namespace
	}
	return id
}

// validName reports whether s can be the name of a key: Vault takes letters,
// digits and _, and - and . inside. Mounts and namespaces are held to the same,
// segment by segment, so that no name needs escaping in a path or an ID.
func validName(s string) bool {
	word := func(c byte) bool {
		return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	if s == "" || !word(s[0]) || !word(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !word(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return true
}

func validPath(s string) bool {
	for segment := range strings.SplitSeq(s, "/") {
		if !validName(segment) {
			return false
		}
	}
	return true
}
