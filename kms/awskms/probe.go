package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

const (
	// identityTimeout bounds the request to STS for our identity. STS may be out of reach
	// where AWS KMS is not.
	identityTimeout = 3 * time.Second
	// rotationsPermitted is how often AWS KMS rotates a key on demand, and
	// rotationsMany from when on an operator should know.
	rotationsPermitted = 25
	rotationsMany      = 20
	// soon is when an expiry is worth a warning.
	soon = 30 * day
)

// Probe implements kms.Prober. DescribeKey describes the key, STS's GetCallerIdentity our
// identity; both, with GetKeyRotationStatus and ListKeyRotations, give warnings. What is
// denied is left out. If STS does not answer, Identity is the end of the access key ID and
// its source. A key that is disabled, pending deletion or unavailable gives an error beside
// the report.
func (k *Key) Probe(ctx context.Context) (kms.Report, error) {
	var r kms.Report
	var account string
	var key keyReport
	var group errgroup.Group
	group.Go(func() error {
		r.Identity, account, r.Expires = k.identity(ctx)
		return nil
	})
	group.Go(func() error {
		key = k.about(ctx)
		return nil
	})
	_ = group.Wait() // its functions keep their errors
	r.Key, r.Skew, r.SkewKnown, r.Warnings = key.text, key.skew, key.skewKnown, key.warnings
	if account != "" && account != k.name.account {
		r.Warnings = append(r.Warnings, fmt.Sprintf("The key belongs to account %s, and we are of %s: the key's policy and ours must both permit its use.", k.name.account, account))
	}
	if !r.Expires.IsZero() && time.Until(r.Expires) <= 0 {
		r.Warnings = append(r.Warnings, "Our credentials have expired.")
	}
	if key.err != nil {
		return r, key.err
	}
	return r, nil
}

// keyReport is AWS KMS's part of a Report.
type keyReport struct {
	text      string
	skew      time.Duration
	skewKnown bool
	warnings  []string
	err       *kms.Error
}

func (r *keyReport) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// about collects AWS KMS's part of a report.
func (k *Key) about(ctx context.Context) (r keyReport) {
	sent := time.Now()
	answer, err := ask(ctx, k, driver.OpProbe, "kms:DescribeKey", k.api.DescribeKey, &awskms.DescribeKeyInput{KeyId: aws.String(k.arn)})
	received := time.Now()
	if err != nil {
		var response *awshttp.ResponseError
		if errors.As(err, &response) && response.Response != nil {
			r.skew, r.skewKnown = skew(response.Response.Header, sent, received)
		}
		if err.Class != kms.Denied || !withoutDescribing(err) {
			r.err = err
			return r
		}
		r.text = "key of account " + k.name.account + " in " + k.name.region
		r.warn("We may not ask what kind of key it is: grant kms:DescribeKey to find out more.")
		r.err = k.rehearse(ctx)
		return r
	}
	if raw, ok := awsmiddleware.GetRawResponse(answer.ResultMetadata).(*smithyhttp.Response); ok {
		r.skew, r.skewKnown = skew(raw.Header, sent, received)
	}
	m := answer.KeyMetadata
	if m == nil || aws.ToString(m.Arn) != k.arn {
		r.err = k.fail(driver.OpProbe, notUnderstood(), errAnswer)
		return r
	}
	r.text = k.describeText(m)
	if m.ValidTo != nil && time.Until(*m.ValidTo) < soon {
		r.warn("The imported key material expires at %s: import it again before, or nothing opens.", m.ValidTo.UTC().Format(time.RFC3339))
	}
	if r.err = k.unusable(m); r.err == nil {
		k.aboutRotation(ctx, m, &r)
	}
	return r
}

// rehearse checks whether we may use a key that we may not describe: AWS KMS checks dry
// runs and does not carry them out. One permission, to encrypt or to decrypt, is enough.
// There is no encryption context to try with, which a policy may demand.
func (k *Key) rehearse(ctx context.Context) *kms.Error {
	_, err := ask(ctx, k, driver.OpProbe, "kms:Encrypt", k.api.Encrypt, &awskms.EncryptInput{
		KeyId: aws.String(k.arn), Plaintext: make([]byte, kms.DataKeySize), DryRun: aws.Bool(true),
	})
	if err != nil && err.Class == kms.Denied {
		_, err = ask(ctx, k, driver.OpProbe, "kms:Decrypt", k.api.Decrypt, &awskms.DecryptInput{
			KeyId: aws.String(k.arn), DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext},
		})
	}
	var rehearsed *types.DryRunOperationException
	var unfit *types.InvalidKeyUsageException
	switch {
	case errors.As(err, &rehearsed):
		return nil
	case err != nil && err.Class == kms.Denied:
		err.Detail = "we may neither ask about the key nor, without an encryption context, use it"
		err.Advice = "grant kms:DescribeKey on the key to this identity (aws sts get-caller-identity), which carries no encryption context"
	case err != nil && (err.Class == kms.Internal || err.Class == kms.Invalid) && !errors.As(err, &unfit):
		return nil // an emulator that does not know rehearsals
	}
	return err
}

// unusable returns the error of a key in a state that keeps it from use.
func (k *Key) unusable(m *types.KeyMetadata) *kms.Error {
	switch state, at := stateOf(m); {
	case m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.KeySpec != types.KeySpecSymmetricDefault:
		return k.fail(driver.OpProbe, wrongKind(), nil)
	case m.KeyState == types.KeyStateUnavailable:
		return k.fail(driver.OpProbe, noKeyStore(), nil)
	case state == kms.VersionDisabled:
		return k.fail(driver.OpProbe, k.switchedOff(), nil)
	case state == kms.VersionPendingDestruction:
		r := k.notInState()
		r.Detail = "the key is pending deletion"
		if !at.IsZero() {
			r.Detail += " at " + at.Format(time.RFC3339)
		}
		return k.fail(driver.OpProbe, r, nil)
	case state != kms.VersionEnabled:
		return k.fail(driver.OpProbe, k.notInState(), nil)
	}
	return nil
}

// describeText says in one line what the key is.
func (k *Key) describeText(m *types.KeyMetadata) string {
	parts := []string{"symmetric key, state " + plain(string(m.KeyState)), "origin " + plain(string(m.Origin))}
	if m.KeySpec != types.KeySpecSymmetricDefault {
		parts[0] = plain(string(m.KeySpec)) + " key, state " + plain(string(m.KeyState))
	}
	if mr := m.MultiRegionConfiguration; mr != nil {
		kind := "multi-Region " + strings.ToLower(plain(string(mr.MultiRegionKeyType)))
		if mr.MultiRegionKeyType == types.MultiRegionKeyTypeReplica && mr.PrimaryKey != nil {
			kind += " of " + plain(aws.ToString(mr.PrimaryKey.Region))
		}
		parts = append(parts, kind)
		var regions []string
		for _, replica := range mr.ReplicaKeys {
			regions = append(regions, plain(aws.ToString(replica.Region)))
		}
		if slices.Sort(regions); len(regions) > 0 {
			parts = append(parts, "replicas in "+strings.Join(regions, " "))
		}
	}
	if id := plain(aws.ToString(m.CurrentKeyMaterialId)); id != "" {
		parts = append(parts, "current key material "+id)
	}
	return strings.Join(parts, ", ")
}

// notPlain is what does not occur in the names that AWS gives. What a report shows
// may end up on a terminal.
var notPlain = regexp.MustCompile(`[^A-Za-z0-9_/:.@=+,-]`)

// plain returns s as it can be shown: without odd characters, of bounded length.
func plain(s string) string {
	s = notPlain.ReplaceAllString(s, "?")
	return s[:min(len(s), 512)]
}

// aboutRotation warns of what is odd about how the key rotates.
func (k *Key) aboutRotation(ctx context.Context, m *types.KeyMetadata, r *keyReport) {
	if aws.ToString(m.CurrentKeyMaterialId) == "" {
		return // nothing to rotate
	}
	status, err := ask(ctx, k, driver.OpProbe, "kms:GetKeyRotationStatus", k.api.GetKeyRotationStatus, &awskms.GetKeyRotationStatusInput{KeyId: aws.String(k.arn)})
	if err == nil {
		if at := status.OnDemandRotationStartDate; at != nil {
			r.warn("A rotation is under way since %s.", at.UTC().Format(time.RFC3339))
		}
		if !status.KeyRotationEnabled && m.Origin == types.OriginTypeAwsKms {
			r.warn("Automatic rotation of the key material is off: aws kms enable-key-rotation turns it on.")
		}
	}
	materials, err := k.materials(ctx, driver.OpProbe)
	if err != nil {
		return
	}
	asked := 0
	for _, e := range materials {
		if e.RotationType == types.RotationTypeOnDemand {
			asked++
		}
	}
	if asked >= rotationsMany {
		r.warn("The key was rotated on demand %d times, and AWS KMS permits %d: turn automatic rotation on, or move to a new key.", asked, rotationsPermitted)
	}
}

// skew compares the Date of an answer, which has whole seconds, with our time when
// the question went and the answer came. It is zero unless the clocks differ for
// certain.
func skew(answer http.Header, sent, received time.Time) (time.Duration, bool) {
	date, err := http.ParseTime(answer.Get("Date"))
	switch {
	case err != nil:
		return 0, false
	case date.After(received):
		return date.Sub(received), true
	case date.Add(time.Second).Before(sent):
		return date.Add(time.Second).Sub(sent), true
	}
	return 0, true
}

// maxIdentity is longer than any ARN of IAM's.
const maxIdentity = 2048

// callerForm is the form of an identity of STS.
var callerForm = regexp.MustCompile(`^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:[A-Za-z0-9_/:.@=+,-]+$`)

// identity returns the identity that AWS sees, its account, and when the credentials end.
func (k *Key) identity(ctx context.Context) (who, account string, expires time.Time) {
	askCtx, cancel := context.WithTimeout(ctx, min(k.timeout, identityTimeout))
	defer cancel()
	credentials, err := k.credentials.Retrieve(askCtx)
	if err != nil {
		return "", "", time.Time{} // the error comes with the other question
	}
	if credentials.CanExpire {
		expires = credentials.Expires.UTC()
	}
	answer, err := k.caller.GetCallerIdentity(askCtx, &sts.GetCallerIdentityInput{})
	if err == nil {
		who = aws.ToString(answer.Arn)
		if len(who) <= maxIdentity && callerForm.MatchString(who) {
			return who, strings.Split(who, ":")[4], expires
		}
	}
	return fallbackIdentity(credentials), "", expires
}

// fallbackIdentity names credentials without a request. An access key ID is no secret, and
// its end distinguishes two of them.
func fallbackIdentity(c aws.Credentials) string {
	source, _, _ := strings.Cut(c.Source, ":") // what follows is the path of a file
	end := c.AccessKeyID[max(len(c.AccessKeyID)-4, 0):]
	return "access key …" + plain(end) + ", from " + plain(source)
}
