package gcpkms

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

const (
	// firstPoll and lastPoll are how long Rotate waits before it looks again
	// whether a version is ready; the wait doubles between them.
	firstPoll = 100 * time.Millisecond
	lastPoll  = 5 * time.Second

	// maxGeneration is how long Rotate waits for a version at most, whatever its
	// context says: an HSM takes seconds.
	maxGeneration = 5 * time.Minute
)

// Rotate implements kms.Rotator: it makes a version, waits until it is enabled,
// and makes it the primary. It takes cloudkms.cryptoKeys.get,
// cryptoKeyVersions.create, cryptoKeyVersions.get and cryptoKeys.update.
//
// Google documents that the change of the primary takes about a minute, and in
// exceptional cases hours, to be in effect everywhere: until then some data keys
// are still wrapped under the version before, which must stay enabled.
//
// A key of which Cloud KMS makes no versions by itself, because their material is imported
// or kept by an external key manager, gives Class Invalid with errors.ErrUnsupported and
// advice that has the command; so does a key that is not for encryption, before anything is
// made. An error that comes after the version was made names it: MakePrimary finishes the
// rotation then.
func (k *Key) Rotate(ctx context.Context) (kms.Version, error) {
	key, _, err := k.describe(ctx, driver.OpRotate)
	if err != nil {
		return kms.Version{}, err
	}
	if err := k.generates(key); err != nil {
		return kms.Version{}, err
	}
	made, _, err := admin(ctx, k, driver.OpRotate, permCreateVersion, k.conn.client.CreateCryptoKeyVersion, &kmspb.CreateCryptoKeyVersionRequest{
		Parent: k.name, CryptoKeyVersion: &kmspb.CryptoKeyVersion{State: kmspb.CryptoKeyVersion_ENABLED},
	})
	if err != nil {
		return kms.Version{}, k.externalAdvice(key, err)
	}
	version, ok := versionOf(k.name, made.Name)
	if !ok {
		return kms.Version{}, k.fail(driver.OpRotate, k.otherKey(), nil)
	}
	if made, err = k.awaitEnabled(ctx, made); err == nil {
		err = k.setPrimary(ctx, driver.OpRotate, version)
	}
	if err != nil {
		return kms.Version{}, k.halfRotated(version, err)
	}
	return toVersion(version, true, made), nil
}

// generates refuses keys that do not encrypt, or have versions that come from elsewhere.
func (k *Key) generates(key *kmspb.CryptoKey) error {
	switch level := key.VersionTemplate.GetProtectionLevel(); {
	case key.Purpose != kmspb.CryptoKey_ENCRYPT_DECRYPT:
		return k.fail(driver.OpRotate, k.wrongKind(), nil)
	case key.ImportOnly:
		return k.unsupported(driver.OpRotate, "the key takes imported versions only",
			"import the new version ("+k.gcloud("kms keys versions import --import-job=… --algorithm=google-symmetric-encryption --target-key-file=…", scopeKey)+
				"), then make it primary", errors.ErrUnsupported)
	case level == kmspb.ProtectionLevel_EXTERNAL:
		return k.external(errors.ErrUnsupported)
	}
	return nil
}

// external refuses to make a version from material that an external manager keeps.
func (k *Key) external(cause error) *kms.Error {
	return k.unsupported(driver.OpRotate, "an external key manager keeps this key: Cloud KMS cannot make a version by itself",
		"make the key there, then "+k.gcloud("kms keys versions create --primary --external-key-uri=…", scopeKey)+
			" (or --ekm-connection-key-path=… for a key behind a VPC)", cause)
}

// externalAdvice replaces the refusal of a key behind a VPC: its manager may or may not
// make versions on Cloud KMS's request.
func (k *Key) externalAdvice(key *kmspb.CryptoKey, err error) error {
	e, ok := errors.AsType[*kms.Error](err)
	if ok && key.VersionTemplate.GetProtectionLevel() == kmspb.ProtectionLevel_EXTERNAL_VPC && (e.Class == kms.Internal || e.Class == kms.Invalid || e.Class == kms.Disabled) {
		return k.external(errors.Join(errors.ErrUnsupported, e.Err))
	}
	return err
}

// awaitEnabled waits until a version that was just made is ready.
func (k *Key) awaitEnabled(ctx context.Context, v *kmspb.CryptoKeyVersion) (*kmspb.CryptoKeyVersion, error) {
	waiting, cancel := kms.WithLimit(ctx, k.generation)
	defer cancel()
	name := v.Name
	for pause := firstPoll; v.State == kmspb.CryptoKeyVersion_PENDING_GENERATION; pause = min(2*pause, lastPoll) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-waiting.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return nil, k.canceled(driver.OpRotate, ctx.Err())
			}
			return nil, k.fail(driver.OpRotate, driver.Refuse(kms.Unavailable, "it is not ready after "+k.generation.String(),
				"check Google Cloud's status"), context.Cause(waiting))
		}
		var err error
		v, _, err = admin(ctx, k, driver.OpRotate, permGetVersion, k.conn.client.GetCryptoKeyVersion, &kmspb.GetCryptoKeyVersionRequest{Name: name})
		if err != nil {
			return nil, err
		}
		if v.Name != name {
			return nil, k.fail(driver.OpRotate, k.otherKey(), nil)
		}
	}
	if v.State != kmspb.CryptoKeyVersion_ENABLED {
		return nil, k.fail(driver.OpRotate, k.inState(v.State), nil)
	}
	return v, nil
}

// halfRotated is the error about a version that was made and is not the primary.
func (k *Key) halfRotated(version string, err error) error {
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		return err
	}
	half := *e
	half.Detail = "version " + version + " was made but is not known to be the primary: " + e.Detail
	half.Advice = "when it is enabled, " + k.gcloud("kms keys update --primary-version="+version, scopeName) + " finishes the rotation"
	if e.Advice != "" {
		half.Advice = e.Advice + "; " + half.Advice
	}
	return &half
}

// MakePrimary makes an enabled version wrap from now on, to go back to an earlier one or to
// finish a rotation. It refuses a version that is not enabled, with the class of its state:
// Cloud KMS would take it, and seal nothing from then on. It takes
// cloudkms.cryptoKeyVersions.get and cryptoKeys.update, and is as slow to take effect as
// Rotate.
func (k *Key) MakePrimary(ctx context.Context, version string) error {
	v, err := k.version(ctx, opMakePrimary, version)
	if err != nil {
		return err
	}
	if v.State != kmspb.CryptoKeyVersion_ENABLED {
		return k.fail(opMakePrimary, k.inState(v.State), nil)
	}
	return k.setPrimary(ctx, opMakePrimary, version)
}

func (k *Key) setPrimary(ctx context.Context, op, version string) error {
	key, _, err := admin(ctx, k, op, permUpdateKey, k.conn.client.UpdateCryptoKeyPrimaryVersion, &kmspb.UpdateCryptoKeyPrimaryVersionRequest{
		Name: k.name, CryptoKeyVersionId: version,
	})
	if err != nil {
		return err
	}
	if now, ok := versionOf(k.name, key.Primary.GetName()); !ok || now != version {
		return k.fail(op, k.otherKey(), nil)
	}
	return nil
}
