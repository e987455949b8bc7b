package awskms

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

type failingClient struct {
	read []byte
	host string
}

func (c *failingClient) Do(r *http.Request) (*http.Response, error) {
	c.read, _ = io.ReadAll(r.Body)
	c.host = r.URL.Host
	return nil, errors.New("no")
}

// What the SDK serialized is zero when a call is over.
func TestSerializedRequestIsWiped(t *testing.T) {
	var serialized []byte
	sent := new(failingClient)
	api := awskms.New(awskms.Options{
		Region: "eu-west-1", HTTPClient: sent, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIA", "secret-access-key", ""),
		APIOptions: []func(*middleware.Stack) error{wipeSerialized, func(stack *middleware.Stack) error {
			return stack.Build.Add(middleware.BuildMiddlewareFunc("see", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
				serialized = underlying(in.Request.(*smithyhttp.Request).GetStream())
				return next.HandleBuild(ctx, in)
			}), middleware.After)
		}},
	})
	if _, err := api.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String("k"), Plaintext: make([]byte, 32)}); err == nil {
		t.Fatal("no error")
	}
	if !strings.Contains(string(sent.read), `"Plaintext"`) {
		t.Fatalf("the request was %d bytes without a plaintext", len(sent.read))
	}
	if len(serialized) != len(sent.read) || !bytes.Equal(serialized, make([]byte, len(serialized))) {
		t.Errorf("%d serialized bytes are not zero, of %d sent", len(serialized), len(sent.read))
	}
}

// What became of the credentials decides whether trying again makes sense.
func TestCredentialErrors(t *testing.T) {
	of := func(service string, err error) error { return &smithy.OperationError{ServiceID: service, Err: err} }
	for _, tc := range []struct {
		name  string
		cause error
		class kms.Class
		hint  string
	}{
		{"no provider", errNoProvider, kms.Denied, "AWS_ACCESS_KEY_ID"},
		{"a provider of one's own fails", errors.New("none"), kms.Unavailable, "network"},
		{"metadata service is not to be asked", of("ec2imds", errors.New("disabled")), kms.Denied, "AWS_ACCESS_KEY_ID"},
		{"SSO session is not valid", &ssocreds.InvalidTokenError{}, kms.Denied, "aws sso login"},
		{"STS down", of("STS", errors.New("unreachable")), kms.Unavailable, "STS"},
		{"STS throttles", of("STS", &smithy.GenericAPIError{Code: "Throttling"}), kms.Throttled, "at once"},
		{"STS denies", of("STS", &smithy.GenericAPIError{Code: "AccessDenied"}), kms.Denied, "trust policy"},
		{"SSO session ended", of("SSO", &smithy.GenericAPIError{Code: "UnauthorizedException"}), kms.Denied, "aws sso login"},
	} {
		if r := ofCredentials(tc.cause); r.Class != tc.class || !strings.Contains(r.Advice, tc.hint) {
			t.Errorf("%s: %v, %q", tc.name, r.Class, r.Advice)
		}
	}
	if _, err := (namedCredentials{}).Retrieve(t.Context()); err == nil || strings.Contains(err.Error(), "no provider") {
		t.Errorf("without a provider: %v", err)
	}
}

// The endpoints of AWS that the settings of a Config choose.
func TestEndpoints(t *testing.T) {
	for want, cfg := range map[string]Config{
		"kms.eu-west-1.amazonaws.com":      {},
		"kms-fips.eu-west-1.amazonaws.com": {FIPS: true},
		"kms.eu-west-1.api.aws":            {DualStack: true},
		"kms-fips.eu-west-1.api.aws":       {FIPS: true, DualStack: true},
	} {
		cfg.Credentials = credentials.NewStaticCredentialsProvider("AKIA", "secret-access-key", "")
		loaded, err := cfg.load(t.Context(), "eu-west-1")
		if err != nil {
			t.Fatal(err)
		}
		asked := new(failingClient)
		api := awskms.NewFromConfig(loaded, func(o *awskms.Options) { o.HTTPClient = asked })
		if _, err := api.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String("k")}); err == nil || asked.host != want {
			t.Errorf("asked %q, want %q (%v)", asked.host, want, err)
		}
	}
}

func TestUnderlyingOfAString(t *testing.T) {
	if underlying(strings.NewReader("x")) != nil {
		t.Error("a string was given away for wiping")
	}
}

// A request that the SDK should not make is not sent.
func TestTransportRefusesOddBodies(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:1", io.NopCloser(strings.NewReader("x")))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = -1
	answer, err := newTransport(nil, false).Do(r)
	if !errors.Is(err, driver.ErrRequest) {
		t.Errorf("%v", err)
	}
	if answer != nil {
		answer.Body.Close()
	}
}

// A clock is off only where seconds cannot explain the difference.
func TestSkew(t *testing.T) {
	sent := time.Date(2026, 1, 2, 3, 4, 5, 900e6, time.UTC)
	received := sent.Add(200 * time.Millisecond)
	for date, want := range map[string]time.Duration{
		"Fri, 02 Jan 2026 03:04:05 GMT": 0,
		"Fri, 02 Jan 2026 03:04:06 GMT": 0,
		"Fri, 02 Jan 2026 03:04:04 GMT": -900 * time.Millisecond,
		"Fri, 02 Jan 2026 03:05:06 GMT": 59900 * time.Millisecond,
		"Fri, 02 Jan 2026 03:03:04 GMT": -60900 * time.Millisecond,
	} {
		if got, known := skew(http.Header{"Date": {date}}, sent, received); got != want || !known {
			t.Errorf("%s: %v, %v, want %v", date, got, known, want)
		}
	}
	if _, known := skew(http.Header{}, sent, received); known {
		t.Error("a skew without a date")
	}
}

// What others say is shown on terminals.
func TestPlain(t *testing.T) {
	if got := plain("eu-west-1\x1b[2J\n ü"); got != "eu-west-1??2J????" && got != "eu-west-1??2J???" {
		t.Errorf("%q", got)
	}
	if n := len(plain(strings.Repeat("x", 1000))); n != 512 {
		t.Errorf("%d bytes", n)
	}
	for id, want := range map[string]string{"AKIAABCDWXYZ": "access key …WXYZ, from SharedConfigCredentials", "": "access key …, from SharedConfigCredentials"} {
		if got := fallbackIdentity(aws.Credentials{AccessKeyID: id, Source: "SharedConfigCredentials: /home/me/.aws/credentials"}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
