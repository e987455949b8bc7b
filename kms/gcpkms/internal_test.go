package gcpkms

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

func TestVersionOf(t *testing.T) {
	const key = "projects/acme/locations/global/keyRings/r/cryptoKeys/k"
	for _, tc := range []struct {
		name, answer, want string
	}{
		{"ours", key + "/cryptoKeyVersions/7", "7"},
		{"large", key + "/cryptoKeyVersions/1234567890", "1234567890"},
		{"project by number", "projects/42/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", "7"},
		{"other project", "projects/acme2/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", ""},
		{"other location", "projects/acme/locations/europe/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", ""},
		{"other location, project by number", "projects/42/locations/europe/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7", ""},
		{"other key", key + "2/cryptoKeyVersions/7", ""},
		{"no version", key, ""},
		{"empty version", key + "/cryptoKeyVersions/", ""},
		{"version 0", key + "/cryptoKeyVersions/0", ""},
		{"leading zero", key + "/cryptoKeyVersions/07", ""},
		{"not a number", key + "/cryptoKeyVersions/7@8", ""},
		{"too long", key + "/cryptoKeyVersions/12345678901", ""},
		{"more after it", key + "/cryptoKeyVersions/7/cryptoKeyVersions/8", ""},
		{"empty", "", ""},
		{"project only", "projects/42/cryptoKeyVersions/1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := versionOf(key, tc.answer)
			if ok != (tc.want != "") || ok && got != tc.want {
				t.Errorf("versionOf = %q, %v, want %q", got, ok, tc.want)
			}
		})
	}
	if _, ok := versionOf("projects/41/locations/global/keyRings/r/cryptoKeys/k", "projects/42/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/7"); ok {
		t.Error("two project numbers that differ are taken for one project")
	}
}

func TestReasonByDetails(t *testing.T) {
	k := &Key{id: "gcpkms://k", name: "projects/p/locations/l/keyRings/r/cryptoKeys/k", endpoint: defaultEndpoint}
	violated := func(kind string) protoadapt.MessageV1 {
		return &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: kind}}}
	}
	info := func(reason string) protoadapt.MessageV1 { return &errdetails.ErrorInfo{Reason: reason} }
	seen := make(map[string]bool)
	for _, tc := range []struct {
		code   codes.Code
		detail protoadapt.MessageV1
		want   kms.Class
	}{
		{codes.FailedPrecondition, violated("KEY_DESTROYED"), kms.NotFound},
		{codes.FailedPrecondition, violated("KEY_DISABLED"), kms.Disabled},
		{codes.FailedPrecondition, violated("EXTERNAL"), kms.Disabled},
		{codes.FailedPrecondition, &errdetails.PreconditionFailure{}, kms.Disabled},
		{codes.PermissionDenied, info("SERVICE_DISABLED"), kms.Denied},
		{codes.PermissionDenied, info("BILLING_DISABLED"), kms.Denied},
		{codes.PermissionDenied, info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), kms.Denied},
		{codes.PermissionDenied, info("IAM_PERMISSION_DENIED"), kms.Denied},
	} {
		st, err := status.New(tc.code, "said").WithDetails(tc.detail)
		if err != nil {
			t.Fatal(err)
		}
		got := k.reason(call{op: driver.OpUnwrap, permission: permDecrypt}, st)
		if got.Class != tc.want || got.Detail == "" || got.Advice == "" {
			t.Errorf("%v: %+v, want %v", st.Proto(), got, tc.want)
		}
		seen[got.Detail] = true
	}
	if len(seen) != 7 {
		t.Errorf("%d different details, want 7", len(seen))
	}
}

func TestReasonByState(t *testing.T) {
	k := &Key{name: "projects/p/locations/l/keyRings/r/cryptoKeys/k"}
	for state, want := range map[kmspb.CryptoKeyVersion_CryptoKeyVersionState]kms.Class{
		kmspb.CryptoKeyVersion_ENABLED: kms.Disabled, kmspb.CryptoKeyVersion_DISABLED: kms.Disabled,
		kmspb.CryptoKeyVersion_DESTROY_SCHEDULED: kms.Disabled, kmspb.CryptoKeyVersion_DESTROYED: kms.NotFound,
		kmspb.CryptoKeyVersion_PENDING_GENERATION: kms.Disabled, kmspb.CryptoKeyVersion_PENDING_IMPORT: kms.Disabled,
		kmspb.CryptoKeyVersion_IMPORT_FAILED: kms.Disabled, kmspb.CryptoKeyVersion_GENERATION_FAILED: kms.Disabled,
		kmspb.CryptoKeyVersion_PENDING_EXTERNAL_DESTRUCTION: kms.NotFound, kmspb.CryptoKeyVersion_EXTERNAL_DESTRUCTION_FAILED: kms.NotFound,
		kmspb.CryptoKeyVersion_CryptoKeyVersionState(99): kms.Disabled,
	} {
		if got := k.inState(state); got.Class != want || got.Detail == "" || got.Advice == "" || !got.Item {
			t.Errorf("%v: %+v, want %v", state, got, want)
		}
	}
	v := &kmspb.CryptoKeyVersion{Name: k.name + "/cryptoKeyVersions/3", State: kmspb.CryptoKeyVersion_ENABLED}
	if err := k.checkState(driver.OpDisable, "3", v, kmspb.CryptoKeyVersion_DISABLED); kms.ClassOf(err) != kms.Internal || !strings.Contains(err.Error(), "version 3 did not change") {
		t.Errorf("a version that stayed as it was: %v", err)
	}
	for _, st := range []*status.Status{
		status.New(codes.FailedPrecondition, "x has no primary version."),
		status.New(codes.FailedPrecondition, "The primary version is missing."),
	} {
		if got := k.reason(call{op: driver.OpWrap}, st); got.Class != kms.Disabled || !strings.Contains(got.Detail, "no primary version") || !strings.Contains(got.Advice, "--primary --key=k --keyring=r --location=l --project=p") {
			t.Errorf("%+v", got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	info := func(d time.Duration) protoadapt.MessageV1 {
		return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
	}
	now := time.Now().UTC()
	date := func(t time.Time) string { return t.Format(http.TimeFormat) }
	for _, tc := range []struct {
		name            string
		detail          protoadapt.MessageV1
		header, trailer metadata.MD
		want            time.Duration
	}{
		{"nothing", nil, nil, nil, 0},
		{"info", info(1500 * time.Millisecond), nil, nil, 1500 * time.Millisecond},
		{"info before header", info(time.Second), metadata.Pairs("retry-after", "9"), nil, time.Second},
		{"empty info", &errdetails.RetryInfo{}, nil, nil, 0},
		{"negative info", info(-time.Second), nil, nil, 0},
		{"endless info", info(1 << 62), nil, nil, time.Hour},
		{"another detail", &errdetails.ErrorInfo{}, nil, nil, 0},
		{"header", nil, metadata.Pairs("retry-after", "9"), nil, 9 * time.Second},
		{"trailer", nil, metadata.Pairs("x", "y"), metadata.Pairs("retry-after", " 9 "), 9 * time.Second},
		{"endless header", nil, metadata.Pairs("retry-after", "2147483647"), nil, time.Hour},
		{"header too large", nil, metadata.Pairs("retry-after", "99999999999999999999"), nil, 0},
		{"negative header", nil, metadata.Pairs("retry-after", "-9"), nil, 0},
		{"nonsense header", nil, metadata.Pairs("retry-after", "soon"), nil, 0},
		{"date", nil, metadata.Pairs("retry-after", date(now.Add(time.Hour+9*time.Second)), "date", date(now.Add(time.Hour))), nil, 9 * time.Second},
		{"date in the past", nil, metadata.Pairs("retry-after", date(now.Add(-time.Hour))), nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st := status.New(codes.ResourceExhausted, "")
			if tc.detail != nil {
				var err error
				if st, err = st.WithDetails(tc.detail); err != nil {
					t.Fatal(err)
				}
			}
			if got := retryAfter(st, &aside{tc.header, tc.trailer}); got != tc.want {
				t.Errorf("retryAfter = %v, want %v", got, tc.want)
			}
		})
	}
	if got := retryAfter(status.New(codes.Unavailable, ""), &aside{header: metadata.Pairs("retry-after", date(now.Add(9*time.Second)))}); got < 5*time.Second || got > 10*time.Second {
		t.Errorf("a date by our own clock: %v", got)
	}
}

// What Google's library says of a token service decides whether data keys may be
// used for longer: an outage is not a revocation.
func TestTokenRefused(t *testing.T) {
	for said, want := range map[string]bool{
		"due to error: auth: cannot fetch token: 503\nResponse: down":                                                  false,
		"due to error: auth: cannot fetch token: 500\nResponse: ":                                                      false,
		"due to error: auth: cannot fetch token: 429\nResponse: ":                                                      false,
		"due to error: auth: cannot fetch token: 408\nResponse: ":                                                      false,
		"due to error: auth: cannot fetch token: 400\nResponse: {\"x\":\"EOF, i/o timeout\"}":                          true,
		"due to error: auth: cannot fetch token: 401\nResponse: {\"x\":\"status code 503\"}":                           true,
		"due to error: auth: \"invalid_grant\" \"Invalid JWT: dial tcp\"":                                              true,
		"due to error: auth: \"invalid_client\"":                                                                       true,
		"due to error: auth: \"internal_failure\" \"Backend Error\"":                                                   false,
		"due to error: auth: \"temporarily_unavailable\"":                                                              false,
		"due to error: credentials: status code 503: down":                                                             false,
		"due to error: credentials: status code 403: {\"error\":\"access_denied\"}":                                    true,
		"due to error: credentials: cannot fetch token: compute: Received 503 `down`":                                  false,
		"due to error: credentials: cannot fetch token: compute: Received 404 `no`":                                    true,
		"due to error: Post \"https://oauth2.googleapis.com/token\": dial tcp: lookup x: no such host":                 false,
		"due to error: Post \"https://x\": read tcp 10.0.0.1:1->10.0.0.2:443: connection reset by peer":                false,
		"due to error: Post \"https://x\": net/http: TLS handshake timeout":                                            false,
		"due to error: Post \"https://x\": context deadline exceeded":                                                  false,
		"due to error: credentials: failed to open credential file \"/run/token\": no such file":                       false,
		"due to error: unable to transfer credentials PerRPCCredentials: connection has no security":                   true,
		"due to error: auth: cannot fetch token: 403\nResponse: <html>Forbidden</html>":                                false,
		"due to error: credentials: status code 403: <html>":                                                           false,
		"due to error: credentials: status code 407: ":                                                                 false,
		"due to error: credentials: failed to unmarshal response body from Secure Token Server: invalid character '<'": false,
		"due to error: auth: cannot parse json: invalid character '<'":                                                 false,
	} {
		if got := tokenRefused(said); got != want {
			t.Errorf("%s: %v, want %v", said, got, want)
		}
	}
}

func TestNotKMS(t *testing.T) {
	k := &Key{endpoint: defaultEndpoint}
	for said, want := range map[string]kms.Class{
		"401 (Unauthorized)": kms.Unavailable, "403 (Forbidden)": kms.Unavailable, "302 (Found)": kms.Unavailable,
		"429 (Too Many Requests)": kms.Throttled, "503 (Service Unavailable)": kms.Unavailable, "": kms.Unavailable, "<b>": kms.Unavailable,
	} {
		for _, code := range []codes.Code{codes.PermissionDenied, codes.Unauthenticated, codes.Unavailable, codes.Unknown} {
			got := k.reason(call{op: driver.OpUnwrap}, status.New(code, "unexpected HTTP status code received from server: "+said))
			if got.Class != want || got.Advice == "" || strings.Contains(got.Detail, "<") {
				t.Errorf("%v, %q: %+v", code, said, got)
			}
		}
	}
}

func TestIdentityOf(t *testing.T) {
	const url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/w@p.iam.gserviceaccount.com:generateAccessToken"
	const pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"
	for _, tc := range []struct{ file, want string }{
		{`{"type": "service_account", "client_email": "w@p.iam.gserviceaccount.com", "private_key": "SECRET", "private_key_id": "SECRET"}`, "w@p.iam.gserviceaccount.com"},
		{`{"type": "authorized_user", "client_id": "c", "client_secret": "SECRET", "refresh_token": "SECRET"}`, "authorized user (gcloud auth application-default login)"},
		{`{"type": "authorized_user", "account": "me@example.com", "refresh_token": "SECRET"}`, "me@example.com"},
		{`{"type": "impersonated_service_account", "service_account_impersonation_url": "` + url + `", "source_credentials": {"refresh_token": "SECRET"}}`, "w@p.iam.gserviceaccount.com, impersonated"},
		{`{"type": "external_account", "audience": "` + pool + `"}`, "federated identity of " + pool},
		{`{"type": "external_account", "audience": "` + pool + `", "service_account_impersonation_url": "` + url + `"}`, "w@p.iam.gserviceaccount.com, by federation from " + pool},
		{`{"type": "gdch_service_account", "name": "robot", "private_key": "SECRET"}`, "robot"},
		{`{"type": "something new", "token": "SECRET"}`, ""},
		{`SECRET`, ""},
	} {
		who := identityOf([]byte(tc.file))
		if got := who.resolve(t.Context()); got != tc.want || who.machine || strings.Contains(got, "SECRET") {
			t.Errorf("%s: %q, want %q", tc.file, got, tc.want)
		}
	}
}

// The metadata server knows the owner of the credentials, if it is there and quick.
func TestIdentityOfMachine(t *testing.T) {
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	answer := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case email := <-answer:
			if strings.HasSuffix(r.URL.Path, "/instance/service-accounts/default/email") {
				_, _ = w.Write([]byte(email))
			}
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
	who := identityOf(nil)
	answer <- "w@p.iam.gserviceaccount.com\n"
	if got := who.resolve(t.Context()); got != "w@p.iam.gserviceaccount.com" {
		t.Errorf("%q", got)
	}
	began := time.Now()
	if got := who.resolve(t.Context()); got != "the service account of this machine or workload" {
		t.Errorf("when it does not answer: %q", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("waited %v for it", took)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := who.resolve(ended); got == "" {
		t.Error("nothing")
	}
}

func TestSkew(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 500e6, time.UTC)
	for _, tc := range []struct {
		date  string
		took  time.Duration
		want  time.Duration
		known bool
	}{
		{"", 0, 0, false},
		{"yesterday", 0, 0, false},
		{"Fri, 02 Jan 2026 03:04:05 GMT", 0, 0, true},
		{"Fri, 02 Jan 2026 03:04:06 GMT", 0, time.Second, true}, // half a second, rounded
		{"Fri, 02 Jan 2026 03:04:06 GMT", time.Second, 0, true},
		{"Fri, 02 Jan 2026 03:09:05 GMT", time.Second, 298 * time.Second, true},
		{"Fri, 02 Jan 2026 02:04:05 GMT", time.Second, -time.Hour + time.Second, true},
	} {
		got, known := skew(tc.date, at, at.Add(tc.took))
		if diff := got - tc.want; known != tc.known || diff < -time.Second || diff > time.Second || (tc.want == 0) != (got == 0) {
			t.Errorf("%s after %v: %v, %v, want %v", tc.date, tc.took, got, known, tc.want)
		}
	}
}

// A version that never gets ready does not hold Rotate for ever.
func TestAwaitEnabledEnds(t *testing.T) {
	k := &Key{name: "projects/p/locations/l/keyRings/r/cryptoKeys/k", generation: 10 * time.Millisecond}
	_, err := k.awaitEnabled(t.Context(), &kmspb.CryptoKeyVersion{State: kmspb.CryptoKeyVersion_PENDING_GENERATION})
	if kms.ClassOf(err) != kms.Unavailable || !strings.Contains(err.Error(), "not ready after 10ms") || !errors.As(err, new(*kms.LateError)) {
		t.Errorf("error %v", err)
	}
	if bare := errors.New("bare"); !errors.Is(k.halfRotated("2", bare), bare) {
		t.Error("an error of another type is not passed on")
	}
}
