package awskms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

const (
	// rotationWait is how long Rotate waits for AWS to complete what it began.
	rotationWait = time.Minute
	// rotationPause lies between two looks at whether it has.
	rotationPause = time.Second

	// minWait and maxWait bound the waiting period of ScheduleKeyDeletion, of whole days.
	minWait = 7 * day
	maxWait = 30 * day
	day     = 24 * time.Hour
)

// rotationTimes are the waits of Rotate.
type rotationTimes struct{ wait, pause time.Duration }

// Rotate implements kms.Rotator: RotateKeyOnDemand, which AWS KMS permits 25 times for each
// key and completes in the background. Rotate waits up to a minute for that, so that the
// version it returns wraps. After an error that says that the rotation was begun, do not
// call it again: Versions shows when it is done. It needs kms:RotateKeyOnDemand,
// kms:DescribeKey and kms:ListKeyRotations.
func (k *Key) Rotate(ctx context.Context) (kms.Version, error) {
	before, err := k.metadata(ctx, driver.OpRotate)
	if err != nil {
		return kms.Version{}, err
	}
	if _, err := ask(ctx, k, driver.OpRotate, "kms:RotateKeyOnDemand", k.api.RotateKeyOnDemand, &awskms.RotateKeyOnDemandInput{KeyId: aws.String(k.arn)}); err != nil {
		var answered smithy.APIError
		if !errors.As(err, &answered) && (err.Class == kms.Unavailable || err.Class == kms.Canceled) {
			err.Detail += "; whether the key was rotated is not known"
			err.Advice = strings.Trim(lookFirst+"; "+err.Advice, "; ")
		}
		return kms.Version{}, err
	}
	now, err := k.rotated(ctx, aws.ToString(before.CurrentKeyMaterialId))
	if err != nil {
		err.Detail += " (the rotation was begun)"
		err.Advice = strings.Trim(lookFirst+"; "+err.Advice, "; ")
		return kms.Version{}, err
	}
	return now, nil
}

// lookFirst is the advice when it is not known whether a rotation happened.
const lookFirst = "list the versions before you rotate again, for AWS KMS permits only 25 rotations"

// rotated waits until the key has other material than before.
func (k *Key) rotated(ctx context.Context, before string) (kms.Version, *kms.Error) {
	waitCtx, cancel := kms.WithLimit(ctx, k.rotation.wait)
	defer cancel()
	tick := time.NewTicker(k.rotation.pause)
	defer tick.Stop()
	for {
		versions, err := k.versions(waitCtx, driver.OpRotate)
		switch {
		case err == nil:
			for _, v := range versions {
				if v.Primary && v.ID != before {
					return v, nil
				}
			}
		case waitCtx.Err() == nil && !err.Class.Transient():
			return kms.Version{}, err
		}
		select {
		case <-tick.C:
			continue
		case <-waitCtx.Done():
		}
		if ctx.Err() != nil {
			return kms.Version{}, k.canceled(driver.OpRotate, ctx.Err())
		}
		return kms.Version{}, k.fail(driver.OpRotate, driver.Refuse(kms.Unavailable, "AWS KMS has not completed the rotation within "+k.rotation.wait.String(),
			"look again in some minutes: aws kms get-key-rotation-status tells"), context.Cause(waitCtx))
	}
}

// Versions implements kms.Rotator: the key materials, with the ID that AWS gives them (64
// hexadecimal digits). AWS does not say which one wrapped a data key, and only the whole
// key can be disabled or destroyed: the versions have its state. A key that AWS KMS does
// not rotate, such as one in a custom key store, has one version with the ID of the key. It
// needs kms:DescribeKey and kms:ListKeyRotations.
func (k *Key) Versions(ctx context.Context) ([]kms.Version, error) {
	versions, err := k.versions(ctx, driver.OpVersions)
	if err != nil {
		return nil, err
	}
	return versions, nil
}

// pageSize is the number of key materials in one request, so that an answer is far from
// maxAnswer.
const pageSize = 50

func (k *Key) versions(ctx context.Context, op string) ([]kms.Version, *kms.Error) {
	m, err := k.metadata(ctx, op)
	if err != nil {
		return nil, err
	}
	created := aws.ToTime(m.CreationDate).UTC()
	state, destroyAt := stateOf(m)
	if aws.ToString(m.CurrentKeyMaterialId) == "" {
		return []kms.Version{{ID: aws.ToString(m.KeyId), State: state, Primary: true, Created: created, DestroyAt: destroyAt}}, nil
	}
	entries, err := k.materials(ctx, op)
	if err != nil {
		return nil, err
	}
	versions := make([]kms.Version, 0, len(entries))
	var waiting []kms.Version // not rotated in yet, and so the newest
	for _, e := range entries {
		v := kms.Version{ID: aws.ToString(e.KeyMaterialId), State: state, Created: created, DestroyAt: destroyAt}
		if e.RotationDate != nil {
			v.Created = e.RotationDate.UTC()
		}
		switch {
		case e.KeyMaterialState == types.KeyMaterialStatePendingRotation, e.KeyMaterialState == types.KeyMaterialStatePendingMultiRegionImportAndRotation:
			v.State, v.Created = kms.VersionUnavailable, time.Time{}
			waiting = append(waiting, v)
			continue
		case e.ImportState == types.ImportStatePendingImport && state != kms.VersionPendingDestruction:
			v.State = kms.VersionUnavailable
		}
		v.Primary = e.KeyMaterialState == types.KeyMaterialStateCurrent
		versions = append(versions, v)
	}
	slices.SortStableFunc(versions, func(a, b kms.Version) int { return a.Created.Compare(b.Created) })
	return append(versions, waiting...), nil
}

// materials lists all key materials, page by page.
func (k *Key) materials(ctx context.Context, op string) ([]types.RotationsListEntry, *kms.Error) {
	var all []types.RotationsListEntry
	in := &awskms.ListKeyRotationsInput{KeyId: aws.String(k.arn), IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial, Limit: aws.Int32(pageSize)}
	for range maxPages {
		page, err := ask(ctx, k, op, "kms:ListKeyRotations", k.api.ListKeyRotations, in)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Rotations...)
		if !page.Truncated {
			return all, nil
		}
		if aws.ToString(page.NextMarker) == "" {
			break
		}
		in.Marker = page.NextMarker
	}
	return nil, k.fail(op, notUnderstood(), errAnswer)
}

// maxPages ends a list that has no end. A key that rotates every 90 days has some
// 400 materials after a century.
const maxPages = 100

// stateOf returns what all versions of a key can do, and when they will be gone.
func stateOf(m *types.KeyMetadata) (kms.VersionState, time.Time) {
	switch m.KeyState {
	case types.KeyStateEnabled, types.KeyStateUpdating:
		return kms.VersionEnabled, time.Time{}
	case types.KeyStateDisabled:
		return kms.VersionDisabled, time.Time{}
	case types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion:
		if m.DeletionDate == nil { // a primary waits for its replicas
			return kms.VersionPendingDestruction, time.Time{}
		}
		return kms.VersionPendingDestruction, m.DeletionDate.UTC()
	case types.KeyStateCreating, types.KeyStatePendingImport, types.KeyStateUnavailable:
	}
	return kms.VersionUnavailable, time.Time{}
}

// Disable implements kms.Retirer for the whole key: DisableKey, which needs
// kms:DisableKey. AWS KMS has no way to disable one version.
func (k *Key) Disable(ctx context.Context, version string) error {
	if err := k.whole(driver.OpDisable, version); err != nil {
		return err
	}
	return done(ask(ctx, k, driver.OpDisable, "kms:DisableKey", k.api.DisableKey, &awskms.DisableKeyInput{KeyId: aws.String(k.arn)}))
}

// Enable implements kms.Retirer for the whole key: EnableKey, which needs
// kms:EnableKey.
func (k *Key) Enable(ctx context.Context, version string) error {
	if err := k.whole(driver.OpEnable, version); err != nil {
		return err
	}
	return done(ask(ctx, k, driver.OpEnable, "kms:EnableKey", k.api.EnableKey, &awskms.EnableKeyInput{KeyId: aws.String(k.arn)}))
}

// Destroy implements kms.Retirer for the whole key, enabled or disabled:
// ScheduleKeyDeletion, which needs kms:ScheduleKeyDeletion. wait is 7 to 30 whole days, or
// zero for 30. The time is zero for the primary of a multi-Region key that has replicas:
// its wait begins when the last of them is gone.
func (k *Key) Destroy(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
	if err := k.whole(driver.OpDestroy, version); err != nil {
		return time.Time{}, err
	}
	in := &awskms.ScheduleKeyDeletionInput{KeyId: aws.String(k.arn)}
	if wait != 0 {
		if wait < minWait || wait > maxWait || wait%day != 0 {
			return time.Time{}, k.fail(driver.OpDestroy, driver.Refuse(kms.Invalid, fmt.Sprintf("a wait of %v, and AWS KMS takes 7 to 30 days", wait),
				"give a number of whole days from 7 (168h) to 30 (720h), or none for 30"), nil)
		}
		in.PendingWindowInDays = aws.Int32(int32(wait / day))
	}
	answer, err := ask(ctx, k, driver.OpDestroy, "kms:ScheduleKeyDeletion", k.api.ScheduleKeyDeletion, in)
	if err != nil {
		return time.Time{}, err
	}
	if answer.DeletionDate == nil {
		return time.Time{}, nil
	}
	return answer.DeletionDate.UTC(), nil
}

// Restore implements kms.Retirer for the whole key: CancelKeyDeletion, which needs
// kms:CancelKeyDeletion.
func (k *Key) Restore(ctx context.Context, version string) error {
	if err := k.whole(driver.OpRestore, version); err != nil {
		return err
	}
	return done(ask(ctx, k, driver.OpRestore, "kms:CancelKeyDeletion", k.api.CancelKeyDeletion, &awskms.CancelKeyDeletionInput{KeyId: aws.String(k.arn)}))
}

// whole refuses operations on versions: AWS KMS has them for whole keys only.
func (k *Key) whole(op, version string) error {
	if version == "" {
		return nil
	}
	return k.fail(op, refusal{
		Class: kms.Invalid, Detail: "AWS KMS can " + op + " whole keys, and no version of one",
		Advice:      "name no version; to be rid of old key material, move to a new key: rewrap to it, then disable the old one",
		Unsupported: true,
	}, nil)
}

// done turns the result of ask into an error.
func done[Out any](_ *Out, err *kms.Error) error {
	if err != nil {
		return err
	}
	return nil
}
