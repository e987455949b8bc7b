package localkms

import (
	"context"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// Rotate implements kms.Rotator.
func (k *Key) Rotate(ctx context.Context) (made kms.Version, err error) {
	err = k.change(ctx, "rotate", func(e *entry) error {
		if _, err := e.rotate(k.name, time.Now()); err != nil {
			return err
		}
		made = e.describe()[len(e.versions)-1]
		return nil
	})
	if err != nil {
		return kms.Version{}, err
	}
	return made, nil
}

// Versions implements kms.Rotator.
func (k *Key) Versions(ctx context.Context) (_ []kms.Version, err error) {
	defer k.report("list versions", &err)
	e, wipe, err := k.entry(ctx)
	if err != nil {
		return nil, err
	}
	defer wipe()
	return e.describe(), nil
}

// Disable implements kms.Retirer: see Keyring.Disable.
func (k *Key) Disable(ctx context.Context, version string) error {
	return k.change(ctx, "disable", func(e *entry) error { return e.disable(k.name, version) })
}

// Enable implements kms.Retirer: see Keyring.Enable.
func (k *Key) Enable(ctx context.Context, version string) error {
	return k.change(ctx, "enable", func(e *entry) error { return e.enable(k.name, version) })
}

// Destroy implements kms.Retirer: see Keyring.Destroy.
func (k *Key) Destroy(ctx context.Context, version string, wait time.Duration) (at time.Time, err error) {
	err = k.change(ctx, "destroy", func(e *entry) error {
		at, err = e.destroy(k.name, version, wait, time.Now())
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return at, nil
}

// Restore implements kms.Retirer: see Keyring.Restore.
func (k *Key) Restore(ctx context.Context, version string) error {
	return k.change(ctx, "restore", func(e *entry) error { return e.restore(k.name, version) })
}

// change alters the key in the file, if it is still the same keyring's.
func (k *Key) change(ctx context.Context, op string, alter func(*entry) error) (err error) {
	defer k.report(op, &err)
	if err := k.usable(ctx); err != nil {
		return err
	}
	return k.store.update(ctx, false, func(c *contents) error {
		e, err := k.in(c)
		if err != nil {
			return err
		}
		return alter(e)
	})
}

// usable says why k cannot be used, or nil.
func (k *Key) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.closed.Load() {
		return errClosed()
	}
	return nil
}

// entry reads the key from the file; wipe is called when it is not needed any more.
func (k *Key) entry(ctx context.Context) (e *entry, wipe func(), err error) {
	if err := k.usable(ctx); err != nil {
		return nil, nil, err
	}
	c, _, err := k.store.load()
	if err != nil {
		return nil, nil, err
	}
	if e, err = k.in(c); err != nil {
		c.wipe()
		return nil, nil, err
	}
	return e, c.wipe, nil
}

// in finds the key in a keyring, which must be the one that it was opened from.
func (k *Key) in(c *contents) (*entry, error) {
	if id := c.keyID(k.name); id != k.id {
		return nil, replaced(id)
	}
	e, ok := c.keys[k.name]
	if !ok {
		return nil, noSuchKey(k.name)
	}
	return e, nil
}

// describe returns the versions as kms has them.
func (e *entry) describe() []kms.Version {
	out := make([]kms.Version, len(e.versions))
	for i, v := range e.versions {
		out[i] = kms.Version{ID: versionName(v.number), State: v.state.ofKMS(), Primary: v.number == e.primary, Created: v.created, DestroyAt: v.destroyAt}
	}
	return out
}

func (s State) ofKMS() kms.VersionState {
	states := []State{kms.VersionEnabled: Enabled, kms.VersionDisabled: Disabled, kms.VersionPendingDestruction: Pending, kms.VersionDestroyed: Destroyed}
	return kms.VersionState(slices.Index(states, s)) //nolint:gosec // parse lets no other state in
}
