package kmstest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

// sabotage is a harness that breaks one promise, and the case that is there for it.
type sabotage struct {
	name, caughtBy string
	harness        Harness
}

// basicSabotage breaks what every key promises.
func basicSabotage() []sabotage {
	return []sabotage{
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
		{"answers in another order", "batch of 2 keeps order", brokenHarness(func(b *broken) {
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				out, err := b.Fake.Unwrap(ctx, wrapped, ec)
				slices.Reverse(out)
				return out, err
			}
		})},
		{"an answer too few", "batch of 2 keeps order", brokenHarness(func(b *broken) { b.Always(Fault{Drop: true}) })},
		{"the same blob twice", "batch of 250 keeps order", brokenHarness(func(b *broken) {
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
		{"one item fails all", "one bad item harms no other", brokenHarness(failsWhole())},
		{"all items bad taken for an outage", "a batch of bad items is refused one by one", brokenHarness(func(b *broken) {
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				out, err := b.Managed.Unwrap(ctx, wrapped, ec)
				if !slices.ContainsFunc(out, func(u kms.Unwrapped) bool { return u.Err == nil }) {
					return nil, b.fail(OpUnwrap, Err(kms.Unavailable))
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
		{"second handle to another key", "a second handle is the same key", with(func(h *Harness) {
			h.Reopen = func(_ testing.TB, k kms.Key) kms.Key { return impostor(k) }
		})},
		{"rotation that does nothing", "old versions open after rotation", with(func(h *Harness) {
			h.Rotate = func(testing.TB, kms.Key) {}
		})},
		{"rotation that forgets", "old versions open after rotation", with(func(h *Harness) {
			h.Rotate = func(_ testing.TB, k kms.Key) {
				f := k.(*Managed).Fake
				for _, v := range f.key.versions {
					v.state = kms.VersionDestroyed
				}
				f.Rotate()
			}
		})},
		{"rotation that renames", "rotation keeps the ID", brokenHarness(func(b *broken) {
			b.id = func() string { return b.Fake.ID() + "/" + b.Version() }
		})},
		{"second handle stays behind", "a second handle follows rotation", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Fake.Wrap(ctx, dataKeys, ec)
				for i := range out {
					out[i].Version = "1"
				}
				return out, err
			}
		})},
		{"disabling does nothing", "disabled key gives Disabled", with(func(h *Harness) {
			h.Disable = func(testing.TB, kms.Key) {}
		})},
		{"disabling a version does nothing", "disabled version gives Disabled, others open", with(func(h *Harness) {
			h.DisableVersion = func(testing.TB, kms.Key, string) {}
		})},
		{"disabling a version takes the others along", "disabled version gives Disabled, others open", with(func(h *Harness) {
			h.DisableVersion = func(_ testing.TB, k kms.Key, _ string) { k.(*Managed).Fake.Disable() }
		})},
		{"a lost version fails its whole batch", "disabled version gives Disabled, others open", brokenHarness(failsWhole())},
		{"destroying does nothing", "destroyed version is lost, others open", with(func(h *Harness) {
			h.DestroyVersion = func(testing.TB, kms.Key, string) {}
		})},
		{"destroyed taken for altered", "destroyed version is lost, others open", brokenHarness(onErrors(func(_ *broken, _ kms.Wrapped, e kms.Error) error {
			e.Class = kms.Corrupt
			return &e
		}))},
		{"a key works until it is deleted", "key pending deletion gives Disabled", with(func(h *Harness) {
			h.ScheduleDeletion = func(testing.TB, kms.Key) {}
		})},
		{"error of another type", "changed value is refused", brokenHarness(onErrors(func(*broken, kms.Wrapped, kms.Error) error {
			return errors.New("no")
		}))},
		{"error without operation", "changed value is refused", brokenHarness(onErrors(func(_ *broken, _ kms.Wrapped, e kms.Error) error {
			e.Op = ""
			return &e
		}))},
		{"error without key", "changed value is refused", brokenHarness(onErrors(func(_ *broken, _ kms.Wrapped, e kms.Error) error {
			e.KeyID = ""
			return &e
		}))},
		{"blob in the hint", "changed value is refused", brokenHarness(onErrors(func(_ *broken, w kms.Wrapped, e kms.Error) error {
			e.Advice = "look at " + hex.EncodeToString(w.Blob)
			return &e
		}))},
		{"blob in the text", "tampered blob is refused", brokenHarness(onErrors(func(_ *broken, w kms.Wrapped, e kms.Error) error {
			e.Detail = base64.RawURLEncoding.EncodeToString(w.Blob)
			return &e
		}))},
		{"two keys with one ID", "two keys have two IDs", brokenHarness(func(b *broken) {
			b.id = func() string { return "fake://same" }
		})},
		{"nothing but batches", "batch of 1", brokenHarness(wrongAt(1))},
		{"wrong from 250 on", "batch of 250 keeps order", brokenHarness(wrongAt(250))},
		{"wrong from 1,000 on", "batch of 1,000 keeps order", brokenHarness(wrongAt(1000))},
		{"one data key for equal blobs", "the same blob many times in one batch", brokenHarness(func(b *broken) {
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				out, err := b.Managed.Unwrap(ctx, wrapped, ec)
				for i := range out {
					if bytes.Equal(wrapped[i].Blob, wrapped[0].Blob) {
						out[i] = out[0]
					}
				}
				return out, err
			}
		})},

		{"only one claim bound", "missing claim is refused", brokenHarness(onContexts(func(ec kms.Context) { delete(ec, "workflowType") }))},
		{"only known claims bound", "extra claim is refused", brokenHarness(onContexts(func(ec kms.Context) { delete(ec, "extra") }))},
		{"case ignored", "changed value is refused", brokenHarness(onContexts(func(ec kms.Context) {
			for name, value := range ec {
				ec[name] = strings.ToLower(value)
			}
		}))},
		{"names run into values", "renamed claim is refused", brokenHarness(onContexts(func(ec kms.Context) {
			all := ""
			for _, name := range slices.Sorted(maps.Keys(ec)) {
				all += name + ec[name]
			}
			clear(ec)
			ec["all"] = all
		}))},
		{"values bound without their names", "swapped values are refused", brokenHarness(onContexts(func(ec kms.Context) {
			values := slices.Sorted(maps.Values(ec))
			clear(ec)
			ec["all"] = strings.Join(values, " ")
		}))},
		{"only the first claims bound", "many claims are all bound", brokenHarness(onContexts(func(ec kms.Context) {
			for i, name := range slices.Sorted(maps.Keys(ec)) {
				if i >= 8 {
					delete(ec, name)
				}
			}
		}))},
		{"empty claims left out", "empty name or value is refused", brokenHarness(onContexts(func(ec kms.Context) {
			maps.DeleteFunc(ec, func(name, value string) bool { return name == "" || value == "" })
		}))},
		{"the KMS finds an empty claim", "empty name or value is refused without asking", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				if out, err := b.Managed.Wrap(ctx, dataKeys, nil); err != nil {
					return out, err
				}
				return b.Managed.Wrap(ctx, dataKeys, ec)
			}
		})},
		{"a long context cut short", "oversized context is refused or bound whole", brokenHarness(onContexts(func(ec kms.Context) {
			for name, value := range ec {
				ec[name] = value[:min(len(value), 4096)]
			}
		}))},
		{"a long context taken for an outage", "oversized context is refused or bound whole", brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				if len(ec["namespace"]) > 1<<16 {
					return nil, b.fail(OpWrap, Err(kms.Unavailable))
				}
				return b.Managed.Wrap(ctx, dataKeys, ec)
			}
		})},
		{"the context kept in the key", "contexts of concurrent calls stay apart", brokenHarness(func(b *broken) {
			var last atomic.Value
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				last.Store(ec)
				return b.Managed.Wrap(ctx, dataKeys, ec)
			}
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, _ kms.Context) ([]kms.Unwrapped, error) {
				return b.Managed.Unwrap(ctx, wrapped, last.Load().(kms.Context))
			}
		})},
	}
}

// impostor is another key with the same ID.
func impostor(k kms.Key) *Managed { return NewFake(strings.TrimPrefix(k.ID(), "fake://")).Managed() }

// failsWhole makes one bad item fail the whole Unwrap.
func failsWhole() func(*broken) {
	return func(b *broken) {
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			out, err := b.Managed.Unwrap(ctx, wrapped, ec)
			for _, u := range out {
				if u.Err != nil {
					return nil, u.Err
				}
			}
			return out, err
		}
	}
}

// wrongAt makes the last of n items come back wrong.
func wrongAt(n int) func(*broken) {
	return func(b *broken) {
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			out, err := b.Managed.Unwrap(ctx, wrapped, ec)
			if len(out) == n && out[n-1].Err == nil {
				out[n-1].DataKey[0] ^= 1
			}
			return out, err
		}
	}
}

// onContexts binds to a changed context.
func onContexts(change func(ec kms.Context)) func(*broken) {
	changed := func(ec kms.Context) kms.Context {
		c := maps.Clone(ec)
		if c == nil {
			c = kms.Context{}
		}
		change(c)
		return c
	}
	return func(b *broken) {
		b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
			return b.Managed.Wrap(ctx, dataKeys, changed(ec))
		}
		b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
			return b.Managed.Unwrap(ctx, wrapped, changed(ec))
		}
	}
}

// sabotageOfFaults breaks what a key does while something goes wrong, and after.
func sabotageOfFaults() []sabotage {
	var out []sabotage
	for _, p := range faultPromises() {
		out = append(out,
			sabotage{"another class: " + string(p.fault), p.name, suffering(p.fault, Fail(kms.NotFound))},
			sabotage{"no error: " + string(p.fault), p.name, suffering(p.fault, Healthy())},
		)
	}
	const gives = "denied gives Denied"
	return append(out, []sabotage{
		{"a wait that nobody asked for", "throttled gives Throttled", with(func(h *Harness) {
			h.Faults[FaultThrottled] = h.Faults[FaultThrottledFor]
		})},
		{"the wait is not passed on", "throttled for a time tells how long", with(func(h *Harness) {
			h.Faults[FaultThrottledFor] = h.Faults[FaultThrottled]
		})},
		{"no advice", gives, suffering(FaultDenied, Fault{Err: &kms.Error{Class: kms.Denied}})},
		{"a credential in the text", gives, suffering(FaultDenied, Fault{Err: &kms.Error{
			Class: kms.Denied, Advice: "try again", Detail: "the fake's own credential is not accepted",
		}})},
		{"never healed", gives, with(func(h *Harness) {
			deny := h.Faults[FaultDenied]
			h.Faults[FaultDenied] = func(t testing.TB, k kms.Key) func() { deny(t, k); return func() {} }
		})},
		{"only the handle in use notices", gives, with(func(h *Harness) {
			h.Faults[FaultDenied] = func(_ testing.TB, k kms.Key) func() {
				f := k.(*Managed).Fake
				f.Always(Fail(kms.Denied))
				return f.Heal
			}
		})},
		{"part of a failed batch answered", gives, brokenHarness(func(b *broken) {
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Managed.Wrap(ctx, dataKeys, ec)
				if err != nil {
					out = make([]kms.Wrapped, 1)
				}
				return out, err
			}
		})},
		{"back only at the second attempt", gives, brokenHarness(func(b *broken) {
			failed := false
			b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
				out, err := b.Managed.Wrap(ctx, dataKeys, ec)
				if err == nil && failed {
					failed = false
					return nil, b.fail(OpWrap, Err(kms.Unavailable))
				}
				failed = err != nil
				return out, err
			}
		})},
		{"the end taken for an outage", "stalled: the caller's deadline gives Canceled", brokenHarness(onEnd(func(b *broken, err error) error {
			return b.fail(OpWrap, Err(kms.Unavailable))
		}))},
		{"the cause is lost", "stalled: a caller that gives up gets Canceled", brokenHarness(onEnd(func(b *broken, err error) error {
			return b.fail(OpWrap, Err(kms.Canceled))
		}))},
		{"a large batch goes on", "stalled: a large batch ends with its caller", brokenHarness(func(b *broken) {
			b.unwrap = func(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
				out, err := b.Managed.Unwrap(ctx, wrapped, ec)
				if err != nil && len(wrapped) >= 250 {
					return make([]kms.Unwrapped, len(wrapped)), nil
				}
				return out, err
			}
		})},
		{"a goroutine for each call", "stalled: calls leave nothing behind", leaky()},
		{"a timeout taken for the caller's", "stalled: the key's own timeout gives Unavailable", with(func(h *Harness) {
			hastily := h.Hasty
			h.Hasty = func(t testing.TB, k kms.Key) kms.Key { return hasty{hastily(t, k).(hasty).Key, kms.Canceled} }
		})},
	}...)
}

// suffering returns a harness of sound keys with another idea of one fault.
func suffering(power Power, fault Fault) Harness {
	scripted := scriptedFaults()
	scripted[power] = fault
	return harnessOf(scripted, func(m *Managed) kms.Key { return m })
}

// onEnd changes what Wrap says when its context ends.
func onEnd(change func(b *broken, err error) error) func(*broken) {
	return func(b *broken) {
		b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
			out, err := b.Managed.Wrap(ctx, dataKeys, ec)
			if ctx.Err() != nil {
				err = change(b, err)
			}
			return out, err
		}
	}
}

// leaky leaves a goroutine behind for each Wrap, until the test ends.
func leaky() Harness {
	var wait func()
	h := brokenHarness(func(b *broken) {
		b.wrap = func(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
			go wait()
			return b.Managed.Wrap(ctx, dataKeys, ec)
		}
	})
	newKey := h.NewKey
	h.NewKey = func(t testing.TB) kms.Key {
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		wait = func() { <-release }
		return newKey(t)
	}
	return h
}
