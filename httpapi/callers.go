package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/rs/cors"
)

// preflightAge is how long, in seconds, a browser may remember a preflight.
const preflightAge = 600

// callers decides which host names the server answers to and which web pages may use it. Neither check stops a program.
//
// A page of a foreign site can make a browser send requests to loopback. Its Origin is then foreign and refused. If the
// site's name resolves to 127.0.0.1 (DNS rebinding), the request has the page's own origin, but its Host is the site's name
// and refused.
type callers struct {
	anyHost bool
	hosts   map[string]bool
	origins map[string]bool // nil: loopback origins
	rules   *cors.Cors
}

// newCallers returns the rules of a Config and all that is wrong with them.
func newCallers(config Config) (c *callers, problems []string) {
	c = &callers{anyHost: config.InsecureListenAnywhere && len(config.AllowedHosts) == 0, hosts: make(map[string]bool)}
	for _, host := range config.AllowedHosts {
		if host == "" || host != hostName(host) || host != strings.ToLower(host) || strings.ContainsAny(host, "*/ ") {
			problems = append(problems, fmt.Sprintf("AllowedHosts: %q is not a lower-case host name without port", host))
		}
		c.hosts[host] = true
	}
	for _, origin := range config.AllowedOrigins {
		if !exactOrigin(origin) {
			problems = append(problems, fmt.Sprintf("AllowedOrigins: %q is not an origin as browsers write it, such as https://temporal.example.com", origin))
		}
		if c.origins == nil {
			c.origins = make(map[string]bool)
		}
		c.origins[origin] = true
	}
	if config.AllowCredentials && c.origins == nil {
		problems = append(problems, "AllowCredentials needs AllowedOrigins: any page on loopback could use a person's credentials otherwise")
	}
	c.rules = cors.New(cors.Options{
		// Always a function: for rs/cors, an empty list of origins means all origins.
		AllowOriginFunc:     c.originAllowed,
		AllowedMethods:      []string{http.MethodPost},
		AllowedHeaders:      []string{"Authorization", "Authorization-Extras", "Content-Type", headerNamespace},
		ExposedHeaders:      []string{headerUndecoded, headerRequestID, "Retry-After"},
		MaxAge:              preflightAge,
		AllowCredentials:    config.AllowCredentials,
		AllowPrivateNetwork: config.AllowPrivateNetwork,
	})
	return c, problems
}

// check refuses requests under a foreign host name or from a foreign page. Without it, the work would be done, and only the
// missing CORS headers would keep the page from reading the answer.
func (c *callers) check(r *http.Request) reason {
	if host := hostName(r.Host); !c.anyHost && !loopbackHost(host) && !c.hosts[strings.ToLower(host)] {
		return hostRefused
	}
	switch origins := r.Header.Values("Origin"); {
	case len(origins) == 0: // not a browser, or a browser's plain GET
	case len(origins) > 1 || !c.originAllowed(origins[0]):
		return originRefused
	}
	return answered
}

// cors adds the CORS headers for an allowed page. It answers preflights, and reports whether the request was one.
func (c *callers) cors(x *exchange) (preflight bool) {
	c.rules.HandlerFunc(x.w, x.r)
	if x.r.Method == http.MethodOptions && x.r.Header.Get("Access-Control-Request-Method") != "" {
		x.route, x.status = routePreflight, http.StatusNoContent
		return true
	}
	return false
}

func (c *callers) originAllowed(origin string) bool {
	if c.origins != nil {
		return c.origins[origin]
	}
	u, ok := parseOrigin(origin)
	return ok && loopbackHost(u.Hostname())
}

// parseOrigin parses scheme://host[:port] and nothing else (RFC 6454, 6.2).
func parseOrigin(origin string) (*url.URL, bool) {
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Scheme+"://"+u.Host != origin {
		return nil, false
	}
	return u, true
}

// exactOrigin reports whether a browser could send this origin: lower case, no wildcard, no default port.
func exactOrigin(origin string) bool {
	u, ok := parseOrigin(origin)
	if !ok || origin != strings.ToLower(origin) || strings.ContainsAny(origin, "* ") || strings.HasSuffix(u.Host, ":") {
		return false
	}
	return (u.Scheme != "http" || u.Port() != "80") && (u.Scheme != "https" || u.Port() != "443")
}

// hostName is the name in a Host header, without port and brackets.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	return host
}

// loopbackHost reports whether a name means this machine to every browser. Names under .localhost do not count: some browsers
// resolve them through DNS.
func loopbackHost(name string) bool {
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}
