package awskms_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// webIdentity sets the environment of a pod with a role that STS gives credentials for, and
// returns the file with the pod's token.
func webIdentity(t *testing.T, sts string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/worker")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts)
	return file
}

// assumed is STS's answer with credentials that the test server knows, for a moment.
func assumed() string {
	return fmt.Sprintf(`<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken></SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
		awsserver.DefaultAccessKeyID, awsserver.DefaultSecretAccessKey, time.Now().Add(time.Second).UTC().Format(time.RFC3339))
}

// Missing credentials are an outage unless a service refuses them: a refusal evicts data
// keys.
func TestCredentialsFromSTS(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	refused := func(code string) string {
		return "<ErrorResponse><Error><Code>" + code + "</Code><Message>" + canary + "</Message></Error></ErrorResponse>"
	}
	for _, tc := range []struct {
		name, body string
		status     int
		class      kms.Class
		hint       string
	}{
		{"refused", refused("AccessDenied"), 403, kms.Denied, "trust policy"},
		{"token is not taken", refused("InvalidIdentityToken"), 400, kms.Denied, "trust policy"},
		{"token expired", refused("ExpiredTokenException"), 400, kms.Denied, "role"},
		{"throttled", refused("Throttling"), 400, kms.Throttled, "fewer"},
		{"broken", refused("InternalFailure"), 500, kms.Unavailable, "STS"},
		{"not available", refused("ServiceUnavailable"), 503, kms.Unavailable, "STS"},
		{"cannot reach the issuer", refused("IDPCommunicationError"), 400, kms.Unavailable, "STS"},
		{"firewall's page", "<html>Forbidden</html>", 403, kms.Unavailable, "STS"},
		{"gateway's JSON", `{"message":"Forbidden"}`, 403, kms.Unavailable, "STS"},
		{"portal", "<html>Welcome</html>", 200, kms.Unavailable, "STS"},
		{"balancer", "", 502, kms.Unavailable, "STS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			}))
			defer sts.Close()
			webIdentity(t, sts.URL)
			key, err := awskms.New(t.Context(), awskms.Config{Key: made.ARN(), Endpoint: s.URL()})
			if err == nil { // to open a key does not take an answer
				defer key.Close()
				_, err = key.Wrap(t.Context(), dataKeys(1), nil)
			}
			wantError(t, err, tc.class, tc.hint)
			wantNo(t, fmt.Sprintf("%v %+v %#v", err, err, err), canary)
		})
	}
	t.Run("file is missing for a moment", func(t *testing.T) {
		sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, assumed()) }))
		defer sts.Close()
		file := webIdentity(t, sts.URL)
		if err := os.Rename(file, file+".new"); err != nil {
			t.Fatal(err)
		}
		key, err := awskms.New(t.Context(), awskms.Config{Key: made.ARN(), Endpoint: s.URL()})
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		_, err = key.Wrap(t.Context(), dataKeys(1), nil)
		wantError(t, err, kms.Unavailable, "AWS_WEB_IDENTITY_TOKEN_FILE")
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		mustWrap(t, key, dataKeys(1), nil)
	})
}

// One request for credentials that gets no answer must not be waited for forever:
// all callers share it.
func TestCredentialsStall(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	var asked atomic.Int64
	end := make(chan struct{})
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 2 {
			select {
			case <-r.Context().Done():
			case <-end:
			}
			return
		}
		fmt.Fprint(w, assumed())
	}))
	defer sts.Close()
	defer close(end)
	webIdentity(t, sts.URL)
	key, err := awskms.New(t.Context(), awskms.Config{Key: made.ARN(), Endpoint: s.URL(), Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	for range 50 {
		if _, err = key.Wrap(t.Context(), dataKeys(1), nil); err == nil {
			return
		}
		wantError(t, err, kms.Unavailable, "")
	}
	t.Errorf("still stuck: %v", err)
}

// The service for credentials of a container.
func TestCredentialsOfAContainer(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	for _, tc := range []struct {
		name, kind, body string
		status           int
		class            kms.Class
	}{
		{"refused", "application/json", `{"code":"AccessDenied","message":"` + canary + `"}`, 403, kms.Denied},
		{"page", "text/html", "<html>Forbidden</html>", 403, kms.Unavailable},
		{"not JSON", "application/json", "<", 400, kms.Unavailable},
		{"nothing", "", "", 404, kms.Unavailable},
		{"portal", "text/html", "<html>Welcome</html>", 200, kms.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tc.kind)
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			}))
			defer agent.Close()
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.URL)
			key, err := awskms.New(t.Context(), awskms.Config{Key: made.ARN(), Endpoint: s.URL()})
			if err == nil {
				defer key.Close()
				_, err = key.Wrap(t.Context(), dataKeys(1), nil)
			}
			wantError(t, err, tc.class, "")
		})
	}
}

// The metadata service of a machine reports that there is no role; while it does not
// answer, that is not known.
func TestCredentialsOfAMachine(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	for _, tc := range []struct {
		name   string
		status int
		class  kms.Class
		hint   string
	}{{"no role", 404, kms.Denied, "AWS_PROFILE"}, {"broken", 500, kms.Unavailable, "AWS_PROFILE"}, {"page", 200, kms.Unavailable, ""}} {
		t.Run(tc.name, func(t *testing.T) {
			imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/latest/api/token" {
					w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
					fmt.Fprint(w, "token")
					return
				}
				w.WriteHeader(tc.status)
				fmt.Fprint(w, "<html>\n")
			}))
			defer imds.Close()
			t.Setenv("AWS_EC2_METADATA_DISABLED", "")
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.URL)
			key, err := awskms.New(t.Context(), awskms.Config{Key: made.ARN(), Endpoint: s.URL()})
			if err == nil {
				defer key.Close()
				_, err = key.Wrap(t.Context(), dataKeys(1), nil)
			}
			wantError(t, err, tc.class, tc.hint)
		})
	}
}

// A clock that jumped, such as after a machine was suspended, has AWS refuse
// signatures, but it is no refusal: the next request is signed by AWS's clock.
func TestClockJumps(t *testing.T) {
	var signed atomic.Value
	const arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for ahead, want := range map[time.Duration]kms.Class{-2 * time.Hour: kms.Unavailable, 2 * time.Hour: kms.Unavailable, time.Minute: kms.Denied} {
		for _, code := range []string{"InvalidSignatureException", "RequestExpired", "SignatureDoesNotMatch"} {
			t.Run(fmt.Sprint(code, " ", ahead), func(t *testing.T) {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					signed.Store(r.Header.Get("X-Amz-Date"))
					w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprintf(w, `{"__type":%q}`, code)
				}))
				defer server.Close()
				key, err := awskms.New(t.Context(), awskms.Config{Key: arn, Endpoint: server.URL, Credentials: root()})
				if err == nil {
					defer key.Close()
					_, err = key.Wrap(t.Context(), dataKeys(1), nil)
					at, parseErr := time.Parse("20060102T150405Z", signed.Load().(string))
					if parseErr != nil || at.Sub(time.Now().Add(ahead)).Abs() > time.Minute {
						t.Errorf("signed for %v, %v", at, parseErr)
					}
				}
				wantError(t, err, want, "clock")
			})
		}
	}
}

// A refusal comes with the status of one.
func TestStrangersRefusal(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	for _, status := range []int{302, 500, 502, 503} {
		s.SetFault(awsserver.AllOperations, awsserver.Fault{Code: "AccessDeniedException", Status: status})
		err := unwrapError(t, key, w)
		if kms.ClassOf(err) != kms.Unavailable {
			t.Errorf("status %d: %v", status, err)
		}
	}
}
