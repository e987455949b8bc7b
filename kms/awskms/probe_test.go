package awskms_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	awsapi "github.com/aws/aws-sdk-go-v2/service/kms"

	awsserver "github.com/waxseal/waxseal/internal/emulator/awskms"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/awskms"
)

func wantWarning(t testing.TB, r kms.Report, want string, there bool) {
	t.Helper()
	if got := strings.Contains(strings.Join(r.Warnings, "\n"), want); got != there {
		t.Errorf("warning %q: %v, want %v: %q", want, got, there, r.Warnings)
	}
}

func mustProbe(t testing.TB, key *awskms.Key) kms.Report {
	t.Helper()
	r, err := key.Probe(t.Context())
	if err != nil {
		t.Fatalf("Probe: %v", err)
	}
	return r
}

// client is Amazon's own, for what awskms does not do.
func client(s *awsserver.Server) *awsapi.Client {
	return awsapi.New(awsapi.Options{BaseEndpoint: aws.String(s.URL()), Region: region, Credentials: root(), Retryer: aws.NopRetryer{}, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
}

func TestProbe(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	r := mustProbe(t, key)
	wantRequests(t, s, map[string]int{"DescribeKey": 1, "GetKeyRotationStatus": 1, "ListKeyRotations": 1, "GetCallerIdentity": 1})
	if r.Identity != "arn:aws:iam::111122223333:user/tester" || !r.Expires.IsZero() || !r.SkewKnown || r.Skew != 0 {
		t.Errorf("%+v", r)
	}
	version := mustVersions(t, key)[0]
	if want := "symmetric key, state Enabled, origin AWS_KMS, current key material " + version.ID; r.Key != want {
		t.Errorf("key %q, want %q", r.Key, want)
	}
	wantWarning(t, r, "Automatic rotation of the key material is off", true)
	if len(r.Warnings) != 1 {
		t.Errorf("%q", r.Warnings)
	}
	if _, err := client(s).EnableKeyRotation(t.Context(), &awsapi.EnableKeyRotationInput{KeyId: aws.String(made.ARN())}); err != nil {
		t.Fatal(err)
	}
	s.ResetRequests()
	if r := mustProbe(t, key); len(r.Warnings) != 0 {
		t.Errorf("%q", r.Warnings)
	}

	s.SetRotationTime(time.Hour)
	if _, err := client(s).RotateKeyOnDemand(t.Context(), &awsapi.RotateKeyOnDemandInput{KeyId: aws.String(made.ARN())}); err != nil {
		t.Fatal(err)
	}
	wantWarning(t, mustProbe(t, key), "under way since 20", true)
	s.SetRotationTime(0)
	impatient(key)
	for range 18 {
		if _, err := key.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantWarning(t, mustProbe(t, key), "on demand", false)
	if _, err := key.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = mustProbe(t, key)
	wantWarning(t, r, "20 times, and AWS KMS permits 25", true)
	wantWarning(t, r, "under way", false)
}

func TestProbeKinds(t *testing.T) {
	s := startServer(t)
	primary := createKey(t, s, awsserver.KeySpec{MultiRegion: true})
	replica, err := s.Replicate(primary, otherRegion)
	if err != nil {
		t.Fatal(err)
	}
	soon := time.Now().Add(48 * time.Hour)
	for _, tc := range []struct {
		made          *awsserver.Key
		text, warning string
	}{
		{primary, "multi-Region primary, replicas in us-east-1", "rotation of the key material is off"},
		{replica, "multi-Region replica of eu-west-1, replicas in us-east-1", "rotation of the key material is off"},
		{createKey(t, s, awsserver.KeySpec{CustomKeyStore: true}), "origin AWS_CLOUDHSM", ""},
		{createKey(t, s, awsserver.KeySpec{ImportedUntil: soon}), "origin EXTERNAL", "expires at " + soon.UTC().Format(time.RFC3339)},
		{createKey(t, s, awsserver.KeySpec{Account: "444455556666", Shared: true}), "origin AWS_KMS", "belongs to account 444455556666, and we are of 111122223333"},
	} {
		r := mustProbe(t, open(t, s, awskms.Config{Key: tc.made.ARN()}))
		if !strings.Contains(r.Key, tc.text) {
			t.Errorf("key %q does not say %q", r.Key, tc.text)
		}
		if tc.warning != "" {
			wantWarning(t, r, tc.warning, true)
		} else if len(r.Warnings) > 0 {
			t.Errorf("%s: %q", r.Key, r.Warnings)
		}
	}
}

// A key that cannot be used gives an error beside the report.
func TestProbeUnusable(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	for state, want := range map[string]struct {
		class kms.Class
		hint  string
	}{
		awsserver.Disabled:      {kms.Disabled, "enable-key"},
		awsserver.PendingImport: {kms.Disabled, "describe-key"},
		awsserver.Unavailable:   {kms.Unavailable, "connect-custom-key-store"},
	} {
		made.SetState(state)
		r, err := key.Probe(t.Context())
		wantError(t, err, want.class, want.hint)
		if !strings.Contains(r.Key, "state "+state) || r.Identity == "" || !r.SkewKnown {
			t.Errorf("%s: report %+v", state, r)
		}
	}
	made.SetState(awsserver.Enabled)
	at, err := key.Destroy(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.Disabled, "cancel-key-deletion")
	if err == nil || !strings.Contains(err.Error(), at.Format(time.RFC3339)) {
		t.Errorf("%v does not say when", err)
	}
	made.Delete()
	r, err := key.Probe(t.Context())
	wantError(t, err, kms.NotFound, "deleted")
	if !r.SkewKnown {
		t.Error("an error has a date as well")
	}

	// It was opened unseen.
	rsa := createKey(t, s, awsserver.KeySpec{Spec: awsserver.SpecRSA2048})
	s.Deny("kms:DescribeKey", rsa)
	unseen := open(t, s, awskms.Config{Key: rsa.ARN()})
	s.Undeny("kms:DescribeKey", rsa)
	r, err = unseen.Probe(t.Context())
	wantError(t, err, kms.Invalid, "SYMMETRIC_DEFAULT")
	if !strings.Contains(r.Key, "RSA_2048 key") {
		t.Errorf("%+v", r)
	}
	s.Script("DescribeKey", awsserver.Fault{Raw: []byte("{}")})
	_, err = unseen.Probe(t.Context())
	wantError(t, err, kms.Internal, "endpoint")
}

// What needs a missing right is left out; what cannot be reached is an error.
func TestProbeDenied(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	for _, action := range []string{"kms:GetKeyRotationStatus", "kms:ListKeyRotations"} {
		s.Deny(action, nil)
	}
	if r := mustProbe(t, key); r.Key == "" || len(r.Warnings) != 0 {
		t.Errorf("%+v", r)
	}
	s.Deny("kms:DescribeKey", made)
	r := mustProbe(t, key)
	if r.Key != "key of account 111122223333 in eu-west-1" || r.Identity == "" || !r.SkewKnown {
		t.Errorf("%+v", r)
	}
	wantWarning(t, r, "grant kms:DescribeKey", true)
	s.Deny("kms:Encrypt", made) // an identity that only opens may be healthy as well
	mustProbe(t, key)
	made.SetState(awsserver.Disabled)
	_, err := key.Probe(t.Context())
	wantError(t, err, kms.Disabled, "enable-key")
	made.SetState(awsserver.Enabled)
	s.Deny("kms:Decrypt", made)
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.Denied, "grant kms:DescribeKey")
	s.Script("Encrypt", awsserver.Fault{Code: "ValidationException"}) // of an emulator
	mustProbe(t, key)
	rsa := createKey(t, s, awsserver.KeySpec{Spec: awsserver.SpecRSA2048})
	s.Deny("kms:DescribeKey", rsa)
	_, err = open(t, s, awskms.Config{Key: rsa.ARN()}).Probe(t.Context())
	wantError(t, err, kms.Invalid, "SYMMETRIC_DEFAULT")

	for name, tc := range map[string]struct {
		fault awsserver.Fault
		class kms.Class
	}{
		"reset": {awsserver.Fault{Reset: true}, kms.Unavailable}, "a login page": {awsserver.Fault{Raw: []byte("<html>")}, kms.Unavailable},
		"throttled": {awsserver.Throttle(), kms.Throttled}, "expired": {awsserver.Fault{Code: "ExpiredTokenException"}, kms.Denied},
		"outage": {awsserver.Outage(), kms.Unavailable},
	} {
		s.SetFault(awsserver.AllOperations, tc.fault)
		r, err := key.Probe(t.Context())
		wantError(t, err, tc.class, "")
		if r.Identity != "access key …ESTS, from StaticCredentials" {
			t.Errorf("%s: identity %q", name, r.Identity)
		}
	}
	s.SetFault(awsserver.AllOperations, awsserver.Fault{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = key.Probe(ctx)
	wantError(t, err, kms.Canceled, "")
}

// STS may be out of reach, deny, or be another server.
func TestProbeWithoutSTS(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	key := open(t, s, awskms.Config{Key: made.ARN(), Timeout: 2 * time.Second})
	for name, fault := range map[string]awsserver.Fault{
		"denied": {Code: "AccessDeniedException"}, "stalled": {Stall: true}, "reset": {Reset: true}, "throttled": awsserver.Throttle(),
		"a page": {Raw: []byte("<html>hello</html>")}, "no ARN": {Raw: []byte("<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>\x1b[2J</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>")},
		"nothing": {Raw: []byte("<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>")},
	} {
		s.SetFault("GetCallerIdentity", fault)
		if r := mustProbe(t, key); r.Identity != "access key …ESTS, from StaticCredentials" || r.Key == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// credentialsUntil end at a time.
type credentialsUntil struct{ at time.Time }

func (c credentialsUntil) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIAROLE", SecretAccessKey: "secret-access-key", SessionToken: "session-token", Source: "AssumeRoleProvider", CanExpire: true, Expires: c.at}, nil
}

type noCredentials struct{}

func (noCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, fmt.Errorf("%s", canary)
}

func TestProbeCredentials(t *testing.T) {
	s := startServer(t)
	made := createKey(t, s, awsserver.KeySpec{})
	role := "arn:aws:sts::111122223333:assumed-role/worker/i-0123"
	if err := s.SetIdentity(awsserver.Identity{AccessKeyID: "AKIAROLE", SecretAccessKey: "secret-access-key", SessionToken: "session-token", ARN: role}); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	r := mustProbe(t, open(t, s, awskms.Config{Key: made.ARN(), Credentials: credentialsUntil{until}}))
	if r.Identity != role || !r.Expires.Equal(until) {
		t.Errorf("%+v", r)
	}
	wantNo(t, fmt.Sprintf("%+v", r), "secret-access-key", "session-token")
	wantWarning(t, r, "expired", false)
	r = mustProbe(t, open(t, s, awskms.Config{Key: made.ARN(), Credentials: credentialsUntil{time.Now().Add(-time.Minute)}}))
	wantWarning(t, r, "Our credentials have expired.", true)

	if err := s.SetIdentity(awsserver.Identity{AccessKeyID: "AKIAROLE", SecretAccessKey: "secret-access-key", SessionToken: "session-token", ARN: role, Expired: true}); err != nil {
		t.Fatal(err)
	}
	_, err := tryOpen(t, s, awskms.Config{Key: made.ARN(), Credentials: credentialsUntil{until}})
	wantError(t, err, kms.Denied, "aws sso login")

	flaky := &switched{on: root()}
	key := open(t, s, awskms.Config{Key: made.ARN(), Credentials: flaky})
	flaky.on = noCredentials{}
	r, err = key.Probe(t.Context())
	wantError(t, err, kms.Unavailable, "STS")
	if r.Identity != "" {
		t.Errorf("%+v", r)
	}
	wantNo(t, fmt.Sprintf("%v %+v", err, r), canary)
}

// switched gives credentials that end at once, so that the next request needs new ones.
type switched struct{ on aws.CredentialsProvider }

func (c *switched) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := c.on.Retrieve(ctx)
	got.CanExpire, got.Expires = true, time.Now().Add(-time.Hour)
	return got, err
}

// A clock that is off shows, also where AWS refuses because of it.
func TestProbeSkew(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	for _, skew := range []time.Duration{2 * time.Minute, -2 * time.Minute, time.Hour} {
		s.SetClock(skew)
		r, err := key.Probe(t.Context())
		if skew < signatureTolerance && err != nil {
			t.Errorf("%v: %v", skew, err)
		} else if skew > signatureTolerance {
			wantError(t, err, kms.Unavailable, "clock")
		}
		if !r.SkewKnown || (r.Skew-skew).Abs() > 5*time.Second {
			t.Errorf("skew %v, want %v", r.Skew, skew)
		}
	}
	mustWrap(t, open(t, s, awskms.Config{Key: made.ARN()}), dataKeys(1), nil) // by AWS's clock, which the first answer showed
}

// signatureTolerance is how far AWS lets a clock be off.
const signatureTolerance = 5 * time.Minute

// Answers of other emulators are not trusted on a terminal.
func TestProbeShowsNoControlCharacters(t *testing.T) {
	s := startServer(t)
	key, made := newKey(t, s)
	s.SetFault("DescribeKey", awsserver.Fault{Raw: []byte(`{"KeyMetadata":{"Arn":"` + made.ARN() + `","KeyId":"x","KeyState":"Enabled","KeyUsage":"` +
		string(types.KeyUsageTypeEncryptDecrypt) + `","KeySpec":"SYMMETRIC_DEFAULT","Origin":"\u001b[2J","CurrentKeyMaterialId":"a\nb"}}`)})
	if r := mustProbe(t, key); strings.ContainsAny(r.Key, "\x1b\n") || !strings.Contains(r.Key, "a?b") {
		t.Errorf("%q", r.Key)
	}
}
