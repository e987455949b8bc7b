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

// route is the kind of a request.
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

// route finds the route and the namespace of a path: its last segment and the one before it. Proxies mount servers at any
// depth, and the temporal command line leaves the segment empty if it has no namespace ("//decode"); http.ServeMux would
// redirect such paths.
func (s *Server) route(x *exchange) (target, reason) {
	var t target
	path := x.r.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(path, s.config.PathPrefix); ok && (rest == "" || rest[0] == '/') {
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
		// The Web UI calls it for a storage reference. Decode leaves references as they are: there is no storage driver.
		return t, noDownload
	}
	strict, ok := strictQuery(x.r.URL.RawQuery)
	if !ok {
		return t, badQuery
	}
	x.strict = s.config.Strict || strict
	return t, answered
}

// cutLast cuts a path at its last slash.
func cutLast(path string) (before, after string, found bool) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return path, "", false
}

// strictQuery reads the strict parameter. It refuses a query that it cannot parse and any value but true and false: a typo
// must not mean the opposite. It ignores other parameters, such as the Web UI's preserveStorageRefs.
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

// undefined is the namespace that the Web UI sends from pages without one.
const undefined = "undefined"

// namespace returns the namespace in a request's path or X-Namespace. If it names none, that is the default for encoding, and
// "" for decoding, where the envelopes' own namespaces then decide.
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
		if s.config.DefaultNamespace == "" {
			return "", namespaceMissing
		}
		namespace = s.config.DefaultNamespace
	}
	return namespace, answered
}

// validNamespace reports whether a name can be sealed, logged and shown: printable UTF-8 of at most format.MaxNamespace bytes,
// and no relative path.
func validNamespace(name string) bool {
	return len(name) <= format.MaxNamespace && utf8.ValidString(name) && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}
