package gcpkms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

const (
	// versionsPage is the number of versions in one request.
	versionsPage = 500
	// maxVersions is more than a key rotated every hour gathers in ten years.
	maxVersions = 100_000
)

// Versions implements kms.Rotator, in the order of their numbers. It takes
// cloudkms.cryptoKeys.get, for the primary, and cryptoKeyVersions.list.
func (k *Key) Versions(ctx context.Context) ([]kms.Version, error) {
	key, _, err := k.describe(ctx, driver.OpVersions)
	if err != nil {
		return nil, err
	}
	return k.list(ctx, driver.OpVersions, key)
}

// list returns the versions of key.
func (k *Key) list(ctx context.Context, op string, key *kmspb.CryptoKey) ([]kms.Version, error) {
	primary, _ := versionOf(k.name, key.Primary.GetName())
	var all []kms.Version
	for token := ""; ; {
		page, next, err := k.page(ctx, op, token)
		if err != nil {
			return nil, err
		}
		for _, v := range page {
			number, ok := versionOf(k.name, v.Name)
			if !ok {
				return nil, k.fail(op, k.otherKey(), nil)
			}
			all = append(all, toVersion(number, number == primary, v))
		}
		if next == "" {
			break
		}
		if next == token || len(all) > maxVersions {
			return nil, k.fail(op, driver.Refuse(kms.Internal, "the list of versions does not end",
				"check that "+k.endpoint+" is Cloud KMS"), nil)
		}
		token = next
	}
	slices.SortFunc(all, func(a, b kms.Version) int {
		return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID)) // as numbers
	})
	return all, nil
}

// page returns some versions, and where to go on; empty if that was all.
func (k *Key) page(ctx context.Context, op, token string) (versions []*kmspb.CryptoKeyVersion, next string, err error) {
	list := func(ctx context.Context, req *kmspb.ListCryptoKeyVersionsRequest, opts ...gax.CallOption) ([]*kmspb.CryptoKeyVersion, error) {
		versions := make([]*kmspb.CryptoKeyVersion, 0, versionsPage)
		var err error
		pager := iterator.NewPager(k.conn.client.ListCryptoKeyVersions(ctx, req, opts...), versionsPage, token)
		next, err = pager.NextPage(&versions)
		return versions, err
	}
	versions, _, err = admin(ctx, k, op, permListVersions, list, &kmspb.ListCryptoKeyVersionsRequest{Parent: k.name})
	return versions, next, err
}

// toVersion describes the version of that number.
func toVersion(number string, primary bool, v *kmspb.CryptoKeyVersion) kms.Version {
	out := kms.Version{ID: number, Primary: primary}
	if v.CreateTime.IsValid() {
		out.Created = v.CreateTime.AsTime()
	}
	switch v.State {
	case kmspb.CryptoKeyVersion_ENABLED:
		out.State = kms.VersionEnabled
	case kmspb.CryptoKeyVersion_DISABLED:
		out.State = kms.VersionDisabled
	case kmspb.CryptoKeyVersion_DESTROY_SCHEDULED:
		out.State = kms.VersionPendingDestruction
		if v.DestroyTime.IsValid() {
			out.DestroyAt = v.DestroyTime.AsTime()
		}
	case kmspb.CryptoKeyVersion_DESTROYED, kmspb.CryptoKeyVersion_PENDING_EXTERNAL_DESTRUCTION, kmspb.CryptoKeyVersion_EXTERNAL_DESTRUCTION_FAILED:
		out.State = kms.VersionDestroyed
	default:
		out.State = kms.VersionUnavailable
	}
	return out
}

// Disable implements kms.Retirer for one version; it takes
// cloudkms.cryptoKeyVersions.update. Cloud KMS has no switch for a whole key. The
// primary version can be disabled like any other: from then on nothing can be
// sealed with the key until MakePrimary names another.
//
// Google documents that a disabled version may go on working for about a minute,
// and in exceptional cases for hours; taking the role away works within seconds.
func (k *Key) Disable(ctx context.Context, version string) error {
	return k.setState(ctx, driver.OpDisable, version, kmspb.CryptoKeyVersion_DISABLED)
}

// Enable implements kms.Retirer for one version, which works at once. It takes
// cloudkms.cryptoKeyVersions.update.
func (k *Key) Enable(ctx context.Context, version string) error {
	return k.setState(ctx, driver.OpEnable, version, kmspb.CryptoKeyVersion_ENABLED)
}

func (k *Key) setState(ctx context.Context, op, version string, to kmspb.CryptoKeyVersion_CryptoKeyVersionState) error {
	name, err := k.versionName(op, version)
	if err != nil {
		return err
	}
	v, _, err := admin(ctx, k, op, permUpdateVersion, k.conn.client.UpdateCryptoKeyVersion, &kmspb.UpdateCryptoKeyVersionRequest{
		CryptoKeyVersion: &kmspb.CryptoKeyVersion{Name: name, State: to}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}},
	})
	if err != nil {
		return err
	}
	return k.checkState(op, version, v, to)
}

// Destroy implements kms.Retirer for one disabled version; it takes
// cloudkms.cryptoKeyVersions.get and cryptoKeyVersions.destroy. The time until then is a
// property of the key (destroy_scheduled_duration, 30 days by default), so any wait but
// zero is refused. Cloud KMS would also destroy an enabled version; Destroy refuses that
// with Class Invalid, and one that is scheduled already with Class Disabled.
//
// Wait out the time that Disable takes: what still needs the version shows then.
func (k *Key) Destroy(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
	if wait != 0 {
		return time.Time{}, k.unsupported(driver.OpDestroy, "Cloud KMS cannot be told how long to wait: that is a property of the key, set when it was made",
			"leave the wait out; "+k.gcloud("kms keys describe", scopeName)+" shows destroyScheduledDuration", errors.ErrUnsupported)
	}
	v, err := k.version(ctx, driver.OpDestroy, version)
	if err != nil {
		return time.Time{}, err
	}
	switch v.State {
	case kmspb.CryptoKeyVersion_DISABLED:
	case kmspb.CryptoKeyVersion_ENABLED:
		return time.Time{}, k.fail(driver.OpDestroy, driver.Refuse(kms.Invalid, "version "+version+" is enabled",
			"disable it first, and wait to see that nothing needs it"), nil)
	default:
		return time.Time{}, k.fail(driver.OpDestroy, k.inState(v.State), nil)
	}
	v, _, err = admin(ctx, k, driver.OpDestroy, permDestroyVersion, k.conn.client.DestroyCryptoKeyVersion, &kmspb.DestroyCryptoKeyVersionRequest{Name: v.Name})
	if err != nil {
		return time.Time{}, err
	}
	if v.State == kmspb.CryptoKeyVersion_DESTROYED && v.DestroyEventTime.IsValid() { // a key without any delay
		return v.DestroyEventTime.AsTime(), k.checkState(driver.OpDestroy, version, v, kmspb.CryptoKeyVersion_DESTROYED)
	}
	if err := k.checkState(driver.OpDestroy, version, v, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED); err != nil {
		return time.Time{}, err
	}
	return v.DestroyTime.AsTime(), nil
}

// Restore implements kms.Retirer for one version that waits for its destruction. It
// takes cloudkms.cryptoKeyVersions.restore.
func (k *Key) Restore(ctx context.Context, version string) error {
	name, err := k.versionName(driver.OpRestore, version)
	if err != nil {
		return err
	}
	v, _, err := admin(ctx, k, driver.OpRestore, permRestoreVersion, k.conn.client.RestoreCryptoKeyVersion, &kmspb.RestoreCryptoKeyVersionRequest{Name: name})
	if err != nil {
		return err
	}
	return k.checkState(driver.OpRestore, version, v, kmspb.CryptoKeyVersion_DISABLED)
}

// describe gets the key itself.
func (k *Key) describe(ctx context.Context, op string) (*kmspb.CryptoKey, aside, error) {
	key, with, err := admin(ctx, k, op, permGetKey, k.conn.client.GetCryptoKey, &kmspb.GetCryptoKeyRequest{Name: k.name})
	if err != nil {
		return nil, with, err
	}
	if !sameKey(k.name, key.Name) {
		return nil, with, k.fail(op, k.otherKey(), nil)
	}
	return key, with, nil
}

// version gets one version of the key.
func (k *Key) version(ctx context.Context, op, version string) (*kmspb.CryptoKeyVersion, error) {
	name, err := k.versionName(op, version)
	if err != nil {
		return nil, err
	}
	v, _, err := admin(ctx, k, op, permGetVersion, k.conn.client.GetCryptoKeyVersion, &kmspb.GetCryptoKeyVersionRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if number, ok := versionOf(k.name, v.Name); !ok || number != version {
		return nil, k.fail(op, k.otherKey(), nil)
	}
	return v, nil
}

// versionName returns the resource name of one version, or why there is none.
func (k *Key) versionName(op, version string) (string, error) {
	if version == "" {
		return "", k.unsupported(op, "Cloud KMS does that to one version of a key, not to a whole key",
			op+" each version by itself; to cut a key off at once, take the roles on it away", errors.ErrUnsupported)
	}
	if !isVersion(version) {
		return "", k.fail(op, driver.Refuse(kms.NotFound, fmt.Sprintf("%q is not a version of Cloud KMS's", version),
			"versions are numbers, such as 7"), nil)
	}
	return k.name + versionsPart + version, nil
}

// checkState checks that an answer is about the version, and has the state that was
// requested.
func (k *Key) checkState(op, version string, v *kmspb.CryptoKeyVersion, want kmspb.CryptoKeyVersion_CryptoKeyVersionState) error {
	if number, ok := versionOf(k.name, v.Name); !ok || number != version {
		return k.fail(op, k.otherKey(), nil)
	}
	if v.State != want {
		return k.fail(op, driver.Refuse(kms.Internal, "Cloud KMS took it, but version "+version+" did not change as it should",
			k.gcloud("kms keys versions list", scopeKey)+" shows the states"), nil)
	}
	return nil
}
