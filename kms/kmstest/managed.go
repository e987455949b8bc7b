package kmstest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// fakeWait is how long a Managed leaves for a change of mind by default.
const fakeWait = 24 * time.Hour

// Managed is a Fake with the powers that only some keys have: kms.Rewrapper,
// kms.Rotator, kms.Retirer and kms.Prober. Its calls meet the same scripts and are counted
// with those of the Fake. Safe for concurrent use.
//
// The methods of Rotator and Retirer hide those of the Fake that have the same name: write
// m.Fake.Disable() for what a test does to the key behind its back.
type Managed struct {
	*Fake
}

var (
	_ kms.Key       = (*Managed)(nil)
	_ kms.Rewrapper = (*Managed)(nil)
	_ kms.Rotator   = (*Managed)(nil)
	_ kms.Retirer   = (*Managed)(nil)
	_ kms.Prober    = (*Managed)(nil)
)

// Managed returns the same handle with further powers.
func (f *Fake) Managed() *Managed { return &Managed{f} }

// ask runs do as a call of op, with what is scripted for it.
func (m *Managed) ask(ctx context.Context, op Op, do func() error) error {
	fault := m.begin(op, 0, nil)
	err := m.suffer(ctx, op, fault)
	if err == nil {
		if err = do(); err != nil {
			err = m.fail(op, err)
		}
	}
	m.end(op, err)
	return err
}

// RewrapsFrom implements kms.Rewrapper: a Managed takes what the same key
// wrapped, through whichever handle, and no other.
func (m *Managed) RewrapsFrom(source kms.Key) bool {
	key := fakeKeyOf(source)
	return key != nil && key == m.key
}

// fakeKeyOf returns the key behind a handle, nil if that is none of a Fake's.
func fakeKeyOf(key kms.Key) *fakeKey {
	if f, ok := kms.As[interface{ fake() *Fake }](key); ok {
		return f.fake().key
	}
	return nil
}

func (f *Fake) fake() *Fake { return f }

// Rewrap implements kms.Rewrapper.
func (m *Managed) Rewrap(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
	if err := ec.Check(string(OpRewrap), m.ID()); err != nil {
		return nil, err
	}
	fault := m.begin(OpRewrap, len(wrapped), ec)
	out, err := m.doRewrap(ctx, fault, source, wrapped, ec)
	m.end(OpRewrap, err)
	return out, err
}

func (m *Managed) doRewrap(ctx context.Context, fault Fault, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
	if err := m.suffer(ctx, OpRewrap, fault); err != nil {
		return nil, err
	}
	if !m.RewrapsFrom(source) {
		return nil, m.fail(OpRewrap, &kms.Error{Detail: "a Fake rewraps only what it wrapped itself", Advice: "unwrap with the one key and wrap with the other"})
	}
	if err := m.key.ready(); err != nil {
		return nil, m.fail(OpRewrap, err)
	}
	out := make([]kms.Rewrapped, len(wrapped))
	for i, w := range wrapped {
		anew, err := m.rewrapOne(fault.ItemErrs[i], w, ec)
		if err != nil {
			out[i].Err = m.fail(OpRewrap, err)
			continue
		}
		if fault.FlipBlob {
			anew.Blob[len(anew.Blob)/2] ^= 1
		}
		out[i].Wrapped = anew
	}
	if fault.Drop && len(out) > 0 {
		out = out[:len(out)-1]
	}
	return out, nil
}

func (m *Managed) rewrapOne(scripted error, w kms.Wrapped, ec kms.Context) (kms.Wrapped, error) {
	if scripted != nil {
		return kms.Wrapped{}, scripted
	}
	dataKey, err := m.key.unwrap(w, ec)
	if err != nil {
		return kms.Wrapped{}, err
	}
	defer clear(dataKey)
	anew, err := m.key.wrap([][]byte{dataKey}, ec)
	if err != nil {
		return kms.Wrapped{}, err
	}
	return anew[0], nil
}

// Rotate implements kms.Rotator.
func (m *Managed) Rotate(ctx context.Context) (made kms.Version, err error) {
	err = m.ask(ctx, OpRotate, func() error {
		id := m.key.rotate()
		versions := m.key.list()
		made = versions[slices.IndexFunc(versions, func(v kms.Version) bool { return v.ID == id })]
		return nil
	})
	return made, err
}

// Versions implements kms.Rotator.
func (m *Managed) Versions(ctx context.Context) (versions []kms.Version, err error) {
	err = m.ask(ctx, OpVersions, func() error { versions = m.key.list(); return nil })
	return versions, err
}

// Disable implements kms.Retirer.
func (m *Managed) Disable(ctx context.Context, version string) error {
	return m.ask(ctx, OpDisable, func() error { return m.switchTo(version, kms.VersionDisabled) })
}

// Enable implements kms.Retirer.
func (m *Managed) Enable(ctx context.Context, version string) error {
	return m.ask(ctx, OpEnable, func() error { return m.switchTo(version, kms.VersionEnabled) })
}

func (m *Managed) switchTo(version string, state kms.VersionState) error {
	return m.key.set(version,
		func(k *fakeKey) error {
			if !k.deleteAt.IsZero() {
				return k.usable()
			}
			k.disabled = state == kms.VersionDisabled
			return nil
		},
		func(v *fakeVersion) error {
			if v.state != kms.VersionEnabled && v.state != kms.VersionDisabled {
				return v.usable()
			}
			v.state = state
			return nil
		})
}

// Destroy implements kms.Retirer: the destruction is scheduled for wait from now,
// 24 hours if wait is zero, and never comes about by itself.
func (m *Managed) Destroy(ctx context.Context, version string, wait time.Duration) (at time.Time, err error) {
	if wait == 0 {
		wait = fakeWait
	}
	err = m.ask(ctx, OpDestroy, func() error {
		at = time.Now().UTC().Add(wait)
		return m.key.set(version,
			func(k *fakeKey) error {
				if !k.disabled {
					return stillEnabled()
				}
				k.deleteAt = at
				return nil
			},
			func(v *fakeVersion) error {
				switch v.state {
				case kms.VersionEnabled:
					return stillEnabled()
				case kms.VersionDestroyed:
					return v.usable()
				case kms.VersionDisabled, kms.VersionPendingDestruction, kms.VersionUnavailable:
				}
				v.state, v.destroyAt = kms.VersionPendingDestruction, at
				return nil
			})
	})
	if err != nil {
		return time.Time{}, err
	}
	return at, nil
}

func stillEnabled() error {
	return fakeError(kms.Invalid, "it is enabled: only what is disabled is destroyed")
}

// Restore implements kms.Retirer.
func (m *Managed) Restore(ctx context.Context, version string) error {
	return m.ask(ctx, OpRestore, func() error {
		return m.key.set(version,
			func(k *fakeKey) error {
				if k.deleteAt.IsZero() {
					return fakeError(kms.Invalid, "its deletion is not scheduled")
				}
				k.deleteAt = time.Time{}
				return nil
			},
			func(v *fakeVersion) error {
				switch v.state {
				case kms.VersionPendingDestruction:
					v.state, v.destroyAt = kms.VersionDisabled, time.Time{}
					return nil
				case kms.VersionDestroyed:
					return v.usable()
				case kms.VersionEnabled, kms.VersionDisabled, kms.VersionUnavailable:
				}
				return fakeError(kms.Invalid, "its destruction is not scheduled")
			})
	})
}

// Probe implements kms.Prober.
func (m *Managed) Probe(ctx context.Context) (report kms.Report, err error) {
	err = m.ask(ctx, OpProbe, func() error {
		if err := m.key.ready(); err != nil {
			return err
		}
		report = kms.Report{
			Identity: "a test", Key: fmt.Sprintf("AES-256-GCM in memory, version %s", m.key.version()), SkewKnown: true,
			Warnings: []string{"This key is lost when the process ends."},
		}
		return nil
	})
	return report, err
}
