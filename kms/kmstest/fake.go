package kmstest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// Counts counts the calls that a Fake received, failed ones included.
type Counts struct {
	Wraps, Unwraps             int // calls
	WrapItems, UnwrapItems     int // data keys over all calls
	MaxInFlight                int // most calls at one time
	FailedWraps, FailedUnwraps int // calls that failed as a whole

	// Rewraps, RewrapItems and FailedRewraps are the same of Managed.Rewrap.
	Rewraps, RewrapItems, FailedRewraps int
	// Admin and FailedAdmin are the calls of a Managed's Rotator and Prober.
	Admin, FailedAdmin int
}

// tally returns where the calls of op, their items and their failures are counted.
func (c *Counts) tally(op Op) (calls, items, failed *int) {
	switch op {
	case OpWrap:
		return &c.Wraps, &c.WrapItems, &c.FailedWraps
	case OpUnwrap:
		return &c.Unwraps, &c.UnwrapItems, &c.FailedUnwraps
	case OpRewrap:
		return &c.Rewraps, &c.RewrapItems, &c.FailedRewraps
	case OpRotate, OpVersions, OpDisable, OpEnable, OpDestroy, OpRestore, OpProbe:
	}
	return &c.Admin, new(int), &c.FailedAdmin
}

// Fake is an in-memory kms.Key that encrypts for real and fails as a script says.
// Without a script it is healthy. Safe for concurrent use.
type Fake struct {
	key *fakeKey // shared by all handles

	mu       sync.Mutex
	scripts  map[Op][]Fault   // what the next calls suffer
	each     func(Call) Fault // what a call suffers when its script is at its end
	counts   Counts
	inFlight int
}

var _ kms.Key = (*Fake)(nil)

// NewFake returns a Fake with the ID "fake://name" and one version, "1". It
// panics if that ID cannot be recorded (kms.CheckID).
func NewFake(name string) *Fake {
	key, err := newFakeKey("fake://" + name)
	if err != nil {
		panic(err) //nolint:forbidigo // a bug in a test, found at its start
	}
	return &Fake{key: key}
}

// Reopen returns another handle to the same key, with no script and its own counts.
func (f *Fake) Reopen() *Fake { return &Fake{key: f.key} }

// ID implements kms.Key.
func (f *Fake) ID() string { return f.key.id }

// Rotate makes a new version, which wraps from now on, and returns its name.
func (f *Fake) Rotate() string { return f.key.rotate() }

// Version returns the name of the version that wraps.
func (f *Fake) Version() string { return f.key.version() }

// Disable switches the key off, for every handle.
func (f *Fake) Disable() { f.setKey(kms.VersionDisabled) }

// Enable switches it on again.
func (f *Fake) Enable() { f.setKey(kms.VersionEnabled) }

func (f *Fake) setKey(state kms.VersionState) {
	f.key.mu.Lock()
	defer f.key.mu.Unlock()
	if f.key.state != kms.VersionPendingDestruction {
		f.key.state = state
	}
}

// DisableVersion switches one version off, EnableVersion on again, for every
// handle. Like DestroyVersion they panic if there is no such version.
func (f *Fake) DisableVersion(version string) { f.setVersion(version, kms.VersionDisabled) }

// EnableVersion switches one version on again.
func (f *Fake) EnableVersion(version string) { f.setVersion(version, kms.VersionEnabled) }

// DestroyVersion destroys one version for good: what it wrapped is lost.
func (f *Fake) DestroyVersion(version string) { f.setVersion(version, kms.VersionDestroyed) }

func (f *Fake) setVersion(version string, state kms.VersionState) {
	err := fakeError(kms.NotFound, "the version has no name")
	if version != "" {
		err = f.key.change(version, func(l *lifecycle) error { l.set(state); return nil })
	}
	if err != nil {
		panic(err) //nolint:forbidigo // a bug in a test, found at once
	}
}

// ScheduleDeletion puts the key into the state of waiting for its deletion, which
// never comes: Managed.Restore takes it back.
func (f *Fake) ScheduleDeletion() {
	f.key.mu.Lock()
	defer f.key.mu.Unlock()
	f.key.state, f.key.destroyAt = kms.VersionPendingDestruction, time.Now().UTC().Add(fakeWait)
}

// ScriptWrap appends to the script of Wrap: each call takes the next fault.
func (f *Fake) ScriptWrap(faults ...Fault) { f.Script(OpWrap, faults...) }

// ScriptUnwrap appends to the script of Unwrap: each call takes the next fault.
func (f *Fake) ScriptUnwrap(faults ...Fault) { f.Script(OpUnwrap, faults...) }

// Script appends to the script of op: each call takes the next fault.
func (f *Fake) Script(op Op, faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.scripts == nil {
		f.scripts = map[Op][]Fault{}
	}
	f.scripts[op] = append(f.scripts[op], faults...)
}

// Each makes decide choose the fault of every call that no script covers; nil chooses
// none. decide runs without a lock, at times in several goroutines at once.
func (f *Fake) Each(decide func(Call) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.each = decide
}

// Always gives every call this fault until Heal: an outage.
func (f *Fake) Always(fault Fault) { f.Each(func(Call) Fault { return fault }) }

// Heal forgets all scripts.
func (f *Fake) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scripts, f.each = nil, nil
}

// Counts returns the counts of this handle so far.
func (f *Fake) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// Wrap implements kms.Key.
func (f *Fake) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) ([]kms.Wrapped, error) {
	return answer(ctx, f, OpWrap, len(dataKeys), ec, func(fault Fault) ([]kms.Wrapped, error) {
		for i := range dataKeys {
			if err := fault.ItemErrs[i]; err != nil {
				return nil, err
			}
		}
		wrapped, err := f.key.wrap(dataKeys, ec)
		for _, w := range wrapped {
			fault.spoil(w)
		}
		return wrapped, err
	})
}

// spoil flips a bit of an answer's blob if the fault says so.
func (f Fault) spoil(w kms.Wrapped) {
	if f.FlipBlob {
		w.Blob[len(w.Blob)/2] ^= 1
	}
}

// Unwrap implements kms.Key.
func (f *Fake) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) ([]kms.Unwrapped, error) {
	return answer(ctx, f, OpUnwrap, len(wrapped), ec, func(fault Fault) ([]kms.Unwrapped, error) {
		out := make([]kms.Unwrapped, len(wrapped))
		for i, w := range wrapped {
			err := fault.ItemErrs[i]
			if err == nil {
				out[i].DataKey, err = f.key.unwrap(w, ec)
			}
			if err != nil {
				out[i] = kms.Unwrapped{Err: f.fail(OpUnwrap, err)}
				continue
			}
			if fault.WrongDataKey {
				rand.Read(out[i].DataKey)
			}
			if fault.FlipDataKey {
				out[i].DataKey[0] ^= 1
			}
		}
		return out, nil
	})
}

// answer runs do as a call of op about some items: it counts the call, applies the
// fault that is scripted for it, and gives errors their shape.
func answer[T any](ctx context.Context, f *Fake, op Op, items int, ec kms.Context, do func(Fault) ([]T, error)) ([]T, error) {
	if err := ec.Check(string(op), f.ID()); err != nil {
		return nil, err
	}
	fault := f.begin(op, items, ec)
	var out []T
	err := suffer(ctx, fault)
	if err == nil {
		out, err = do(fault)
	}
	if err != nil {
		out, err = nil, f.fail(op, err)
	}
	f.end(op, err)
	if fault.Drop && len(out) > 0 {
		out = out[:len(out)-1]
	}
	return out, err
}

// begin counts a call and takes the fault that is scripted for it.
func (f *Fake) begin(op Op, items int, ec kms.Context) Fault {
	f.mu.Lock()
	f.inFlight++
	f.counts.MaxInFlight = max(f.counts.MaxInFlight, f.inFlight)
	calls, total, _ := f.counts.tally(op)
	*calls++
	*total += items
	call := Call{Op: op, N: *calls, Items: items, Context: maps.Clone(ec)}
	if script := f.scripts[op]; len(script) > 0 {
		f.scripts[op] = script[1:]
		f.mu.Unlock()
		return script[0]
	}
	each := f.each
	f.mu.Unlock()
	if each == nil {
		return Fault{}
	}
	return each(call)
}

func (f *Fake) end(op Op, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inFlight--
	if err != nil {
		_, _, failed := f.counts.tally(op)
		*failed++
	}
}

// suffer goes through what happens to a call before it does its work.
func suffer(ctx context.Context, fault Fault) error {
	if fault.Latency > 0 {
		timer := time.NewTimer(fault.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil && fault.Hook != nil {
		if err := fault.Hook(ctx); err != nil {
			return err
		}
	}
	if fault.Stall {
		<-ctx.Done()
	}
	return cmp.Or(ctx.Err(), fault.Err)
}

// fail gives err the shape that kms.Key promises.
func (f *Fake) fail(op Op, err error) error {
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		return &kms.Error{Class: kms.ClassOf(err), Op: string(op), KeyID: f.ID(), Detail: fmt.Sprintf("caused by a %T", err), Err: err}
	}
	filled := *e
	filled.Op, filled.KeyID, filled.Err = string(op), f.ID(), err
	return &filled
}
