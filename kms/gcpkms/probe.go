package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// shortGrace is a destroy_scheduled_duration that is worth a warning: it is all the
// time there is to find out that a version is still needed. Google's default is 30 days.
const shortGrace = 7 * 24 * time.Hour

// dateGrain is the precision of a "date" header.
const dateGrain = time.Second

// Probe implements kms.Prober: GetCryptoKey, and ListCryptoKeyVersions for the warnings.
// Workers and codec servers need neither; without cloudkms.cryptoKeys.get and
// cryptoKeyVersions.list (roles/cloudkms.viewer) the report is shorter. Without the right
// to describe the key, a Decrypt of no ciphertext shows whether it can be used or, failing
// that, an Encrypt of nothing.
//
// Identity is read from the credentials, empty for those passed as ClientOptions. Google's
// client renews tokens, so there is no Expires. A key that neither seals nor opens, because
// of its purpose or because none of its versions is enabled, is an error.
func (k *Key) Probe(ctx context.Context) (kms.Report, error) {
	began := time.Now()
	key, with, err := k.describe(ctx, driver.OpProbe)
	r := kms.Report{}
	r.Skew, r.SkewKnown = skew(with.value("date"), began, time.Now())
	if unprivileged(err) {
		if err := k.canBeUsed(ctx); err != nil {
			return kms.Report{}, err
		}
		r.Identity = k.conn.who.resolve(ctx)
		return r, nil
	}
	if err != nil {
		return kms.Report{}, err
	}
	if key.Purpose != kmspb.CryptoKey_ENCRYPT_DECRYPT {
		return kms.Report{}, k.fail(driver.OpProbe, k.wrongKind(), nil)
	}
	versions, err := k.list(ctx, driver.OpProbe, key)
	switch {
	case err == nil && !slices.ContainsFunc(versions, func(v kms.Version) bool { return v.State == kms.VersionEnabled }):
		return kms.Report{}, k.fail(driver.OpProbe, k.noneEnabled(key), nil)
	case err != nil && !unprivileged(err):
		return kms.Report{}, err
	}
	r.Identity = k.conn.who.resolve(ctx)
	r.Key, r.Warnings = k.portrait(key), k.warnings(key, versions)
	return r, nil
}

// noneEnabled is what it means that no version of a key is enabled.
func (k *Key) noneEnabled(key *kmspb.CryptoKey) refusal {
	if key.Primary == nil {
		return driver.Refuse(kms.Disabled, "the key has no enabled version",
			"make one: "+k.gcloud("kms keys versions create --primary", scopeKey))
	}
	return k.inState(key.Primary.State)
}

// canBeUsed calls the KMS with the permissions to use the key, for an identity that has no
// others. The request and what is wrong with it are no secrets.
func (k *Key) canBeUsed(ctx context.Context) error {
	nothing := []byte{0}
	_, _, err := admin(ctx, k, driver.OpProbe, permDecrypt, k.conn.client.Decrypt, &kmspb.DecryptRequest{Name: k.name, Ciphertext: nothing})
	if e, ok := errors.AsType[*kms.Error](err); ok && status.Code(e.Err) == codes.InvalidArgument && !wrongPurpose(status.Convert(e.Err)) {
		return nil // permitted, and refused for what it sent
	}
	if unprivileged(err) {
		_, _, err = admin(ctx, k, driver.OpProbe, permEncrypt, k.conn.client.Encrypt, &kmspb.EncryptRequest{Name: k.name, Plaintext: nothing})
	}
	return err
}

// unprivileged reports whether our identity may not describe the key, which does not mean
// that it may not seal and open.
func unprivileged(err error) bool {
	return err != nil && kms.ClassOf(err) == kms.Denied && lacksPermission(err)
}

// skew compares the time that an answer carries with ours, between which it was
// made. A difference that the header's coarseness or the way explains is none.
func skew(date string, began, ended time.Time) (time.Duration, bool) {
	told, err := http.ParseTime(date)
	if err != nil {
		return 0, false
	}
	atLeast, atMost := told.Sub(ended), told.Add(dateGrain).Sub(began)
	switch {
	case atLeast > 0:
		return atLeast.Round(dateGrain), true
	case atMost < 0:
		return atMost.Round(dateGrain), true
	}
	return 0, true
}

// portrait describes a key in a line.
func (k *Key) portrait(key *kmspb.CryptoKey) string {
	level := key.Primary.GetProtectionLevel()
	if level == kmspb.ProtectionLevel_PROTECTION_LEVEL_UNSPECIFIED {
		level = key.VersionTemplate.GetProtectionLevel()
	}
	algorithm := key.Primary.GetAlgorithm()
	if algorithm == kmspb.CryptoKeyVersion_CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED {
		algorithm = key.VersionTemplate.GetAlgorithm()
	}
	parts := []string{words(key.Purpose.String()) + " key", "protection level " + words(level.String()), algorithm.String()}
	if number, ok := versionOf(k.name, key.Primary.GetName()); ok {
		primary := "primary version " + number + " " + words(key.Primary.State.String())
		if key.Primary.CreateTime.IsValid() {
			primary += " of " + key.Primary.CreateTime.AsTime().Format(time.DateOnly)
		}
		parts = append(parts, primary)
	}
	if period := key.GetRotationPeriod(); period.IsValid() {
		rotation := "rotates every " + days(period.AsDuration())
		if key.NextRotationTime.IsValid() {
			rotation += ", next on " + key.NextRotationTime.AsTime().Format(time.DateOnly)
		}
		parts = append(parts, rotation)
	}
	return strings.Join(parts, ", ")
}

// warnings are what an operator should know of a key and such versions as could be
// listed.
func (k *Key) warnings(key *kmspb.CryptoKey, versions []kms.Version) []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	primary, hasPrimary := versionOf(k.name, key.Primary.GetName())
	switch {
	case !hasPrimary:
		warn("the key has no primary version: nothing can be sealed with it")
	case key.Primary.State != kmspb.CryptoKeyVersion_ENABLED:
		warn("the primary version %s is %s: nothing can be sealed with the key", primary, words(key.Primary.State.String()))
	}
	for _, v := range versions {
		if v.State == kms.VersionPendingDestruction {
			warn("version %s is scheduled to be destroyed on %s: what it wrapped is lost then", v.ID, v.DestroyAt.Format(time.DateTime))
		}
	}
	level := key.VersionTemplate.GetProtectionLevel()
	external := level == kmspb.ProtectionLevel_EXTERNAL || level == kmspb.ProtectionLevel_EXTERNAL_VPC
	if external {
		warn("an external manager keeps the key: sealing and opening work only while Cloud KMS can reach it")
	}
	if key.ImportOnly || key.Primary.GetImportJob() != "" {
		warn("the key material was imported: somebody may hold a copy outside of Cloud KMS, and rotation takes another import")
	}
	if key.GetRotationPeriod() == nil && !external && !key.ImportOnly {
		warn("the key has no rotation schedule")
	}
	if grace := key.DestroyScheduledDuration; grace.IsValid() && grace.AsDuration() < shortGrace {
		warn("a version is destroyed %s after somebody asks for it, which leaves little time to notice that it was needed", days(grace.AsDuration()))
	}
	return out
}

// words makes "DESTROY_SCHEDULED" "destroy scheduled". Abbreviations stay as they are.
func words(enum string) string {
	if enum == kmspb.ProtectionLevel_HSM.String() {
		return enum
	}
	return strings.ReplaceAll(strings.ToLower(enum), "_", " ")
}

// days writes a duration in days if it is some.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	switch n := d / day; {
	case n < 1 || d%day != 0:
		return d.String()
	case n == 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}
