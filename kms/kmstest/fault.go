package kmstest

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// Op is a call of a kms.Key, or of a power that a Managed has.
type Op string

const (
	// OpWrap is kms.Key.Wrap.
	OpWrap Op = "wrap"
	// OpUnwrap is kms.Key.Unwrap.
	OpUnwrap Op = "unwrap"
	// OpRewrap is kms.Rewrapper.Rewrap.
	OpRewrap Op = "rewrap"
	// OpProbe is kms.Prober.Probe.
	OpProbe Op = "probe"
	// OpRotate is kms.Rotator.Rotate.
	OpRotate Op = "rotate"
	// OpVersions is kms.Rotator.Versions.
	OpVersions Op = "list versions"
	// OpDisable is kms.Retirer.Disable.
	OpDisable Op = "disable"
	// OpEnable is kms.Retirer.Enable.
	OpEnable Op = "enable"
	// OpDestroy is kms.Retirer.Destroy.
	OpDestroy Op = "destroy"
	// OpRestore is kms.Retirer.Restore.
	OpRestore Op = "restore"
)

// Call describes a call that a Fake is about to answer.
type Call struct {
	Op Op
	// N is 1 for the first call of this Op on this handle.
	N int
	// Items is the number of data keys, or of wrapped data keys; 0 for what is not
	// about any.
	Items int
	// Context is a copy of the call's encryption context.
	Context kms.Context
}

// Fault is what goes wrong in one call; the zero value is a healthy call. The fields
// combine. In this order: the call waits for Latency, runs Hook, stalls, fails with Err,
// and only then does its work; the other fields spoil its outcome. If the context ends
// while the call waits, it gives Canceled.
type Fault struct {
	// Latency is waited first, on a timer that synctest's clock drives.
	Latency time.Duration
	// Hook, if any, runs with the call's context and no lock held: a place to
	// block until the test goes on, or to change the key meanwhile. Its error
	// fails the call.
	Hook func(ctx context.Context) error
	// Stall waits until the call's context ends.
	Stall bool
	// Err fails the whole call. A *kms.Error gets the call's Op and KeyID.
	Err error

	// ItemErrs fails single items, by index. Wrap answers for all or none: any
	// of them fails the whole Wrap. What is not about items ignores it, and the
	// fields below.
	ItemErrs map[int]error
	// WrongDataKey makes Unwrap answer with other 32 bytes than were wrapped, as
	// a KMS would that mixed up its answers.
	WrongDataKey bool
	// FlipDataKey makes Unwrap flip one bit of each data key.
	FlipDataKey bool
	// FlipBlob makes Wrap, or Rewrap, flip one bit of each blob that it answers with.
	FlipBlob bool
	// Drop makes the call answer with one item too few, which breaks the promise of
	// kms.Key.
	Drop bool
}

// Healthy returns no fault: a place in a script where nothing goes wrong.
func Healthy() Fault { return Fault{} }

// Fail returns the fault of a call that fails with an error of class.
func Fail(class kms.Class) Fault { return Fault{Err: Err(class)} }

// FailItem returns the fault of a call in which item i (from 0) fails with an error of
// class.
func FailItem(i int, class kms.Class) Fault {
	return Fault{ItemErrs: map[int]error{i: Err(class)}}
}

// Throttle returns the fault of a call that is refused for quota, with d as the time to
// wait; 0 is a KMS that does not say.
func Throttle(d time.Duration) Fault {
	return Fault{Err: &kms.Error{
		Class: kms.Throttled, RetryAfter: d, Detail: "scripted fault", Advice: "nothing to do: a test asked for it",
	}}
}

// Slow returns the fault of a call that takes d.
func Slow(d time.Duration) Fault { return Fault{Latency: d} }

// Stall returns the fault of a call that hangs until its context ends.
func Stall() Fault { return Fault{Stall: true} }

// WrongDataKey returns the fault of an Unwrap that answers with another data key.
func WrongDataKey() Fault { return Fault{WrongDataKey: true} }

// FlipDataKey returns the fault of an Unwrap that answers with a bit flipped.
func FlipDataKey() Fault { return Fault{FlipDataKey: true} }

// FlipBlob returns the fault of a Wrap that answers with a bit flipped.
func FlipBlob() Fault { return Fault{FlipBlob: true} }

// Err returns an error of class for a Fault; the Fake that reports it fills in
// the operation and the key.
func Err(class kms.Class) error {
	return &kms.Error{Class: class, Detail: "scripted fault", Advice: "nothing to do: a test asked for it"}
}
