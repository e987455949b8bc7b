package awskms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	signatureAlgorithm = "AWS4-HMAC-SHA256"
	signatureTime      = "20060102T150405Z"
	signatureSkew      = 5 * time.Minute // that AWS tolerates
)

// signed is what the Authorization header of a request says.
type signed struct {
	accessKeyID, date, region, service string
	headers                            []string
	signature                          string
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func parseAuthorization(header string) (signed, bool) {
	rest, ok := strings.CutPrefix(header, signatureAlgorithm+" ")
	if !ok {
		return signed{}, false
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || fields["Signature"] == "" {
		return signed{}, false
	}
	return signed{
		accessKeyID: scope[0], date: scope[1], region: scope[2], service: scope[3],
		headers: strings.Split(fields["SignedHeaders"], ";"), signature: fields["Signature"],
	}, true
}

// authenticate checks the signature of a request (Signature Version 4) and returns its
// sender and its Region.
func (s *Server) authenticate(r *http.Request, service *service, body []byte) (*identity, string, error) {
	sig, ok := parseAuthorization(r.Header.Get("Authorization"))
	if !ok {
		return nil, "", fail("MissingAuthenticationTokenException", "Request is missing Authentication Token")
	}
	s.mu.Lock()
	who, ahead := s.identities[sig.accessKeyID], s.ahead
	s.mu.Unlock()
	at, err := time.Parse(signatureTime, r.Header.Get("X-Amz-Date"))
	switch {
	case who == nil || r.Header.Get("X-Amz-Security-Token") != who.session:
		return nil, "", fail("UnrecognizedClientException", "The security token included in the request is invalid.")
	case err != nil || !strings.HasPrefix(r.Header.Get("X-Amz-Date"), sig.date):
		return nil, "", fail("IncompleteSignatureException", "The date of the signature is missing or differs from its scope")
	case (time.Since(at) + ahead).Abs() > signatureSkew:
		return nil, "", fail("InvalidSignatureException", "Signature expired: the time is too far from that of the server")
	case sig.service != service.name || !slices.Contains(s.regions, sig.region):
		return nil, "", fail("InvalidSignatureException", "Credential should be scoped to a valid region and to correct service: '"+service.name+"'.")
	case slices.ContainsFunc(service.signed, func(name string) bool { return !slices.Contains(sig.headers, name) }),
		who.session != "" && !slices.Contains(sig.headers, "x-amz-security-token"):
		return nil, "", fail("InvalidSignatureException", strings.Join(service.signed, ", ")+" and x-amz-security-token must be signed")
	case !hmac.Equal([]byte(sig.signature), []byte(sign(sig, who.secret, r, body))):
		return nil, "", fail("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	case who.expired:
		return nil, "", fail("ExpiredTokenException", "The security token included in the request is expired")
	}
	return who, sig.region, nil
}

// sign calculates the signature that r should have.
func sign(sig signed, secret string, r *http.Request, body []byte) string {
	var canonical strings.Builder
	canonical.WriteString(r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n")
	for _, name := range sig.headers {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical.WriteString("\n" + strings.Join(sig.headers, ";") + "\n" + hexDigest(body))

	scope := strings.Join([]string{sig.date, sig.region, sig.service, "aws4_request"}, "/")
	text := strings.Join([]string{signatureAlgorithm, r.Header.Get("X-Amz-Date"), scope, hexDigest([]byte(canonical.String()))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{sig.date, sig.region, sig.service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func hexDigest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}
