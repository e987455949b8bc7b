package gcpkms

import (
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
)

// unauthenticated tells credentials that are bad from a token that could not be
// fetched for the moment. The client reports the latter with the same code and a
// text of its own, which decides: an HTTP status or OAuth error of the token
// service's (RFC 6749, 5.2) before signs of a network that fails.
func (k *Key) unauthenticated(st *status.Status) refusal {
	if said, ok := strings.CutPrefix(st.Message(), "transport: per-RPC creds failed"); ok && tokenUnavailable(said) {
		return refusal{
			class: kms.Unavailable, detail: "Google's token service cannot be reached, or is not available",
			advice: "check the network to oauth2.googleapis.com, sts.googleapis.com or the metadata server",
		}
	}
	return refusal{
		class: kms.Denied, detail: "Google does not take our credentials: they expired, were revoked, or are another service's",
		advice: "renew what GOOGLE_APPLICATION_CREDENTIALS names, or run gcloud auth application-default login",
	}
}

// The texts in which Google's library reports what a token service answered.
var (
	tokenStatus = regexp.MustCompile(`(?:cannot fetch token: |status code |compute: Received )([1-5][0-9]{2})\b`)
	tokenError  = regexp.MustCompile(`auth: "([a-z_]+)"`)
)

func tokenUnavailable(said string) bool {
	if m := tokenStatus.FindStringSubmatch(said); m != nil {
		return m[1][0] == '5' || m[1] == "429" || m[1] == "408"
	}
	if m := tokenError.FindStringSubmatch(said); m != nil {
		return slices.Contains([]string{"internal_failure", "server_error", "temporarily_unavailable"}, m[1])
	}
	for _, sign := range []string{
		"dial tcp", "read tcp", "write tcp", "proxyconnect", "connection re", "i/o timeout", "deadline exceeded", "TLS handshake",
		"EOF", "no such host", "server misbehaving", "network is unreachable",
	} {
		if strings.Contains(said, sign) {
			return true
		}
	}
	return false
}
