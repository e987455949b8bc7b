package vaultkms

import (
	"context"
	"net/url"
	"strings"

	vault "github.com/hashicorp/vault/api"

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
	paramAuth      = "auth"
	paramAuthMount = "auth-mount"
	paramAuthSpace = "auth-namespace"
	paramRole      = "role"
	paramDerived   = "derived"
)

// Backend opens keys by URIs of the form
//
//	hashivault://mount/key[?namespace=NS][&address=URL][&insecure-plain-http=true]
//	                      [&auth=METHOD][&auth-mount=PATH][&auth-namespace=NS][&role=ROLE]
//	                      [&derived=true]
//
// where mount may have several segments and the last one is the key's name. METHOD
// is an AuthMethod; ROLE is a role of Kubernetes' or JWT's, or an AppRole's role
// ID. Everything else, secrets above all, comes from the environment, as New and
// Auth document. With derived=true the key is a kms.Rewrapper, too.
//
// Each key has connections and a login of its own; keys of NewBackend's share them.
const Backend backend = Scheme

// backend is a string so that Backend can be a constant.
type backend string

var (
	_ kms.Backend = Backend
	_ kms.Matcher = Backend
)

// Scheme implements kms.Backend.
func (b backend) Scheme() string { return string(b) }

// Open implements kms.Backend. It does not reach Vault. A URI or an environment
// that cannot be used gives an *kms.Error of class Invalid with a hint.
func (b backend) Open(_ context.Context, uri *url.URL) (kms.Key, error) {
	return open(uri, alone)
}

// MayRecord implements kms.Matcher: the ID is in the URI, but for a Vault namespace
// that is in the environment.
func (b backend) MayRecord(uri *url.URL, id string) bool {
	cfg, _, err := parseURI(uri)
	return err == nil && id == keyID(cfg.Mount, cfg.Name, cfg.vaultNamespace())
}

func open(uri *url.URL, connect func(settings, *vault.Config) (*client, func(), error)) (kms.Key, error) {
	cfg, derived, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	key, err := newKey(cfg, connect)
	switch {
	case err != nil:
		return nil, err // not a nil *Key in an interface
	case derived:
		return key.declareDerived(), nil
	}
	return key, nil
}

func parseURI(u *url.URL) (cfg Config, derived bool, err error) {
	p := kms.ReadParams(u, Scheme, paramNamespace, paramAddress, paramInsecure, paramAuth, paramAuthMount, paramAuthSpace, paramRole, paramDerived)
	if u.Fragment != "" {
		p.Bad("there is nothing after # in a key URI of Vault's")
	}
	// Checked as written: an escape could smuggle a slash into a name.
	path := u.Host + u.EscapedPath()
	if i := strings.LastIndexByte(path, '/'); i < 0 || u.Host == "" {
		p.Bad("it does not name a mount and a key")
	} else {
		cfg.Mount, cfg.Name = path[:i], path[i+1:]
	}
	cfg.Namespace, cfg.Address, cfg.InsecurePlainHTTP = p.Text(paramNamespace), p.Text(paramAddress), p.Flag(paramInsecure)
	cfg.Auth = Auth{Method: AuthMethod(p.Text(paramAuth)), Mount: p.Text(paramAuthMount), Namespace: p.Text(paramAuthSpace)}
	switch role := p.Text(paramRole); {
	case role == "":
	case cfg.Auth.Method == AuthKubernetes, cfg.Auth.Method == AuthJWT:
		cfg.Auth.Role = role
	case cfg.Auth.Method == AuthAppRole:
		cfg.Auth.RoleID = role
	default:
		p.Bad("parameter %q needs %s=approle, kubernetes or jwt", paramRole, paramAuth)
	}
	derived = p.Flag(paramDerived)
	return cfg, derived, p.Err("write hashivault://mount/key, such as hashivault://transit/payments or hashivault://transit/payments?namespace=team-a")
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
