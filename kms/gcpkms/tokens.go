package gcpkms

import (
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// unauthenticated distinguishes bad credentials from a token that could not be fetched for
// the moment. The client reports the latter with the same code and a text of its own, which
// decides: only an OAuth error of the token service's (RFC 6749, 5.2), or its HTTP status
// with an answer of its kind, is a refusal.
func (k *Key) unauthenticated(st *status.Status) refusal {
	if said, ok := strings.CutPrefix(st.Message(), "transport: per-RPC creds failed"); ok && !tokenRefused(said) {
		return driver.Refuse(kms.Unavailable, "Google's token service cannot be reached, or is not available, or a file for it cannot be read",
			"check the network to oauth2.googleapis.com, sts.googleapis.com or the metadata server, and the files that the credentials name")
	}
	return driver.Refuse(kms.Denied, "Google does not take our credentials: they expired, were revoked, or are another service's",
		"renew what GOOGLE_APPLICATION_CREDENTIALS names, or run gcloud auth application-default login")
}

// The texts in which Google's library reports what a token service answered.
var (
	tokenStatus = regexp.MustCompile(`(cannot fetch token: |status code |compute: Received )([1-5][0-9]{2})\b(?:\nResponse: |: )?(\s*\{)?`)
	tokenError  = regexp.MustCompile(`auth: "([a-z_]+)"`)
)

// tokenRefused reports whether what Google's library said is that a token service
// refused our credentials. Everything else may pass: a service that fails or is not
// reached, a page of another server, a file that is not there for the moment.
func tokenRefused(said string) bool {
	if m := tokenStatus.FindStringSubmatch(said); m != nil {
		refused := m[2][0] == '4' && m[2] != "429" && m[2] != "408"
		// The metadata server answers in plain text, the others in JSON.
		return refused && (m[1] == "compute: Received " || m[3] != "")
	}
	if m := tokenError.FindStringSubmatch(said); m != nil {
		return !slices.Contains([]string{"internal_failure", "server_error", "temporarily_unavailable"}, m[1])
	}
	return strings.Contains(said, "connection has no security") // our own settings
}
