package gcpkms

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"github.com/waxseal/waxseal/kms"
)

// Scheme of the URIs that Backend opens.
const Scheme = "gcpkms"

// Parameters of a key URI. They say how to get to the key, not which it is, and
// are not recorded.
const (
	paramEndpoint = "endpoint"
	paramInsecure = "insecure-plaintext"
)

// Backend opens keys by URIs of the form
//
//	gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K[?endpoint=HOST:PORT][&insecure-plaintext=true]
//
// Credentials come from the environment, as New documents. Each key has a
// connection of its own; where there are many, use NewBackend.
const Backend backend = Scheme

// backend is a string so that Backend can be a constant.
type backend string

var (
	_ kms.Backend = Backend
	_ kms.Matcher = Backend
)

// Scheme implements kms.Backend.
func (b backend) Scheme() string { return string(b) }

// Open implements kms.Backend. It does not reach Cloud KMS. A URI that cannot be
// used gives an *kms.Error of class Invalid with a hint, credentials that are
// missing or cannot be read one of class Denied.
func (b backend) Open(_ context.Context, uri *url.URL) (kms.Key, error) {
	cfg, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	key, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return key, nil
}

// MayRecord implements kms.Matcher: the ID is in the URI.
func (b backend) MayRecord(uri *url.URL, id string) bool {
	cfg, err := parseURI(uri)
	return err == nil && id == keyID(cfg.Name)
}

func parseURI(u *url.URL) (Config, error) {
	p := kms.ReadParams(u, Scheme, paramEndpoint, paramInsecure)
	if u.Fragment != "" {
		p.Bad("there is nothing after # in a key URI of Cloud KMS's")
	}
	cfg := Config{
		Name:     u.Host + u.EscapedPath(), // as written: an escape could smuggle a slash into a name
		Endpoint: p.Text(paramEndpoint), InsecurePlaintext: p.Flag(paramInsecure),
	}
	if problem := nameProblem(cfg.Name); problem != "" {
		p.Bad("%s", problem)
	}
	if err := p.Err("write gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K, which is " + Scheme + ":// and the key's resource name"); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// keyID is what envelopes record. The endpoint is left out: it differs between
// networks while the resource name stays the same.
func keyID(name string) string { return Scheme + "://" + name }

const (
	ringsPart    = "/keyRings/"
	keysPart     = "/cryptoKeys/"
	versionsPart = "/cryptoKeyVersions/"
)

// keyName is a resource name, by the rules that Google documents for each part. A
// project is an ID (with "example.com:" before it in old ones) or a number.
var keyName = regexp.MustCompile(`^projects/[a-z0-9][a-z0-9.:-]{0,127}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}$`)

// nameProblem says what is wrong with a key's resource name; empty if nothing is.
func nameProblem(name string) string {
	switch key, _, found := strings.Cut(name, versionsPart); {
	case keyName.MatchString(name):
		return ""
	case found && keyName.MatchString(key):
		return "it names a version; name the key, whose primary version wraps and whose every version unwraps"
	case !strings.Contains(name, keysPart):
		return "it does not name a key"
	}
	return "the key's resource name is incomplete or has characters that no such name has"
}

// versionOf returns the number of the key version called name, if it is one of the key's.
// Cloud KMS may name a project by its ID where we use its number, or the reverse: then the
// projects are not compared.
func versionOf(key, name string) (version string, ok bool) {
	of, version, found := strings.Cut(name, versionsPart)
	if !found || !isVersion(version) || !keyName.MatchString(of) {
		return "", false
	}
	return version, sameKey(key, of)
}

// sameKey reports whether two resource names may be of one key, as versionOf
// documents it.
func sameKey(ours, its string) bool {
	if ours == its {
		return true
	}
	ourProject, ourRest := splitProject(ours)
	itsProject, itsRest := splitProject(its)
	return ourRest == itsRest && isNumber(ourProject) != isNumber(itsProject) && keyName.MatchString(its)
}

const digits = "0123456789"

// isVersion reports whether s is a version's number as Cloud KMS writes it.
func isVersion(s string) bool {
	return s != "" && len(s) <= 10 && s[0] != '0' && strings.Trim(s, digits) == ""
}

func isNumber(project string) bool { return strings.Trim(project, digits) == "" }

// splitProject takes "projects/P/rest" apart.
func splitProject(name string) (project, rest string) {
	project, rest, _ = strings.Cut(strings.TrimPrefix(name, "projects/"), "/")
	return project, rest
}

// How much of a key's name a gcloud command needs.
const (
	scopeRing = iota
	scopeKey  // for commands about versions
	scopeName // for commands with the key's name as their argument
)

// gcloud returns a command about the key as a person would type it.
func (k *Key) gcloud(command string, scope int) string {
	project, rest := splitProject(k.name)
	location, rest, _ := strings.Cut(strings.TrimPrefix(rest, "locations/"), ringsPart)
	ring, key, _ := strings.Cut(rest, keysPart)
	out := "gcloud " + command
	switch scope {
	case scopeKey:
		out += " --key=" + key
	case scopeName:
		out += " " + key
	}
	return out + " --keyring=" + ring + " --location=" + location + " --project=" + project
}
