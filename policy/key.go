package policy

import (
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/internal/keyuri"
)

// namespaceVariable is the only variable that a key URI may hold.
const namespaceVariable = "{namespace}"

// compiled returns k with its URI split at the variables, so that a seal does not scan it.
func (k Key) compiled() Key {
	k.pieces = strings.Split(k.URI, namespaceVariable)
	return k
}

// template returns the pieces of the URI; a namespace goes between each two.
func (k Key) template() []string {
	if k.pieces == nil {
		k = k.compiled()
	}
	return k.pieces
}

// Templated reports whether the key differs by namespace.
func (k Key) Templated() bool { return len(k.template()) > 1 }

// Expand returns the key's URI for a namespace. Where the URI has no variable, that is the URI itself, for any namespace.
// Otherwise the namespace must be 1 to 255 characters of A-Z a-z 0-9 . _ - and neither "." nor "..", or Expand returns an
// error with a hint. Expand escapes and replaces nothing, so two namespaces never share a URI and no namespace can name a
// path to another one's key.
func (k Key) Expand(namespace string) (string, error) {
	if !k.Templated() {
		return k.URI, nil
	}
	if reason := unsafeNamespace(namespace); reason != "" {
		return "", &expandError{Key: k.Name, Namespace: namespace, reason: reason}
	}
	uri := strings.Join(k.template(), namespace)
	if len(uri) > maxURI {
		return "", &expandError{Key: k.Name, Namespace: namespace, reason: fmt.Sprintf("the key URI would be longer than %d bytes", maxURI)}
	}
	return uri, nil
}

// unsafeNamespace says why a namespace must not become part of a URI; empty if it may.
func unsafeNamespace(namespace string) string {
	switch {
	case namespace == "":
		return "the namespace is not known here"
	case namespace == "." || namespace == "..":
		return "the namespace has a meaning of its own in a path"
	case len(namespace) > maxNamespace:
		return fmt.Sprintf("the namespace is longer than %d bytes", maxNamespace)
	case !plainName(namespace):
		return "the namespace holds a character other than letters, digits, . _ and -"
	}
	return ""
}

// plainName reports whether s has only characters that mean nothing in a URI.
func plainName(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	})
}

// expandError says why a key has no URI for a namespace.
type expandError struct {
	Key, Namespace, reason string
}

// Error implements error. It does not show the URI.
func (e *expandError) Error() string {
	return fmt.Sprintf("policy: expand key %s for namespace %s: %s", quote(e.Key), quote(e.Namespace), e.reason)
}

// Hint says what to do next.
func (e *expandError) Hint() string {
	return "give this namespace a rule whose keys have no " + namespaceVariable + " in their URIs"
}

// harmlessParameter is the one parameter of a key URI that may have the variable in its value: it names a part of the KMS,
// such as a namespace of Vault. All others choose the KMS, our identity there, or how the connection is protected.
const harmlessParameter = "namespace"

// variableInQuery reports whether the query of a URI holds the variable where it must not.
func variableInQuery(uri string) bool {
	uri, _, _ = strings.Cut(uri, "#")
	_, query, _ := strings.Cut(uri, "?")
	for parameter := range strings.SplitSeq(query, "&") {
		name, text, _ := strings.Cut(parameter, "=")
		if strings.Contains(name, namespaceVariable) || strings.Contains(text, namespaceVariable) && name != harmlessParameter {
			return true
		}
	}
	return false
}

// checkURI says what is wrong with a key URI in a file, and what to do; empty if nothing is. The backends check the rest.
func checkURI(uri string) (problem, advice string) {
	filled := strings.ReplaceAll(uri, namespaceVariable, "namespace")
	u, problem := keyuri.Parse(filled)
	switch {
	case len(uri) > maxURI:
		return fmt.Sprintf("is longer than %d bytes", maxURI), keyuri.Advice
	case problem == keyuri.Blank:
		return problem, "write a space in a path as %20"
	case variableInQuery(uri):
		return "has " + namespaceVariable + " among its parameters", "a namespace may be an attacker's choice, and must not choose where data keys and credentials go: " +
			"write " + namespaceVariable + " before the ?, in the name of the key; of the parameters, only the value of namespace= may hold it"
	case strings.ContainsAny(filled, "{}"):
		return "holds a variable other than " + namespaceVariable, namespaceVariable + " is the only variable; write a brace that is part of a name as %7B or %7D"
	case problem == keyuri.NoScheme || u != nil && !strings.HasPrefix(filled, u.Scheme+"://"):
		return "does not start with a lower-case scheme and ://", keyuri.Advice
	case u == nil:
		return problem, keyuri.Advice
	case !strings.HasPrefix(uri, u.Scheme+"://"):
		return "has " + namespaceVariable + " in its scheme", keyuri.Advice
	case u.User != nil:
		return "holds a user name or password", "take it out: credentials come from the environment of the process, never from the policy file"
	case len(filled) == len(u.Scheme)+len("://"):
		return "names no key", keyuri.Advice
	}
	return "", ""
}
