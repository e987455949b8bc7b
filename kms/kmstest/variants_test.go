package kmstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// lacking says that there is no such operation, as kms.Rotator wants it said.
func lacking(b *broken, op Op) error {
	return &kms.Error{Class: kms.Invalid, Op: string(op), KeyID: b.ID(), Detail: "this KMS has nothing of the kind", Advice: "use what it has instead", Err: errors.ErrUnsupported}
}

// withoutVersions is a KMS that manages whole keys only (AWS KMS).
func withoutVersions(b *broken) {
	b.disable = func(ctx context.Context, version string) error {
		if version != "" {
			return lacking(b, OpDisable)
		}
		return b.Managed.Disable(ctx, version)
	}
	b.enable = func(ctx context.Context, version string) error {
		if version != "" {
			return lacking(b, OpEnable)
		}
		return b.Managed.Enable(ctx, version)
	}
	b.destroy = func(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
		if version != "" {
			return time.Time{}, lacking(b, OpDestroy)
		}
		return b.Managed.Destroy(ctx, version, wait)
	}
	b.restore = func(ctx context.Context, version string) error {
		if version != "" {
			return lacking(b, OpRestore)
		}
		return b.Managed.Restore(ctx, version)
	}
}

// onlyVersions is a KMS with keys that are neither switched off nor destroyed as a whole,
// and that destroys versions at once (Vault).
func onlyVersions(b *broken) {
	b.disable = func(ctx context.Context, version string) error {
		if version == "" {
			return lacking(b, OpDisable)
		}
		return b.Managed.Disable(ctx, version)
	}
	b.enable = func(ctx context.Context, version string) error {
		if version == "" {
			return lacking(b, OpEnable)
		}
		return b.Managed.Enable(ctx, version)
	}
	b.destroy = func(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
		if version == "" {
			return time.Time{}, lacking(b, OpDestroy)
		}
		if _, err := b.Managed.Destroy(ctx, version, wait); err != nil {
			return time.Time{}, err
		}
		b.DestroyVersion(version)
		return time.Now(), nil
	}
	b.restore = func(context.Context, string) error { return lacking(b, OpRestore) }
}

// keysAtOnce is a KMS that destroys whole keys without a wait.
func keysAtOnce(b *broken) {
	b.destroy = func(ctx context.Context, version string, wait time.Duration) (time.Time, error) {
		if _, err := b.Managed.Destroy(ctx, version, wait); err != nil {
			return time.Time{}, err
		}
		for _, v := range b.key.list() {
			if version == "" || version == v.ID {
				b.DestroyVersion(v.ID)
			}
		}
		return time.Now(), nil
	}
}

// rewrapsAny takes what any Fake wrapped, as long as that one still opens it.
func rewrapsAny(b *broken) {
	b.rewraps = func(source kms.Key) bool { return fakeKeyOf(source) != nil }
	b.rewrap = func(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
		from := fakeKeyOf(source)
		if from == nil || from == b.key {
			return b.Managed.Rewrap(ctx, source, wrapped, ec)
		}
		out := make([]kms.Rewrapped, len(wrapped))
		for i, w := range wrapped {
			dataKey, err := from.unwrap(w, ec)
			if err != nil {
				out[i].Err = b.fail(OpRewrap, err)
				continue
			}
			anew, err := b.key.wrap([][]byte{dataKey}, ec)
			if err != nil {
				return nil, b.fail(OpRewrap, err)
			}
			out[i].Wrapped = anew[0]
		}
		return out, nil
	}
}

// TestSuiteTakesWhatIsAllowed runs the suite with keys that keep all promises in another
// way than a Managed does.
func TestSuiteTakesWhatIsAllowed(t *testing.T) {
	slowToReturn := fakeHarness()
	down := slowToReturn.Faults[FaultDown]
	slowToReturn.Faults[FaultDown] = func(t testing.TB, k kms.Key) func() {
		heal := down(t, k)
		return func() { k.(*Managed).ScriptWrap(Fail(kms.Unavailable), Fail(kms.Unavailable)); heal() }
	}
	// A KMS with an answer to an unwrap that names no key.
	silent := fakeHarness()
	silent.Faults[FaultWrongKey] = func(_ testing.TB, k kms.Key) func() {
		b, _ := kms.As[interface{ fake() *Fake }](k)
		disorder := func(c Call) Fault {
			if c.Op == OpUnwrap {
				return Healthy()
			}
			return Fail(kms.Internal)
		}
		b.fake().Each(disorder)
		return b.fake().Heal
	}
	silent.Reopen = func(_ testing.TB, k kms.Key) kms.Key { return k } // one handle, so that both meet the fault
	for name, h := range map[string]Harness{
		"no versions":                brokenHarness(withoutVersions),
		"versions only, no wait":     brokenHarness(onlyVersions),
		"keys destroyed at once":     brokenHarness(keysAtOnce),
		"rewraps from other keys":    brokenHarness(rewrapsAny),
		"slow to return":             slowToReturn,
		"answers that name no key":   silent,
		"behind a decorator":         harnessOf(scriptedFaults(), func(m *Managed) kms.Key { return decorated{m} }),
		"versions that are not told": untold(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range casesFor(h) {
				r := &recorder{TB: t}
				r.check(c, h)
				if len(r.failures) > 0 {
					t.Errorf("%s: %q", c.name, r.failures)
				}
			}
		})
	}
}

// untold is a KMS that does not name the version that wrapped.
func untold() Harness {
	h := brokenHarness(func(b *broken) {
		b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
			out, err := b.Managed.Wrap(ctx, dataKeys, ec)
			for i := range out {
				out[i].Version = ""
			}
			return out, err
		}
		b.rewrap = func(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Rewrapped, error) {
			out, err := b.Managed.Rewrap(ctx, source, wrapped, ec)
			for i := range out {
				out[i].Wrapped.Version = ""
			}
			return out, err
		}
	})
	h.VersionTold = false
	// Versions are named by their order then.
	h.DisableVersion = func(_ testing.TB, k kms.Key, _ string) { k.(*broken).DisableVersion("1") }
	h.DestroyVersion = func(_ testing.TB, k kms.Key, _ string) { k.(*broken).DestroyVersion("1") }
	return h
}
