package kmstest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// onRewraps changes what Rewrap answers.
func onRewraps(change func(b *broken, wrapped []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error)) Harness {
	return brokenHarness(func(b *broken) {
		b.rewrap = func(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
			out, err := b.Managed.Rewrap(ctx, source, wrapped, ec)
			return change(b, wrapped, out, err)
		}
	})
}

// sabotageOfPowers breaks what only some keys promise.
func sabotageOfPowers() []sabotage {
	return slices.Concat(sabotageOfRewrapper(), sabotageOfRotator(), sabotageOfProber())
}

func sabotageOfRewrapper() []sabotage {
	return []sabotage{
		{"the blob as it was", "rewrap keeps the data key and the context", onRewraps(func(_ *broken, wrapped []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			for i := range out {
				out[i].Wrapped = wrapped[i]
			}
			return out, err
		})},
		{"another data key", "rewrap keeps the data key and the context", brokenHarness(func(b *broken) {
			b.rewrap = func(ctx context.Context, _ kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
				fresh, err := b.Wrap(ctx, newDataKeys(len(wrapped)), ec)
				out := make([]kms.Rewrapped, len(fresh))
				for i, w := range fresh {
					out[i].Wrapped = w
				}
				return out, err
			}
		})},
		{"the context lost", "rewrap keeps the data key and the context", brokenHarness(func(b *broken) {
			b.rewrap = func(ctx context.Context, _ kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
				out := make([]kms.Rewrapped, len(wrapped))
				for i, w := range wrapped {
					d, err := b.key.unwrap(w, ec)
					if err != nil {
						return nil, b.fail(OpRewrap, err)
					}
					anew, err := b.key.wrap([][]byte{d}, nil)
					if err != nil {
						return nil, b.fail(OpRewrap, err)
					}
					out[i].Wrapped = anew[0]
				}
				return out, nil
			}
		})},
		{"another order", "rewrap of 250 keeps order", onRewraps(func(_ *broken, _ []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			slices.Reverse(out)
			return out, err
		})},
		{"error for nothing", "rewrap of nothing gives nothing", onRewraps(func(b *broken, wrapped []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			if len(wrapped) == 0 {
				return nil, b.fail(OpRewrap, Err(kms.Internal))
			}
			return out, err
		})},
		{"the version as it was", "rewrap moves to the current version", onRewraps(func(_ *broken, wrapped []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			for i := range out {
				out[i].Wrapped.Version = wrapped[i].Version
			}
			return out, err
		})},
		{"any context does", "rewrap under the wrong context is refused", brokenHarness(func(b *broken) {
			b.rewrap = func(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, _ kms.Context) ([]kms.Rewrapped, error) {
				return b.Managed.Rewrap(ctx, source, wrapped, testContext())
			}
		})},
		{"one item fails all", "rewrap: bad items harm no other", onRewraps(func(_ *broken, _ []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			for _, r := range out {
				if r.Err != nil {
					return nil, r.Err
				}
			}
			return out, err
		})},
		{"says yes and does no", "rewrap from another key, if it takes it", brokenHarness(func(b *broken) {
			b.rewraps = func(kms.Key) bool { return true }
		})},
		{"refused as if altered", "rewrap from another key, if it takes it", onRewraps(func(b *broken, _ []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			if err != nil {
				err = b.fail(OpRewrap, Err(kms.Corrupt))
			}
			return out, err
		})},
		{"takes strangers", "rewrap from a stranger's key is refused", brokenHarness(func(b *broken) {
			b.rewraps = func(kms.Key) bool { return true }
		})},
		{"blobs wiped", "rewrap mutates nothing and aliases nothing", onRewraps(func(_ *broken, wrapped []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			for _, w := range wrapped {
				clear(w.Blob)
			}
			return out, err
		})},
		{"one memory for all blobs", "rewrap mutates nothing and aliases nothing", onRewraps(func(_ *broken, _ []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			var all []byte
			for _, r := range out {
				all = append(all, r.Wrapped.Blob...)
			}
			for i := range out {
				out[i].Wrapped.Blob = all[i*fakeBlobSize : (i+1)*fakeBlobSize]
			}
			return out, err
		})},
		{"context's end ignored", "rewrap under an ended context gives Canceled", brokenHarness(func(b *broken) {
			b.rewrap = func(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
				return b.Managed.Rewrap(context.WithoutCancel(ctx), source, wrapped, ec)
			}
		})},
		{"off taken for an outage", "rewrap with a disabled key gives Disabled", onRewraps(func(b *broken, _ []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			if err != nil {
				err = b.fail(OpRewrap, Err(kms.Unavailable))
			}
			return out, err
		})},
		{"every failure is internal", "rewrap fails as wrap does", onRewraps(func(b *broken, _ []kms.Wrapped, out []kms.Rewrapped, err error) ([]kms.Rewrapped, error) {
			if err != nil {
				err = b.fail(OpRewrap, Err(kms.Internal))
			}
			return out, err
		})},
	}
}

func onVersions(change func(versions []kms.Version) []kms.Version) Harness {
	return brokenHarness(func(b *broken) {
		b.versions = func(ctx context.Context) ([]kms.Version, error) {
			versions, err := b.Managed.Versions(ctx)
			return change(versions), err
		}
	})
}

func sabotageOfRotator() []sabotage {
	const list = "Versions: in order, with one primary"
	const rotate = "Rotate gives a new primary, and old data opens"
	// bare is what a backend says that forgot about hints.
	bare := &kms.Error{Op: "disable", KeyID: "fake://key-1", Err: errors.ErrUnsupported}
	return []sabotage{
		{"newest first", list, onVersions(func(v []kms.Version) []kms.Version { slices.Reverse(v); return v })},
		{"no primary", list, onVersions(func(v []kms.Version) []kms.Version {
			for i := range v {
				v[i].Primary = false
			}
			return v
		})},
		{"local time", list, onVersions(func(v []kms.Version) []kms.Version {
			for i := range v {
				v[i].Created = v[i].Created.In(time.FixedZone("here", 3600))
			}
			return v
		})},
		{"destruction out of nothing", list, onVersions(func(v []kms.Version) []kms.Version { v[0].DestroyAt = time.Now(); return v })},
		{"one name for all", list, onVersions(func(v []kms.Version) []kms.Version {
			for i := range v {
				v[i].ID = "1"
			}
			return v
		})},
		{"rotation that does nothing", rotate, brokenHarness(func(b *broken) {
			b.rotate = func(context.Context) (kms.Version, error) { return b.key.list()[0], nil }
		})},
		{"rotation that forgets", rotate, brokenHarness(func(b *broken) {
			b.rotate = func(ctx context.Context) (kms.Version, error) {
				for _, v := range b.key.list() {
					b.DestroyVersion(v.ID)
				}
				return b.Managed.Rotate(ctx)
			}
		})},
		{"tells of the version before", rotate, brokenHarness(func(b *broken) {
			b.rotate = func(ctx context.Context) (kms.Version, error) {
				_, err := b.Managed.Rotate(ctx)
				return b.key.list()[0], err
			}
		})},
		{"switches off the whole key", "Disable and Enable a version", brokenHarness(func(b *broken) {
			b.disable = func(ctx context.Context, _ string) error { return b.Managed.Disable(ctx, "") }
		})},
		{"not supported, and no advice", "Disable and Enable a version", brokenHarness(func(b *broken) {
			b.disable = func(context.Context, string) error { return bare }
		})},
		{"off for good", "Disable and Enable the key", brokenHarness(func(b *broken) {
			b.enable = func(context.Context, string) error { return nil }
		})},
		{"destroys at once", "Destroy and Restore a version", brokenHarness(func(b *broken) {
			b.destroy = func(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
				at, err := b.Managed.Destroy(ctx, version, wait)
				b.DestroyVersion(version)
				return at, err
			}
		})},
		{"restored is enabled", "Destroy and Restore a version", brokenHarness(func(b *broken) {
			b.restore = func(ctx context.Context, version string) error {
				return errors.Join(b.Managed.Restore(ctx, version), b.Managed.Enable(ctx, version))
			}
		})},
		{"works until destroyed", "Destroy and Restore the key", brokenHarness(func(b *broken) {
			b.destroy = func(context.Context, string, time.Duration) (time.Time, error) {
				b.Fake.Enable()
				return time.Now().Add(time.Hour), nil
			}
		})},
		{"destroys what is in use", "Destroy of an enabled version is refused", brokenHarness(func(b *broken) {
			b.destroy = func(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
				if err := b.Managed.Disable(ctx, version); err != nil {
					return time.Time{}, err
				}
				return b.Managed.Destroy(ctx, version, wait)
			}
		})},
		{"any name means the key", "an unknown version is refused", brokenHarness(func(b *broken) {
			b.enable = func(ctx context.Context, _ string) error { return b.Managed.Enable(ctx, "") }
		})},
		{"context's end ignored", "Rotator under an ended context gives Canceled", brokenHarness(func(b *broken) {
			b.rotate = func(ctx context.Context) (kms.Version, error) { return b.Managed.Rotate(context.WithoutCancel(ctx)) }
		})},
		{"every failure is internal", "Rotator fails as wrap does", brokenHarness(func(b *broken) {
			b.versions = func(ctx context.Context) ([]kms.Version, error) {
				v, err := b.Managed.Versions(ctx)
				if err != nil {
					err = b.fail(OpVersions, Err(kms.Internal))
				}
				return v, err
			}
		})},
	}
}

func onReports(change func(b *broken, r *kms.Report, err error) error) Harness {
	return brokenHarness(func(b *broken) {
		b.probe = func(ctx context.Context) (kms.Report, error) {
			r, err := b.Managed.Probe(ctx)
			return r, change(b, &r, err)
		}
	})
}

func sabotageOfProber() []sabotage {
	const healthy = "Probe describes a healthy key"
	report := func(change func(r *kms.Report)) Harness {
		return brokenHarness(func(b *broken) {
			b.probe = func(ctx context.Context) (kms.Report, error) {
				r, err := b.Managed.Probe(ctx)
				change(&r)
				return r, err
			}
		})
	}
	return []sabotage{
		{"nothing about the key", healthy, report(func(r *kms.Report) { r.Key = "" })},
		{"a credential", healthy, report(func(r *kms.Report) { r.Identity = "the fake's own credential" })},
		{"expired yet working", healthy, report(func(r *kms.Report) { r.Expires = time.Now().Add(-time.Hour) })},
		{"the clocks far apart", healthy, report(func(r *kms.Report) { r.Skew = -time.Hour })},
		{"a warning of nothing", healthy, report(func(r *kms.Report) { r.Warnings = []string{" "} })},
		{"context's end ignored", "Probe under an ended context gives Canceled", brokenHarness(func(b *broken) {
			b.probe = func(ctx context.Context) (kms.Report, error) { return b.Managed.Probe(context.WithoutCancel(ctx)) }
		})},
		{"off is well", "Probe of a disabled key gives Disabled", onReports(func(*broken, *kms.Report, error) error { return nil })},
		{"every failure is internal", "Probe fails as wrap does", onReports(func(b *broken, _ *kms.Report, err error) error {
			if err != nil {
				err = b.fail(OpProbe, Err(kms.Internal))
			}
			return err
		})},
		{"the end taken for an outage", "Probe ends with its caller when stalled", onReports(func(b *broken, _ *kms.Report, err error) error {
			if err != nil {
				err = b.fail(OpProbe, Err(kms.Unavailable))
			}
			return err
		})},
	}
}
