package kmstest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// fakeWait is the default time between Managed.Destroy and the destruction.
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

// manage runs do as a call of op, with the fault that is scripted for it.
func (m *Managed) manage(ctx context.Context, op Op, do func() error) error {
	_, err := answer(ctx, m.Fake, op, 0, nil, func(Fault) ([]struct{}, error) { return nil, do() })
	return err
}

// change runs do as a call of op on a version, or on the whole key.
func (m *Managed) change(ctx context.Context, op Op, version string, do func(*lifecycle) error) error {
	return m.manage(ctx, op, func() error { return m.key.change(version, do) })
}

// RewrapsFrom implements kms.Rewrapper: a Managed takes what the same key
// wrapped, through any handle, and no other.
func (m *Managed) RewrapsFrom(source kms.Key) bool {
	key := fakeKeyOf(source)
	return key != nil && key == m.key
}

// fakeKeyOf returns the key behind a handle of a Fake, nil for other handles.
func fakeKeyOf(key kms.Key) *fakeKey {
	if f, ok := kms.As[interface{ fake() *Fake }](key); ok {
		return f.fake().key
	}
	return nil
}

func (f *Fake) fake() *Fake { return f }

// Rewrap implements kms.Rewrapper.
func (m *Managed) Rewrap(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
	return answer(ctx, m.Fake, OpRewrap, len(wrapped), ec, func(fault Fault) ([]kms.Rewrapped, error) {
		if !m.RewrapsFrom(source) {
			return nil, &kms.Error{Detail: "a Fake rewraps only what it wrapped itself", Advice: "unwrap with the one key and wrap with the other"}
		}
		if err := m.key.ready(); err != nil {
			return nil, err
		}
		out := make([]kms.Rewrapped, len(wrapped))
		for i, w := range wrapped {
			anew, err := m.rewrapOne(fault.ItemErrs[i], w, ec)
			if err != nil {
				out[i].Err = m.fail(OpRewrap, err)
				continue
			}
			fault.spoil(anew)
			out[i].Wrapped = anew
		}
		return out, nil
	})
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
	err = m.manage(ctx, OpRotate, func() error {
		id := m.key.rotate()
		versions := m.key.list()
		made = versions[slices.IndexFunc(versions, func(v kms.Version) bool { return v.ID == id })]
		return nil
	})
	return made, err
}

// Versions implements kms.Rotator.
func (m *Managed) Versions(ctx context.Context) (versions []kms.Version, err error) {
	err = m.manage(ctx, OpVersions, func() error { versions = m.key.list(); return nil })
	return versions, err
}

// Disable implements kms.Retirer.
func (m *Managed) Disable(ctx context.Context, version string) error {
	return m.change(ctx, OpDisable, version, func(l *lifecycle) error { return l.switchTo(kms.VersionDisabled) })
}

// Enable implements kms.Retirer.
func (m *Managed) Enable(ctx context.Context, version string) error {
	return m.change(ctx, OpEnable, version, func(l *lifecycle) error { return l.switchTo(kms.VersionEnabled) })
}

// Destroy implements kms.Retirer: the destruction is scheduled for wait from now,
// 24 hours if wait is zero, and never comes about by itself.
func (m *Managed) Destroy(ctx context.Context, version string, wait time.Duration) (at time.Time, err error) {
	err = m.change(ctx, OpDestroy, version, func(l *lifecycle) error {
		at = time.Now().UTC().Add(cmp.Or(wait, fakeWait))
		return l.destroy(at)
	})
	if err != nil {
		return time.Time{}, err
	}
	return at, nil
}

// Restore implements kms.Retirer.
func (m *Managed) Restore(ctx context.Context, version string) error {
	return m.change(ctx, OpRestore, version, (*lifecycle).restore)
}

// Probe implements kms.Prober.
func (m *Managed) Probe(ctx context.Context) (report kms.Report, err error) {
	err = m.manage(ctx, OpProbe, func() error {
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
