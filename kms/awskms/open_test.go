package awskms_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

// setEnvironment makes the default credential chain find the server's own.
func setEnvironment(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", awsserver.DefaultAccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsserver.DefaultSecretAccessKey)
}

// Whatever names a key, its ARN is recorded and used.
func TestURIs(t *testing.T) {
	setEnvironment(t)
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	s.SetAlias("alias/team/payments", made)
	at := "endpoint=" + s.URL()
	for _, tc := range []struct{ name, uri, region string }{
		{"key ARN", "awskms:///" + made.ARN() + "?" + at, ""},
		{"key ARN and its Region", "awskms:///" + made.ARN() + "?region=" + region + "&" + at, ""},
		{"alias", "awskms:///alias/team/payments?region=" + region + "&" + at, ""},
		{"alias and AWS_REGION", "awskms:///alias/team/payments?" + at, region},
		{"alias ARN", "awskms:///arn:aws:kms:" + region + ":" + awsserver.DefaultAccount + ":alias/team/payments?" + at, ""},
		{"key ID", "awskms:///" + made.ID() + "?region=" + region + "&insecure-plain-http=false&" + at, otherRegion},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.region != "" {
				t.Setenv("AWS_REGION", tc.region)
			}
			s.ResetRequests()
			key, err := kms.NewRegistry(awskms.Backend).Open(t.Context(), tc.uri)
			if err != nil {
				t.Fatal(err)
			}
			defer key.(kms.Closer).Close()
			if at, ok := kms.As[kms.Locator](key); !ok || at.Location() != s.URL() {
				t.Error("it does not say where it is")
			}
			if !kms.NewRegistry(awskms.Backend).MayRecord(tc.uri, key.ID()) {
				t.Errorf("it has an ID that it may not have: %s", key.ID())
			}
			if want := "awskms:///" + made.ARN(); key.ID() != want {
				t.Errorf("ID %s, want %s", key.ID(), want)
			}
			plain := dataKeys(1)
			mustUnwrap(t, key, mustWrap(t, key, plain, nil), nil, plain)
			wantRequests(t, s, map[string]int{"DescribeKey": 1, "Encrypt": 1, "Decrypt": 1})
		})
	}
}

func TestEndpointFromEnvironment(t *testing.T) {
	setEnvironment(t)
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	t.Setenv("AWS_ENDPOINT_URL_KMS", s.URL())
	key, err := awskms.New(t.Context(), awskms.Config{Key: made.ARN()})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	mustWrap(t, key, dataKeys(1), nil)

	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://kms.invalid")
	_, err = awskms.New(t.Context(), awskms.Config{Key: made.ARN()})
	wantError(t, err, kms.Invalid, "insecure-plain-http")
}

func TestBadURIs(t *testing.T) {
	const arn = "awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for _, tc := range []struct{ name, uri, detail, hint string }{
		{"host", "awskms://alias/payments?region=eu-west-1", "three slashes", "awskms:///arn:"},
		{"fragment", arn + "#x", "after #", "awskms:///arn:"},
		{"query", arn + "?a=%zz", "cannot be parsed", "awskms:///arn:"},
		{"unknown parameter", arn + "?profile=x", `unknown parameter "profile"`, "awskms:///arn:"},
		{"empty parameter", arn + "?region=", `"region" needs one value`, "awskms:///arn:"},
		{"parameter twice", arn + "?fips=true&fips=false", `"fips" needs one value`, "awskms:///arn:"},
		{"neither true nor false", arn + "?fips=yes", "neither true nor false", "awskms:///arn:"},
		{"no key", "awskms:///", "names no key", "awskms:///arn:"},
		{"ARN of another service", "awskms:///arn:aws:s3:eu-west-1:111122223333:key/x", "names no key", "awskms:///arn:"},
		{"escapes", "awskms:///alias%2Fx?region=eu-west-1", "names no key", "awskms:///arn:"},
		{"ARN without Region", "awskms:///arn:aws:kms::111122223333:key/1234abcd", "names no Region", "awskms:///arn:"},
		{"two Regions", arn + "?region=us-east-1", "another Region", "leave ?region= out"},
		{"Region misspelled", "awskms:///alias/x?region=Ireland", "not one of AWS's", "eu-west-1"},
		{"no Region", "awskms:///alias/x", "no Region", "?region=eu-west-1"},
		{"no Region of a multi-Region key", "awskms:///arn:aws:kms::111122223333:key/mrk-1234abcd", "no Region", "?region=eu-west-1"},
		{"endpoint with a password", arn + "?endpoint=https://u:canary@h", "user name or password", "https://kms.example.com"},
		{"endpoint with a query", arn + "?endpoint=https://h?canary", "query", "https://kms.example.com"},
		{"endpoint that is none", arn + "?endpoint=ftp://h", "does not start", "https://kms.example.com"},
		{"endpoint that is no URL", arn + "?endpoint=%3A", "not a URL", "https://kms.example.com"},
		{"endpoint without host", arn + "?endpoint=http:///x", "no host", "https://kms.example.com"},
		{"endpoint on the network", arn + "?endpoint=http://192.0.2.1", "show every data key", "insecure-plain-http=true"},
		{"endpoint and FIPS", arn + "?fips=true&endpoint=https://h", "no choice of FIPS", "leave fips and dualstack out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := kms.NewRegistry(awskms.Backend).Open(t.Context(), tc.uri)
			wantError(t, err, kms.Invalid, tc.hint)
			if err != nil && (!strings.Contains(err.Error(), tc.detail) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("error %q, want one that says %q", err, tc.detail)
			}
		})
	}
	_, err := awskms.New(t.Context(), awskms.Config{Timeout: -1})
	wantError(t, err, kms.Invalid, "positive one")
	t.Setenv("AWS_PROFILE", "no-such")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = awskms.New(ended, awskms.Config{Key: "alias/x", Region: region})
	wantError(t, err, kms.Canceled, "")
	_, err = awskms.New(t.Context(), awskms.Config{Key: "alias/x", Region: region})
	wantError(t, err, kms.Invalid, "AWS_PROFILE")
}

func TestUnfitKeys(t *testing.T) {
	s := startServer(t)
	for _, tc := range []struct {
		name string
		spec awsserver.KeySpec
		hint string
	}{
		{"RSA", awsserver.KeySpec{Spec: awsserver.SpecRSA2048}, "SYMMETRIC_DEFAULT"},
		{"RSA for signatures", awsserver.KeySpec{Spec: awsserver.SpecRSA2048, Usage: "SIGN_VERIFY"}, "SYMMETRIC_DEFAULT"},
		{"HMAC", awsserver.KeySpec{Spec: awsserver.SpecHMAC256}, "SYMMETRIC_DEFAULT"},
		{"AWS managed", awsserver.KeySpec{AWSManaged: true}, "create-key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			made := createKey(t, s, tc.spec)
			_, err := tryOpen(t, s, awskms.Config{Key: made.ARN()})
			wantError(t, err, kms.Invalid, tc.hint)
		})
	}
	// Without the right to describe the key, it shows in use.
	made := createKey(t, s, awsserver.KeySpec{Spec: awsserver.SpecRSA2048})
	s.Deny("kms:DescribeKey", made)
	_, err := open(t, s, awskms.Config{Key: made.ARN()}).Wrap(t.Context(), dataKeys(1), nil)
	wantError(t, err, kms.Invalid, "SYMMETRIC_DEFAULT")
}

// A key ARN says enough; an alias or an ID does not.
func TestDescribeKeyFails(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	s.SetAlias("alias/a", made)
	for _, tc := range []struct {
		name  string
		fault awsserver.Fault
		byARN bool // opened nevertheless
		class kms.Class
		hint  string
	}{
		{"denied", awsserver.Fault{Code: "AccessDeniedException"}, true, kms.Denied, "kms:DescribeKey"},
		{"outage", awsserver.Outage(), true, kms.Unavailable, ""},
		{"throttled", awsserver.Throttle(), true, kms.Throttled, ""},
		{"reset", awsserver.Fault{Reset: true}, true, kms.Unavailable, ""},
		{"expired credentials", awsserver.Fault{Code: "ExpiredTokenException"}, false, kms.Denied, "aws sso login"},
		{"unknown credentials", awsserver.Fault{Code: "UnrecognizedClientException"}, false, kms.Denied, "get-caller-identity"},
		{"not found", awsserver.Fault{Code: "NotFoundException"}, false, kms.NotFound, "Region"},
		{"no answer of KMS's", awsserver.Fault{Raw: []byte("{}")}, false, kms.Internal, "endpoint"},
		{"another key", awsserver.Fault{Raw: []byte(`{"KeyMetadata":{"Arn":"arn:aws:kms:us-east-1:111122223333:key/x"}}`)}, false, kms.Internal, "endpoint"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.Script("DescribeKey", tc.fault, tc.fault)
			_, err := tryOpen(t, s, awskms.Config{Key: "alias/a", Region: region})
			wantError(t, err, tc.class, tc.hint)
			key, err := tryOpen(t, s, awskms.Config{Key: made.ARN()})
			if !tc.byARN {
				wantError(t, err, tc.class, tc.hint)
			} else if err != nil {
				t.Errorf("New by ARN: %v", err)
			} else {
				mustWrap(t, key, dataKeys(1), nil)
			}
		})
	}
}

// An alias is looked up once. New seals name the key that it points to when the
// key is opened; what an older key sealed opens where that one is configured.
func TestAliasMoves(t *testing.T) {
	s := startServer(t)
	first, second := createKey(t, s, awsserver.KeySpec{}), createKey(t, s, awsserver.KeySpec{})
	cfg := awskms.Config{Key: "alias/payments", Region: region}
	s.SetAlias("alias/payments", first)
	before := open(t, s, cfg)
	s.SetAlias("alias/payments", second)

	plain := dataKeys(1)
	wrapped := mustWrap(t, before, plain, nil)
	after := open(t, s, cfg)
	if want := "awskms:///" + second.ARN(); after.ID() != want || before.ID() == want {
		t.Errorf("IDs %s and %s, want the second to be %s", before.ID(), after.ID(), want)
	}
	wantError(t, unwrapError(t, after, wrapped[0]), kms.Corrupt, "the key")
	mustUnwrap(t, before, wrapped, nil, plain)
	mustUnwrap(t, open(t, s, awskms.Config{Key: first.ARN()}), wrapped, nil, plain)
}

// All replicas of a multi-Region key have one ID, and open each other's.
func TestMultiRegion(t *testing.T) {
	s := startServer(t)
	primary := createKey(t, s, awsserver.KeySpec{MultiRegion: true})
	replica, err := s.Replicate(primary, otherRegion)
	if err != nil {
		t.Fatal(err)
	}
	s.SetAlias("alias/mrk", replica)
	here := open(t, s, awskms.Config{Key: primary.ARN()})
	want := "awskms:///arn:aws:kms::" + awsserver.DefaultAccount + ":key/" + primary.ID()
	plain := dataKeys(2)
	wrapped := mustWrap(t, here, plain, kms.Context{"namespace": "n"})
	for _, cfg := range []awskms.Config{
		{Key: replica.ARN()},
		{Key: "alias/mrk", Region: otherRegion},
		{Key: replica.ID(), Region: otherRegion},
		{Key: strings.TrimPrefix(here.ID(), "awskms:///"), Region: otherRegion}, // as recorded
	} {
		there := open(t, s, cfg)
		if here.ID() != want || there.ID() != want || there.ARN() != replica.ARN() {
			t.Errorf("%v: IDs %s and %s, want %s", cfg.Key, here.ID(), there.ID(), want)
		}
		mustUnwrap(t, there, wrapped, kms.Context{"namespace": "n"}, plain)
		mustUnwrap(t, here, mustWrap(t, there, plain, nil), nil, plain)
	}
	primary.Rotate()
	mustUnwrap(t, open(t, s, awskms.Config{Key: replica.ARN()}), mustWrap(t, here, plain, nil), nil, plain)
}

func TestCredentials(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	if err := s.SetIdentity(awsserver.Identity{AccessKeyID: "AKIAOLD", SecretAccessKey: "secret-access-key", SessionToken: "s", Expired: true}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, id, secret, session, hint string
	}{
		{"expired", "AKIAOLD", "secret-access-key", "s", "aws sso login"},
		{"without its session token", "AKIAOLD", "secret-access-key", "", "AWS_SESSION_TOKEN"},
		{"unknown", "AKIANONE", "secret-access-key", "", "get-caller-identity"},
		{"wrong secret", awsserver.DefaultAccessKeyID, "canary-secret-key", "", "AWS_SECRET_ACCESS_KEY"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tryOpen(t, s, awskms.Config{Key: made.ARN(), Credentials: credentials.NewStaticCredentialsProvider(tc.id, tc.secret, tc.session)})
			wantError(t, err, kms.Denied, tc.hint)
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		_, err := awskms.New(t.Context(), awskms.Config{Key: made.ARN(), Endpoint: s.URL()})
		wantError(t, err, kms.Denied, "AWS_PROFILE")
	})
	t.Run("signed for a Region that is not there", func(t *testing.T) {
		_, err := tryOpen(t, s, awskms.Config{Key: made.ID(), Region: "ap-south-1"})
		wantError(t, err, kms.Denied, "Region")
	})
}

// What people get wrong, each with an error that names the key and the remedy.
func TestBadInput(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	s.SetAlias("alias/payments", made)
	abroad := createKey(t, s, awsserver.KeySpec{Account: "444455556666"})
	deleted := createKey(t, s, awsserver.KeySpec{})
	deleted.Delete()
	disabled, pending := createKey(t, s, awsserver.KeySpec{}), createKey(t, s, awsserver.KeySpec{})
	disabled.SetState(awsserver.Disabled)
	pending.SetState(awsserver.PendingDeletion)
	elsewhere := strings.Replace(made.ARN(), region, otherRegion, 1)
	for _, tc := range []struct {
		name  string
		cfg   awskms.Config
		opens bool // and fails in use
		class kms.Class
		hint  string
	}{
		{"alias misspelled", awskms.Config{Key: "alias/paiments", Region: region}, false, kms.NotFound, "aws kms list-aliases"},
		{"alias without alias/", awskms.Config{Key: "payments", Region: region}, false, kms.NotFound, "an alias begins with alias/"},
		{"alias of another Region", awskms.Config{Key: "alias/payments", Region: otherRegion}, false, kms.NotFound, "check account, Region"},
		{"key of another Region", awskms.Config{Key: elsewhere}, false, kms.NotFound, "check account, Region"},
		{"key ID of another Region", awskms.Config{Key: made.ID(), Region: otherRegion}, false, kms.NotFound, "check account, Region"},
		{"key of another account, not shared", awskms.Config{Key: abroad.ARN()}, true, kms.Denied, "a key of another account must permit it in its own policy"},
		{"key of another account by its ID", awskms.Config{Key: abroad.ID(), Region: region}, false, kms.NotFound, "for a key in another account name its ARN"},
		{"deleted", awskms.Config{Key: deleted.ARN()}, false, kms.NotFound, "deleted is gone for good"},
		{"disabled", awskms.Config{Key: disabled.ARN()}, true, kms.Disabled, "aws kms enable-key --key-id " + disabled.ARN()},
		{"pending deletion", awskms.Config{Key: pending.ARN()}, true, kms.Disabled, "cancel-key-deletion"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key, err := tryOpen(t, s, tc.cfg)
			if tc.opens {
				if err != nil {
					t.Fatal(err)
				}
				_, err = key.Wrap(t.Context(), dataKeys(1), nil)
			}
			wantError(t, err, tc.class, tc.hint)
			if err == nil || !strings.Contains(err.Error(), "awskms:///"+tc.cfg.Key) {
				t.Errorf("the error does not name the key: %v", err)
			}
			if tc.class == kms.NotFound && err != nil && !strings.Contains(err.Error(), " in ") {
				t.Errorf("the error does not name the Region: %v", err)
			}
		})
	}
	// A key that is deleted while it is in use.
	key, gone := newKey(t, s)
	w := mustWrap(t, key, dataKeys(1), nil)[0]
	gone.Delete()
	wantError(t, unwrapError(t, key, w), kms.NotFound, "deleted is gone for good")
}
