package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/waxseal/waxseal/envelope/format"
)

// route is what a request asks for.
type route uint8

const (
	routeNone route = iota // refused before its path was looked at, or nothing is there
	routePreflight
	routeHome
	routeEncode
	routeDecode
	routeDownload
	routeCount
)

var routeNames = [routeCount]string{
	routeNone: "none", routePreflight: "preflight", routeHome: "home", routeEncode: "encode", routeDecode: "decode", routeDownload: "download",
}

// String returns the route's name in log and metrics.
func (r route) String() string { return routeNames[r] }

// target is a path taken apart.
type target struct {
	route     route
	namespace string // the segment before the last, still escaped
}

// route finds what the path asks for. Only its last segment counts, and the one
// before it as a namespace: servers are mounted at any depth, and the temporal
// command line leaves a segment empty where it has no namespace ("//decode").
// That is also why there is no http.ServeMux here: it would redirect such paths.
func (s *Server) route(x *exchange) (target, reason) {
	var t target
	path := x.r.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(path, s.pathPrefix); ok && (rest == "" || rest[0] == '/') {
		path = rest
	}
	if path == "" || path == "/" {
		x.route, t.route = routeHome, routeHome
		if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
			return t, notGet
		}
		return t, answered
	}
	before, last, found := cutLast(path)
	if !found {
		return t, notFound // "*" of OPTIONS
	}
	switch last {
	case "encode":
		t.route = routeEncode
	case "decode":
		t.route = routeDecode
	case "download":
		t.route = routeDownload
	default:
		return t, notFound
	}
	x.route = t.route
	_, t.namespace, _ = cutLast(before)
	if x.r.Method != http.MethodPost {
		return t, notPost
	}
	if t.route == routeDownload {
		// The Web UI asks for it where a storage reference stands in a history. We
		// have no storage driver, so references pass through decode untouched.
		return t, noDownload
	}
	strict, ok := strictQuery(x.r.URL.RawQuery)
	if !ok {
		return t, badQuery
	}
	x.strict = s.strict || strict
	return t, answered
}

// cutLast cuts a path at its last slash.
func cutLast(path string) (before, after string, found bool) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return path, "", false
}

// strictQuery reads the one parameter that changes what we do. A query that
// cannot be parsed, or another value, is refused: who asks for strictness and
// mistypes it must not get the opposite. Others, like the Web UI's
// preserveStorageRefs, ask for what we do in any case.
func strictQuery(query string) (strict, ok bool) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return false, false
	}
	for i, v := range values["strict"] {
		if v != "true" && v != "false" || i > 0 && strict != (v == "true") {
			return false, false
		}
		strict = v == "true"
	}
	return strict, true
}

// undefined is what the Web UI sends as namespace on pages that have none.
const undefined = "undefined"

// namespace is the one that a request names in its path or in X-Namespace, or
// "" where it names none; then decoding goes by the envelopes' own namespaces,
// and encoding by the default.
func (s *Server) namespace(r *http.Request, t target) (string, reason) {
	inPath, err := url.PathUnescape(t.namespace)
	if err != nil {
		return "", badNamespace
	}
	var namespace string
	for _, named := range slices.Concat(r.Header.Values(headerNamespace), []string{inPath}) {
		switch {
		case named == "" || named == undefined:
		case !validNamespace(named):
			return "", badNamespace
		case namespace != "" && namespace != named:
			return "", namespaceConflict
		default:
			namespace = named
		}
	}
	if namespace == "" && t.route == routeEncode {
		if s.defaultNamespace == "" {
			return "", namespaceMissing
		}
		namespace = s.defaultNamespace
	}
	return namespace, answered
}

// validNamespace reports whether a name can be sealed, logged and shown:
// printable UTF-8 of at most format.MaxNamespace bytes, and no relative path.
func validNamespace(name string) bool {
	if len(name) > format.MaxNamespace || !utf8.ValidString(name) || name == "." || name == ".." {
		return false
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
