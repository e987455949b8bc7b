package gcpkms

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
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
// Credentials come from the environment, as New documents.
const Backend backend = Scheme

// backend is a string so that Backend can be a constant.
type backend string

var _ kms.Backend = Backend

// Scheme implements kms.Backend.
func (b backend) Scheme() string { return string(b) }

// Open implements kms.Backend. It does not reach Cloud KMS. A URI that cannot be
// used gives an *kms.Error of class Internal with a hint, credentials that are
// missing or cannot be read one of class Denied.
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
		bad("there is nothing after # in a key URI of Cloud KMS's")
	}
	cfg := Config{Name: u.Host + u.EscapedPath()} // as written: an escape could smuggle a slash into a name
	if problem := nameProblem(cfg.Name); problem != "" {
		bad("%s", problem)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		bad("what follows ? cannot be parsed")
	}
	for name, values := range query {
		if name != paramEndpoint && name != paramInsecure {
			bad("unknown parameter %q", name)
		}
		if len(values) != 1 || values[0] == "" {
			bad("parameter %q needs one value", name)
		}
	}
	cfg.Endpoint = query.Get(paramEndpoint)
	switch query.Get(paramInsecure) {
	case "", "false":
	case "true":
		cfg.InsecurePlaintext = true
	default:
		bad("parameter %q is neither true nor false", paramInsecure)
	}
	if len(problems) > 0 {
		slices.Sort(problems) // the query is a map
		return Config{}, &kms.Error{
			Op: "open", KeyID: kms.Redact(u), Detail: strings.Join(problems, "; "),
			Advice: "write gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K, which is " + Scheme + ":// and the key's resource name",
		}
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

// versionOf returns the number of the key version called name, if it is one of
// the key's. Cloud KMS may call a project by its ID where we call it by its
// number, and the other way round, so where one of the two is a number they are
// not compared.
func versionOf(key, name string) (version string, ok bool) {
	of, version, found := strings.Cut(name, versionsPart)
	if !found || version == "" || len(version) > 10 || version[0] == '0' || strings.Trim(version, digits) != "" || !keyName.MatchString(of) {
		return "", false
	}
	if of == key {
		return version, true
	}
	ourProject, ours := splitProject(key)
	itsProject, its := splitProject(of)
	return version, ours == its && isNumber(ourProject) != isNumber(itsProject)
}

const digits = "0123456789"

func isNumber(project string) bool { return strings.Trim(project, digits) == "" }

// splitProject takes "projects/P/rest" apart.
func splitProject(name string) (project, rest string) {
	project, rest, _ = strings.Cut(strings.TrimPrefix(name, "projects/"), "/")
	return project, rest
}
