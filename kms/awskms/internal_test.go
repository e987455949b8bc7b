package awskms

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/waxseal/waxseal/kms"
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

func TestWipedBodyEnds(t *testing.T) {
	body := &secretBody{buf: []byte("secret")}
	r := body.reader()
	if got, err := io.ReadAll(r); err != nil || string(got) != "secret" {
		t.Fatalf("%q, %v", got, err)
	}
	buf, unread := body.buf, body.reader()
	body.wipe()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a body that was read to its end gives %v after wiping", err)
	}
	if _, err := unread.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) || !bytes.Equal(buf, make([]byte, 6)) {
		t.Errorf("after wipe: %q, %v", buf, err)
	}
	if underlying(strings.NewReader("x")) != nil {
		t.Error("a string was given away for wiping")
	}
}

func TestBoundedBody(t *testing.T) {
	for n, want := range map[int]error{9: nil, 10: nil, 11: errTooLarge} {
		body := &boundedBody{from: io.NopCloser(strings.NewReader(strings.Repeat("x", n))), left: 10}
		if got, err := io.ReadAll(body); !errors.Is(err, want) || want == nil && len(got) != n {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
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
		{"none", errors.New("none"), kms.Denied, "AWS_ACCESS_KEY_ID"},
		{"no metadata service", of("ec2imds", errors.New("unreachable")), kms.Denied, "AWS_ACCESS_KEY_ID"},
		{"STS down", of("STS", errors.New("unreachable")), kms.Unavailable, "STS"},
		{"STS throttles", of("STS", &smithy.GenericAPIError{Code: "Throttling"}), kms.Throttled, "at once"},
		{"STS denies", of("STS", &smithy.GenericAPIError{Code: "AccessDenied"}), kms.Denied, "trust policy"},
		{"SSO session ended", of("SSO", &smithy.GenericAPIError{Code: "UnauthorizedException"}), kms.Denied, "aws sso login"},
	} {
		if r := ofCredentials(tc.cause); r.class != tc.class || !strings.Contains(r.advice, tc.hint) {
			t.Errorf("%s: %v, %q", tc.name, r.class, r.advice)
		}
	}
	if _, err := (namedCredentials{}).Retrieve(t.Context()); err == nil || strings.Contains(err.Error(), "no provider") {
		t.Errorf("without a provider: %v", err)
	}
}

// The endpoints that AWS has, by what a Config asks for.
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
