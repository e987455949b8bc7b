package awskms_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// canary is in everything that AWS says in these tests, and in no error's text.
const canary = "canary-3f1c"

// Every error code has one class and an advice.
func TestErrorCodes(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	for _, tc := range []struct {
		code   string
		status int
		class  kms.Class
		hint   string
	}{
		{"ThrottlingException", 0, kms.Throttled, "maxPayloads"},
		{"LimitExceededException", 0, kms.Throttled, "maxPayloads"},
		{"UnsupportedOperationException", 0, kms.Invalid, "describe-key"},
		{"NotFoundException", 404, kms.Unavailable, "proxy"}, // a stranger's: AWS KMS says 400
		{"DisabledException", 403, kms.Unavailable, "proxy"},
		{"InvalidCiphertextException", 410, kms.Unavailable, "proxy"},
		{"SomethingNew", 429, kms.Throttled, "maxPayloads"},
		{"KMSInternalException", 0, kms.Unavailable, "Health Dashboard"},
		{"DependencyTimeoutException", 0, kms.Unavailable, "Health Dashboard"},
		{"InternalFailure", 500, kms.Unavailable, "Health Dashboard"},
		{"SomethingNew", 503, kms.Unavailable, "Health Dashboard"},
		{"KeyUnavailableException", 0, kms.Unavailable, "try again"},
		{"CustomKeyStoreInvalidStateException", 0, kms.Unavailable, "connect-custom-key-store"},
		{"AccessDeniedException", 0, kms.Denied, "grant kms:"},
		{"ExpiredTokenException", 403, kms.Denied, "aws sso login"},
		{"UnrecognizedClientException", 0, kms.Denied, "AWS_SESSION_TOKEN"},
		{"InvalidSignatureException", 0, kms.Denied, "clock"},
		{"NotFoundException", 0, kms.NotFound, "Region"},
		{"DisabledException", 0, kms.Disabled, "enable-key --key-id arn:"},
		{"KMSInvalidStateException", 0, kms.Disabled, "cancel-key-deletion"},
		{"InvalidCiphertextException", 0, kms.Corrupt, "only a copy helps"},
		{"IncorrectKeyException", 0, kms.Corrupt, "the key"},
		{"InvalidKeyUsageException", 0, kms.Invalid, "SYMMETRIC_DEFAULT"},
		{"InvalidArnException", 0, kms.Invalid, "awskms:///"},
		{"ValidationException", 0, kms.Internal, "CloudTrail"},
		{"com.amazonaws.kms#DisabledException", 0, kms.Disabled, "enable-key"},
	} {
		t.Run(fmt.Sprint(tc.code, tc.status), func(t *testing.T) {
			s.SetFault(awsserver.AllOperations, awsserver.Fault{Code: tc.code, Status: tc.status, Message: canary})
			defer s.SetFault(awsserver.AllOperations, awsserver.Fault{})
			_, err := key.Wrap(t.Context(), dataKeys(1), nil)
			for _, err := range []error{err, unwrapError(t, key, w)} {
				wantError(t, err, tc.class, tc.hint)
				wantNo(t, fmt.Sprintf("%v %+v %#v %q", err, err, err, err), canary)
				if _, ok := errors.AsType[*awshttp.ResponseError](err); !ok {
					t.Error("the SDK's error is not in the chain")
				}
			}
		})
	}
}

func wantNo(t testing.TB, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in %s", secret, text)
		}
	}
}

// The decorator that retries gets the pause that AWS demanded.
func TestRetryAfter(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	s.ResetRequests()
	denied := awsserver.Fault{Code: "AccessDeniedException", RetryAfter: 7 * time.Second}
	for _, tc := range []struct {
		fault awsserver.Fault
		want  time.Duration
	}{
		{awsserver.Throttle(), 0},
		{awsserver.Fault{Code: "ThrottlingException", RetryAfter: 7 * time.Second}, 7 * time.Second},
		{awsserver.Fault{Code: "SomethingOfAProxy", Status: 503, RetryAfter: 7 * time.Second}, 7 * time.Second},
		{denied, 0}, // to wait changes nothing
	} {
		s.Script(awsserver.AllOperations, tc.fault, tc.fault)
		_, err := key.Wrap(t.Context(), dataKeys(1), nil)
		for _, err := range []error{err, unwrapError(t, key, w)} {
			var e *kms.Error
			if !errors.As(err, &e) || e.RetryAfter != tc.want {
				t.Errorf("%s: RetryAfter is not %v in %#v", tc.fault.Code, tc.want, err)
			}
		}
	}
	wantRequests(t, s, map[string]int{"Encrypt": 4, "Decrypt": 4}) // nothing was tried again
}

// States as the server enforces them, not as scripted.
func TestStates(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	plain := dataKeys(1)
	wrapped := mustWrap(t, key, plain, nil)
	for _, state := range []string{awsserver.Disabled, awsserver.PendingDeletion, awsserver.PendingImport, awsserver.Unavailable} {
		made.SetState(state)
		_, err := open(t, s, awskms.Config{Key: made.ARN()}).Wrap(t.Context(), plain, nil)
		wantError(t, err, kms.Disabled, "aws kms")
		wantError(t, unwrapError(t, key, wrapped[0]), kms.Disabled, "aws kms")
	}
	made.SetState(awsserver.Enabled)
	mustUnwrap(t, key, wrapped, nil, plain)

	s.Deny("kms:Decrypt", made)
	wantError(t, unwrapError(t, key, wrapped[0]), kms.Denied, "grant kms:Decrypt")
	mustWrap(t, key, plain, nil)
	s.Deny("kms:Encrypt", nil)
	_, err := key.Wrap(t.Context(), plain, nil)
	wantError(t, err, kms.Denied, "grant kms:Encrypt")
}

// Answers that must not be believed.
func TestAnswersThatLie(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	large := []byte(`{"KeyId":"` + strings.Repeat("x", 1<<20) + `"}`)
	for _, tc := range []struct {
		name  string
		fault awsserver.Fault
		class kms.Class
		wrap  bool // whether Wrap detects it
		open  bool // whether Unwrap detects it
	}{
		{"another key", awsserver.Fault{WrongKeyID: true}, kms.Internal, true, true},
		{"truncated plaintext", awsserver.Fault{TruncatePlaintext: true}, kms.Corrupt, false, true},
		{"no ciphertext", awsserver.Fault{EmptyCiphertext: true}, kms.Internal, true, false},
		{"not JSON", awsserver.Fault{Raw: []byte("<html>" + canary)}, kms.Unavailable, true, true},
		{"a proxy's 403", awsserver.Fault{Raw: []byte("<html>" + canary), Status: 403}, kms.Unavailable, true, true},
		{"a proxy's 404", awsserver.Fault{Raw: []byte("not found"), Status: 404}, kms.Unavailable, true, true},
		{"a proxy's 502", awsserver.Fault{Raw: []byte("bad gateway"), Status: 502}, kms.Unavailable, true, true},
		{"redirect", awsserver.Fault{Raw: []byte("elsewhere"), Status: 307}, kms.Unavailable, true, true},
		{"empty", awsserver.Fault{Raw: []byte{}}, kms.Internal, true, true},
		{"another engine's JSON", awsserver.Fault{Raw: []byte(`{"data":"` + canary + `"}`)}, kms.Internal, true, true},
		{"far too large", awsserver.Fault{Raw: large}, kms.Unavailable, true, true},
		{"reset", awsserver.Fault{Reset: true}, kms.Unavailable, true, true},
		{"reset in the middle", awsserver.Fault{ResetInBody: true}, kms.Unavailable, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.SetFault(awsserver.AllOperations, tc.fault)
			defer s.SetFault(awsserver.AllOperations, awsserver.Fault{})
			if tc.wrap {
				_, err := key.Wrap(t.Context(), dataKeys(1), nil)
				wantError(t, err, tc.class, "")
				wantNo(t, fmt.Sprint(err), canary)
			}
			if tc.open {
				err := unwrapError(t, key, w)
				wantError(t, err, tc.class, "")
				wantNo(t, fmt.Sprint(err), canary)
			}
		})
	}
	// 32 other bytes look like a data key: the envelope's commitment finds them.
	s.Script("Decrypt", awsserver.Fault{WrongPlaintext: true})
	if err := unwrapError(t, key, w); err != nil {
		t.Error(err)
	}
	// A ciphertext that was damaged before it came here does not open.
	s.Script("Encrypt", awsserver.Fault{FlipCiphertext: true})
	wantError(t, unwrapError(t, key, mustWrap(t, key, dataKeys(1), nil)[0]), kms.Corrupt, "")
}

// A stalled KMS delays no call beyond its context, or our own timeout.
func TestStalls(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	patient := open(t, s, awskms.Config{Key: made.ARN()})
	hasty := open(t, s, awskms.Config{Key: made.ARN(), Timeout: 100 * time.Millisecond})
	w := mustWrap(t, patient, dataKeys(1), nil)[0]
	for name, fault := range map[string]awsserver.Fault{
		"before the answer": {Stall: true}, "in the answer": {StallInBody: true}, "slow": {Latency: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s.SetFault(awsserver.AllOperations, fault)
			defer s.SetFault(awsserver.AllOperations, awsserver.Fault{})
			for _, call := range []func(context.Context, *awskms.Key) error{
				func(ctx context.Context, key *awskms.Key) error {
					_, err := key.Wrap(ctx, dataKeys(2), nil)
					return err
				},
				func(ctx context.Context, key *awskms.Key) error {
					_, err := key.Unwrap(ctx, []kms.Wrapped{w, w}, nil)
					return err
				},
				func(ctx context.Context, _ *awskms.Key) error {
					_, err := awskms.New(ctx, awskms.Config{Key: made.ID(), Region: region, Endpoint: s.URL(), Credentials: root()})
					return err
				},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				err := call(ctx, patient)
				cancel()
				wantError(t, err, kms.Canceled, "")
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the context's error is not in the chain of %v", err)
				}
			}
			_, err := hasty.Wrap(t.Context(), dataKeys(1), nil)
			wantError(t, err, kms.Unavailable, "network")
			wantError(t, unwrapError(t, hasty, w), kms.Unavailable, "network")
		})
	}
}

func TestNobodyListens(t *testing.T) {
	s := startServer(t)
	gone := httptest.NewServer(s)
	gone.Close()
	made := createKey(t, s, awsserver.KeySpec{})
	_, err := open(t, s, awskms.Config{Key: made.ARN(), Endpoint: gone.URL}).Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Unavailable, "Region is spelled right")
}

func TestTLS(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	over := httptest.NewUnstartedServer(s)
	over.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // a client that does not trust us is part of the test
	over.StartTLS()
	defer over.Close()
	_, err := open(t, s, awskms.Config{Key: made.ARN(), Endpoint: over.URL}).Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Unavailable, "AWS_CA_BUNDLE")
	_, err = open(t, s, awskms.Config{Key: made.ARN(), Endpoint: strings.Replace(s.URL(), "http:", "https:", 1)}).Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Unavailable, "http://")
}

// A connection that was closed while it was idle is no outage.
func TestIdleConnectionClosed(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	front := httptest.NewServer(s)
	defer front.Close()
	key := open(t, s, awskms.Config{Key: made.ARN(), Endpoint: front.URL})
	for range 20 {
		plain := dataKeys(1)
		wrapped := mustWrap(t, key, plain, nil)
		front.CloseClientConnections()
		mustUnwrap(t, key, wrapped, nil, plain)
		front.CloseClientConnections()
	}
}

// Of an outage in the middle of a batch, the items that made it count.
func TestSomeRequestsFail(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	plain := dataKeys(40)
	wrapped := mustWrap(t, key, plain, nil)
	wantRequests(t, s, map[string]int{"Encrypt": 40})

	s.Script("Decrypt", awsserver.Outage(), awsserver.Outage(), awsserver.Outage())
	got, err := key.Unwrap(t.Context(), wrapped, nil)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, u := range got {
		if u.Err != nil {
			failed++
			wantError(t, u.Err, kms.Unavailable, "")
		} else if !bytes.Equal(u.DataKey, plain[i]) {
			t.Errorf("item %d is not the data key that was wrapped", i)
		}
	}
	if failed != 3 {
		t.Errorf("%d items failed, want 3", failed)
	}
	wantRequests(t, s, map[string]int{"Decrypt": 40})

	s.Script("Encrypt", awsserver.Outage())
	if got, err := key.Wrap(t.Context(), plain, nil); got != nil || kms.ClassOf(err) != kms.Unavailable {
		t.Errorf("Wrap: %d answers, %v", len(got), err)
	}
}

// A refusal that is about the key is not repeated 250 times.
func TestRefusalEndsBatch(t *testing.T) {
	s := startServer(t)
	key, _ := newKey(t, s)
	one := mustWrap(t, key, dataKeys(1), nil)[0]
	wrapped := make([]kms.Wrapped, 250)
	for i := range wrapped {
		wrapped[i] = one
	}
	for _, fault := range []awsserver.Fault{awsserver.Throttle(), awsserver.Outage(), {Code: "AccessDeniedException"}, {Code: "DisabledException"}} {
		s.ResetRequests()
		s.SetFault("Decrypt", fault)
		if got, err := key.Unwrap(t.Context(), wrapped, nil); err == nil {
			t.Errorf("%s: %d answers and no error", fault.Code, len(got))
		}
		if n := s.Requests()["Decrypt"]; n > 2*parallel {
			t.Errorf("%s: %d requests for 250 items", fault.Code, n)
		}
	}
}

// markedDataKey is a data key that is recognized wherever it turns up.
func markedDataKey() []byte { return bytes.Repeat([]byte("mark"), kms.DataKeySize/4) }

// A server that repeats all it was sent finds none of it in the text of an error.
func TestNothingSecretInErrors(t *testing.T) {
	const secret = "canary-secret-access-key"
	for _, status := range []int{200, 204, 301, 307, 400, 401, 403, 404, 413, 418, 429, 500, 502, 503} {
		for _, form := range []string{"plain", "code", "message"} {
			t.Run(fmt.Sprint(status, " ", form), func(t *testing.T) {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var body bytes.Buffer
					_, _ = body.ReadFrom(r.Body)
					said := r.Header.Get("Authorization") + r.Header.Get("X-Amz-Security-Token") + body.String()
					w.Header().Set("Location", "/elsewhere")
					if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "DescribeKey") {
						status := 400 // a key that cannot be described
						w.WriteHeader(status)
						fmt.Fprint(w, `{"__type":"AccessDeniedException"}`)
						return
					}
					w.WriteHeader(status)
					switch form {
					case "plain":
						_, _ = strings.NewReader(said).WriteTo(w)
					case "code":
						_ = json.NewEncoder(w).Encode(map[string]string{"__type": said, "KeyId": said})
					case "message":
						_ = json.NewEncoder(w).Encode(map[string]any{"__type": "ValidationException", "message": said, "Plaintext": markedDataKey()})
					}
				}))
				defer server.Close()
				key, err := awskms.New(t.Context(), awskms.Config{
					Key:      "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
					Endpoint: server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIACANARY", secret, canary),
				})
				if err != nil {
					t.Fatal(err)
				}
				defer key.Close()
				blob := bytes.Repeat([]byte("blob"), 40)
				_, err = key.Wrap(t.Context(), [][]byte{markedDataKey()}, nil)
				for _, err := range []error{err, unwrapError(t, key, kms.Wrapped{Blob: blob})} {
					var e *kms.Error
					if !errors.As(err, &e) {
						t.Fatalf("%v is not a *kms.Error", err)
					}
					text := fmt.Sprintf("%v %+v %#v %q", err, err, err, err) + e.Hint()
					for _, b := range [][]byte{markedDataKey(), blob} {
						wantNo(t, text, string(b[:12]), base64.StdEncoding.EncodeToString(b)[:16], hex.EncodeToString(b)[:16])
					}
					wantNo(t, text, secret, canary, "AKIACANARY")
				}
			})
		}
	}
}

func TestKeyPrintsAsID(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	want := "awskms:///" + made.ARN()
	if got := fmt.Sprintf("%v %s %#v", key, key, key); got != want+" "+want+" "+want {
		t.Errorf("a key prints as %s", got)
	}
}
