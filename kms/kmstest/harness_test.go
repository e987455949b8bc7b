package kmstest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/waxseal/waxseal/kms"
)

// recorder is a testing.TB that keeps failures to itself.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
}

func (r *recorder) record(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, s)
}
func (r *recorder) Helper()                        {}
func (r *recorder) Logf(string, ...any)            {}
func (r *recorder) Error(args ...any)              { r.record(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any)   { r.record(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatalf(f string, args ...any)   { r.record(fmt.Sprintf(f, args...)); r.exit() }
func (r *recorder) exit()                          { panic(errExit) }
func (r *recorder) check(c conformance, h Harness) { defer r.caught(); c.check(r, h) }
func (r *recorder) caught() {
	if p := recover(); p != nil && p != any(errExit) {
		panic(p)
	}
}

var errExit = errors.New("the recorded test is over")

// broken is a Fake that breaks a promise.
type broken struct {
	*Fake
	id     func() string
	wrap   func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error)
	unwrap func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error)
}

func (b *broken) ID() string {
	if b.id != nil {
		return b.id()
	}
	return b.Fake.ID()
}

func (b *broken) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	if b.wrap != nil {
		return b.wrap(ctx, dataKeys, ec)
	}
	return b.Fake.Wrap(ctx, dataKeys, ec)
}

func (b *broken) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	if b.unwrap != nil {
		return b.unwrap(ctx, wrapped, ec)
	}
	return b.Fake.Unwrap(ctx, wrapped, ec)
}

// brokenHarness gives out keys that breakKey has broken.
func brokenHarness(breakKey func(*broken)) Harness {
	var n atomic.Int64
	handle := func(f *Fake) kms.Key {
		b := &broken{Fake: f}
		breakKey(b)
		return b
	}
	newKey := func(testing.TB) kms.Key { return handle(NewFake(fmt.Sprintf("broken-%d", n.Add(1)))) }
	return Harness{
		NewKey: newKey, OtherKey: newKey,
		Reopen:      func(_ testing.TB, k kms.Key) kms.Key { return handle(k.(*broken).Reopen()) },
		Rotate:      func(_ testing.TB, k kms.Key) { k.(*broken).Rotate() },
		Disable:     func(_ testing.TB, k kms.Key) { k.(*broken).Disable() },
		Enable:      func(_ testing.TB, k kms.Key) { k.(*broken).Enable() },
		VersionTold: true,
	}
}

// onItems changes what Unwrap answers, item by item.
func onItems(change func(b *broken, w kms.Wrapped, u *kms.Unwrapped)) func(*broken) {
	return func(b *broken) {
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			out, err := b.Fake.Unwrap(ctx, wrapped, ec)
			for i := range out {
				change(b, wrapped[i], &out[i])
			}
			return out, err
		}
	}
}

// onErrors changes the errors of single items.
func onErrors(change func(b *broken, w kms.Wrapped, e kms.Error) error) func(*broken) {
	return onItems(func(b *broken, w kms.Wrapped, u *kms.Unwrapped) {
		if e, ok := errors.AsType[*kms.Error](u.Err); ok {
			u.Err = change(b, w, *e)
		}
	})
}

// onBlobs changes what Unwrap is asked.
func onBlobs(change func(blob []byte) []byte) func(*broken) {
	return func(b *broken) {
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			asked := slices.Clone(wrapped)
			for i := range asked {
				asked[i].Blob = change(asked[i].Blob)
			}
			return b.Fake.Unwrap(ctx, asked, ec)
		}
	}
}

// collides fails the second of two calls at one time, and waits for it to come.
func collides() func(*broken) {
	var calls atomic.Int64
	second := make(chan struct{})
	return func(b *broken) {
		b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
			switch calls.Add(1) {
			case 1:
				<-second
			case 2:
				close(second)
				return nil, b.fail(OpWrap, Err(kms.Throttled))
			}
			return b.Fake.Wrap(ctx, dataKeys, ec)
		}
	}
}

// TestSuiteFindsBrokenKeys breaks each promise and wants the case to fail that
// is there for it.
func TestSuiteFindsBrokenKeys(t *testing.T) {
	const inOrder = "batches keep order"
	tests := []struct {
		name, caughtBy string
		harness        Harness
	}{
		{"unrecordable ID", "ID can be recorded and is stable", brokenHarness(func(b *broken) {
			b.id = func() string { return b.Fake.ID() + " " }
		})},
		{"ID that changes", "ID can be recorded and is stable", brokenHarness(func(b *broken) {
			var n atomic.Int64
			b.id = func() string { return fmt.Sprint(b.Fake.ID(), n.Add(1)) }
		})},
		{"wrong plaintext", "round trip", brokenHarness(func(b *broken) { b.Always(WrongDataKey()) })},
		{"no encryption", "round trip", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Fake.Wrap(ctx, dataKeys, ec)
				for i := range out {
					out[i].Blob = append(out[i].Blob, dataKeys[i]...)
				}
				return out, err
			}
		})},
		{"answers in another order", inOrder, brokenHarness(func(b *broken) {
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				out, err := b.Fake.Unwrap(ctx, wrapped, ec)
				slices.Reverse(out)
				return out, err
			}
		})},
		{"an answer too few", inOrder, brokenHarness(func(b *broken) { b.Always(Fault{Drop: true}) })},
		{"the same blob twice", inOrder, brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Fake.Wrap(ctx, dataKeys, ec)
				for i := range out {
					if i > 0 && bytes.Equal(dataKeys[i], dataKeys[0]) {
						out[i] = out[0]
					}
				}
				return out, err
			}
		})},
		{"error for nothing", "empty batch gives empty answer", brokenHarness(func(b *broken) {
			b.Each(func(c Call) Fault {
				if c.Items == 0 {
					return Fail(kms.Internal)
				}
				return Healthy()
			})
		})},
		{"blob too large", "wrapped size and version", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Fake.Wrap(ctx, dataKeys, ec)
				for i := range out {
					out[i].Blob = append(out[i].Blob, make([]byte, kms.MaxWrappedSize)...)
				}
				return out, err
			}
		})},
		{"version not told", "wrapped size and version", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Fake.Wrap(ctx, dataKeys, ec)
				for i := range out {
					out[i].Version = ""
				}
				return out, err
			}
		})},
		{"version believed", "version is read from the blob", brokenHarness(onItems(func(b *broken, w kms.Wrapped, u *kms.Unwrapped) {
			if w.Version != "1" {
				*u = kms.Unwrapped{Err: b.fail(OpUnwrap, Err(kms.NotFound))}
			}
		}))},
		{"context ignored", "wrong context is refused", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, _ kms.Context) ([]kms.Wrapped, error) {
				return b.Fake.Wrap(ctx, dataKeys, nil)
			}
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, _ kms.Context) ([]kms.Unwrapped, error) {
				return b.Fake.Unwrap(ctx, wrapped, nil)
			}
		})},
		{"other key used", "wrong key is refused", brokenHarness(sharesKeys())},
		{"a bit not authenticated", "tampered blob is refused", brokenHarness(onBlobs(func(blob []byte) []byte {
			// The version is below 128 in tests, so its top bits carry nothing.
			fixed := bytes.Clone(blob)
			if len(fixed) > 0 {
				fixed[0] &^= 0x80
			}
			return fixed
		}))},
		{"length not checked", "lengthened blob is refused", brokenHarness(onBlobs(func(blob []byte) []byte {
			return blob[:min(len(blob), fakeBlobSize)]
		}))},
		{"length not checked", "oversized blob is refused", brokenHarness(onBlobs(func(blob []byte) []byte {
			return blob[:min(len(blob), fakeBlobSize)]
		}))},
		{"oversized sent on", "oversized blob is refused", brokenHarness(onErrors(func(_ *broken, _ kms.Wrapped, e kms.Error) error {
			e.Class = kms.Unavailable
			return &e
		}))},
		{"short blob taken for an outage", "truncated blob is refused", brokenHarness(onErrors(func(_ *broken, w kms.Wrapped, e kms.Error) error {
			if len(w.Blob) < fakeBlobSize {
				e.Class = kms.Unavailable
			}
			return &e
		}))},
		{"empty blob passed over", "empty blob is refused", brokenHarness(onItems(func(_ *broken, w kms.Wrapped, u *kms.Unwrapped) {
			if len(w.Blob) == 0 {
				*u = kms.Unwrapped{}
			}
		}))},
		{"foreign bytes taken for a bug", "foreign bytes are refused", brokenHarness(onErrors(func(_ *broken, _ kms.Wrapped, e kms.Error) error {
			e.Class = kms.Internal
			return &e
		}))},
		{"one item fails all", "one bad item harms no other", brokenHarness(func(b *broken) {
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				out, err := b.Fake.Unwrap(ctx, wrapped, ec)
				for _, u := range out {
					if u.Err != nil {
						return nil, u.Err
					}
				}
				return out, err
			}
		})},
		{"a data key beside the error", "one bad item harms no other", brokenHarness(onItems(func(_ *broken, _ kms.Wrapped, u *kms.Unwrapped) {
			if u.Err != nil {
				u.DataKey = make([]byte, kms.DataKeySize)
			}
		}))},
		{"any length wrapped", "wrong data key length is refused", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				padded := make([][]byte, len(dataKeys))
				for i, d := range dataKeys {
					padded[i] = append(bytes.Clone(d), make([]byte, kms.DataKeySize)...)[:kms.DataKeySize]
				}
				return b.Fake.Wrap(ctx, padded, ec)
			}
		})},
		{"context's end ignored", "ended context gives Canceled", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				return b.Fake.Wrap(context.WithoutCancel(ctx), dataKeys, ec)
			}
		})},
		{"end taken for an outage", "ended context gives Canceled", brokenHarness(func(b *broken) {
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				if ctx.Err() != nil {
					return nil, b.fail(OpUnwrap, Err(kms.Unavailable))
				}
				return b.Fake.Unwrap(ctx, wrapped, ec)
			}
		})},
		{"data keys wiped", "arguments are not mutated", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Fake.Wrap(ctx, dataKeys, ec)
				for _, d := range dataKeys {
					clear(d)
				}
				return out, err
			}
		})},
		{"data keys remembered", "answers are not aliased", brokenHarness(func(b *broken) {
			var mu sync.Mutex
			seen := map[string]kms.Unwrapped{}
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				out, err := b.Fake.Unwrap(ctx, wrapped, ec)
				mu.Lock()
				defer mu.Unlock()
				for i := range out {
					if u, ok := seen[string(wrapped[i].Blob)]; ok {
						out[i] = u
					}
					seen[string(wrapped[i].Blob)] = out[i]
				}
				return out, err
			}
		})},
		{"not safe for concurrent use", "concurrent use", brokenHarness(collides())},
		{"not safe for concurrent use", "rotation under load", brokenHarness(collides())},
		{"second handle to another key", "a second handle is the same key", func() Harness {
			h := brokenHarness(func(*broken) {})
			h.Reopen = func(_ testing.TB, k kms.Key) kms.Key {
				return NewFake(strings.TrimPrefix(k.ID(), "fake://"))
			}
			return h
		}()},
		{"rotation that does nothing", "old versions open after rotation", func() Harness {
			h := brokenHarness(func(*broken) {})
			h.Rotate = func(testing.TB, kms.Key) {}
			return h
		}()},
		{"rotation that forgets", "old versions open after rotation", func() Harness {
			h := brokenHarness(func(*broken) {})
			h.Rotate = func(_ testing.TB, k kms.Key) {
				b := k.(*broken)
				fresh := NewFake(strings.TrimPrefix(k.ID(), "fake://"))
				for range b.key.versions {
					fresh.Rotate()
				}
				b.Fake = fresh
			}
			return h
		}()},
		{"second handle stays behind", "a second handle follows rotation", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Fake.Wrap(ctx, dataKeys, ec)
				for i := range out {
					out[i].Version = "1"
				}
				return out, err
			}
		})},
		{"disabling does nothing", "disabled key gives Disabled", func() Harness {
			h := brokenHarness(func(*broken) {})
			h.Disable = func(testing.TB, kms.Key) {}
			return h
		}()},
		{"error of another type", "wrong context is refused", brokenHarness(onErrors(func(*broken, kms.Wrapped, kms.Error) error {
			return errors.New("no")
		}))},
		{"error without operation", "wrong context is refused", brokenHarness(onErrors(func(_ *broken, _ kms.Wrapped, e kms.Error) error {
			e.Op = ""
			return &e
		}))},
		{"error without key", "wrong context is refused", brokenHarness(onErrors(func(_ *broken, _ kms.Wrapped, e kms.Error) error {
			e.KeyID = ""
			return &e
		}))},
		{"blob in the hint", "wrong context is refused", brokenHarness(onErrors(func(_ *broken, w kms.Wrapped, e kms.Error) error {
			e.Advice = "look at " + hex.EncodeToString(w.Blob)
			return &e
		}))},
		{"blob in the text", "tampered blob is refused", brokenHarness(onErrors(func(_ *broken, w kms.Wrapped, e kms.Error) error {
			e.Detail = base64.RawURLEncoding.EncodeToString(w.Blob)
			return &e
		}))},
	}

	byName := map[string]conformance{}
	uncaught := map[string]bool{}
	for _, c := range conformanceCases() {
		if _, twice := byName[c.name]; twice {
			t.Errorf("two cases named %q", c.name)
		}
		byName[c.name], uncaught[c.name] = c, true
	}
	for _, tt := range tests {
		t.Run(tt.name+"/"+tt.caughtBy, func(t *testing.T) {
			c, ok := byName[tt.caughtBy]
			if !ok {
				t.Fatalf("no case %q", tt.caughtBy)
			}
			delete(uncaught, tt.caughtBy)
			r := &recorder{TB: t}
			r.check(c, tt.harness)
			if len(r.failures) == 0 {
				t.Errorf("the case %q does not find it", tt.caughtBy)
			}
			t.Log(r.failures)
		})
	}
	if len(uncaught) > 0 && !subtestsChosen() {
		t.Errorf("cases of which nothing shows that they can fail: %v", uncaught)
	}
}

// sharesKeys has every key unwrap what any of them wrapped.
func sharesKeys() func(*broken) {
	var all []*Fake
	return func(b *broken) {
		all = append(all, b.Fake)
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			for _, f := range all {
				if out, err := f.Unwrap(ctx, wrapped, ec); err == nil && out[0].Err == nil {
					return out, nil
				}
			}
			return b.Fake.Unwrap(ctx, wrapped, ec)
		}
	}
}

func TestHarnessProblems(t *testing.T) {
	none := func(testing.TB, kms.Key) {}
	complete := fakeHarness()
	tests := []struct {
		name   string
		change func(*Harness)
		want   []string
	}{
		{"complete", func(*Harness) {}, nil},
		{"powers lacking with a reason", func(h *Harness) {
			h.Rotate, h.Disable, h.Enable = nil, nil, nil
			h.Lacks = map[Power]string{PowerRotate: "static key", PowerDisable: "static key"}
		}, nil},
		{"empty", func(h *Harness) { *h = Harness{} }, []string{
			"NewKey is nil", "OtherKey is nil", "Reopen is nil",
			"neither given nor named in Lacks: disable", "neither given nor named in Lacks: rotate",
		}},
		{"no reason", func(h *Harness) { h.Rotate = nil; h.Lacks = map[Power]string{PowerRotate: " "} }, []string{"Lacks gives no reason for rotate"}},
		{"lacking and there", func(h *Harness) { h.Lacks = map[Power]string{PowerRotate: "no"} }, []string{"Lacks names a power that is there: rotate"}},
		{"unknown power", func(h *Harness) { h.Lacks = map[Power]string{"flight": "no wings"} }, []string{"Lacks names an unknown power: flight"}},
		{"half a power", func(h *Harness) { h.Enable = nil }, []string{"Disable and Enable come together"}},
		{"other half", func(h *Harness) {
			h.Disable, h.Enable = nil, none
			h.Lacks = map[Power]string{PowerDisable: "half"}
		}, []string{"Disable and Enable come together"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := complete
			tt.change(&h)
			if diff := cmp.Diff(tt.want, h.problems()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCasesForPowers(t *testing.T) {
	all := len(conformanceCases())
	h := fakeHarness()
	if got := len(casesFor(h)); got != all {
		t.Errorf("with every power %d of %d cases", got, all)
	}
	h.Lacks = map[Power]string{PowerRotate: "no"}
	if got := len(casesFor(h)); got != all-3 {
		t.Errorf("without rotation %d of %d cases", got, all)
	}
	h.Lacks[PowerDisable] = "no"
	if got := len(casesFor(h)); got != all-4 {
		t.Errorf("without any power %d of %d cases", got, all)
	}
	if all < 25 {
		t.Errorf("the suite shrank to %d cases", all)
	}
}

func TestReveals(t *testing.T) {
	secret := newDataKeys(1)[0]
	for name, text := range map[string]string{
		"raw":            "x" + string(secret),
		"quoted":         fmt.Sprintf("%q", secret),
		"upper-case hex": fmt.Sprintf("%X", secret),
		"base64":         base64.StdEncoding.EncodeToString(secret),
		"cut base64":     base64.RawURLEncoding.EncodeToString(secret)[:24],
		"%v":             fmt.Sprintf("%v", secret),
		"%#v":            fmt.Sprintf("%#v", secret),
	} {
		if reveals(text, secret) == "" {
			t.Errorf("%s: not found", name)
		}
	}
	if how := reveals("kms: unwrap: corrupt", secret); how != "" {
		t.Errorf("found %s where it is not", how)
	}
	if how := reveals("kms: unwrap", []byte("unwrap")); how != "" {
		t.Errorf("a short text is taken for a secret %s", how)
	}
}
