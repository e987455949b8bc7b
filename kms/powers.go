package kms

import (
	"context"
	"time"
)

// What only some keys can do are interfaces of their own. As finds them, also
// behind a decorator; probe once, when the key is opened.

// Rewrapper is implemented by keys that their KMS can rewrap by itself: it moves a wrapped
// data key to the key's current version, and the data key never leaves it. Implementations
// are safe for concurrent use and change nothing in the KMS.
type Rewrapper interface {
	// RewrapsFrom reports whether Rewrap can take what source wrapped. It calls no
	// KMS. Every Rewrapper rewraps from itself.
	RewrapsFrom(source Key) bool

	// Rewrap wraps each data key that source wrapped under ec anew, under this
	// key's current version and the same ec. It answers with one Rewrapped for
	// each, in order, each with an error of its own; the error result is for what
	// failed them all. A source that RewrapsFrom refuses gives Class Internal.
	Rewrap(ctx context.Context, source Key, wrapped []Wrapped, ec Context) ([]Rewrapped, error)
}

// Rewrapped is the outcome for one wrapped data key: the same data key wrapped
// anew, or an error.
type Rewrapped struct {
	Wrapped Wrapped
	Err     error
}

// Rotator is implemented by keys with versions that an administrator can list and add to
// through their KMS. Errors are *Error. An operation that this KMS does not have gives
// Class Invalid, with errors.ErrUnsupported in its chain and advice that names what it has
// instead; so it does for a Retirer.
//
// Nothing here is retried: a lost answer leaves it open whether the operation
// happened, and Versions shows it.
type Rotator interface {
	// Rotate gives the key a new version, which wraps from then on, and returns
	// it. Earlier versions keep unwrapping.
	Rotate(ctx context.Context) (Version, error)

	// Versions returns all versions, oldest first. A KMS that does not say which of them
	// wrapped a data key (AWS KMS) still lists when it rotated.
	Versions(ctx context.Context) ([]Version, error)
}

// Retirer is implemented by keys with versions that an administrator can switch off and
// destroy through their KMS. Errors are as with Rotator.
type Retirer interface {
	// Disable switches one version off, so that it neither wraps nor unwraps;
	// Enable switches it on again. An empty version means the whole key. A KMS that
	// disables versions oldest first (Vault) refuses one that has older ones enabled.
	Disable(ctx context.Context, version string) error
	Enable(ctx context.Context, version string) error

	// Destroy schedules the destruction of one disabled version, or of the whole
	// key if version is empty, and returns when it will happen. wait is how long to
	// leave for a change of mind; zero is the KMS's own default, and a KMS that does
	// not take a wait refuses another. What a destroyed version wrapped is lost.
	Destroy(ctx context.Context, version string, wait time.Duration) (time.Time, error)

	// Restore takes a scheduled destruction back. The version is disabled afterwards.
	Restore(ctx context.Context, version string) error
}

// VersionState says what a version of a key can do.
type VersionState uint8

const (
	// VersionEnabled unwraps, and wraps if it is the primary.
	VersionEnabled VersionState = iota
	// VersionDisabled does neither until it is enabled.
	VersionDisabled
	// VersionPendingDestruction does neither, and will be destroyed unless restored.
	VersionPendingDestruction
	// VersionDestroyed is gone for good.
	VersionDestroyed
	// VersionUnavailable is being made, failed to be made, or waits for an import.
	VersionUnavailable
)

var versionStateNames = [...]string{
	VersionEnabled: "enabled", VersionDisabled: "disabled", VersionPendingDestruction: "pending destruction",
	VersionDestroyed: "destroyed", VersionUnavailable: "unavailable",
}

// String returns the state in words, such as "pending destruction".
func (s VersionState) String() string {
	if int(s) < len(versionStateNames) {
		return versionStateNames[s]
	}
	return "unknown"
}

// Version describes one version of a key.
type Version struct {
	// ID is how Wrapped.Version names it. A KMS that does not name the version that wrapped
	// a data key has IDs of its own here.
	ID    string
	State VersionState
	// Primary is true for the one version that wraps.
	Primary bool
	// Created is when it was made, in UTC; zero where the KMS does not say.
	Created time.Time
	// DestroyAt is when it will be destroyed; zero unless that is scheduled.
	DestroyAt time.Time
}

// Prober is implemented by keys that can report on themselves and the way to their
// KMS, for diagnosis.
type Prober interface {
	// Probe requests what the KMS knows about the key and about us. Facts that need a right
	// which sealing and opening do not need may be missing from the report; an error means
	// that the KMS cannot be reached or the key not used.
	Probe(ctx context.Context) (Report, error)
}

// Report is what a Prober found out. It holds no credential.
type Report struct {
	// Identity is what the KMS calls us: an ARN, an account's e-mail address, a token's
	// display name. Empty if it is not known.
	Identity string
	// Expires is when our credentials end unless they are renewed; zero if never
	// or not known.
	Expires time.Time
	// Key describes the key: its kind, where it is kept, its current version.
	Key string
	// Skew is how far the KMS's clock is ahead of ours, to the precision of the time that
	// it sends; SkewKnown says whether it sends one.
	Skew      time.Duration
	SkewKnown bool
	// Warnings are what an operator should know, one sentence each.
	Warnings []string
}

// Availability is implemented by decorators that remember that a KMS has not been
// answering: a caller that has several keys tries the others first.
type Availability interface {
	// Available reports whether it is worth calling the KMS now. It calls no KMS,
	// and may be wrong either way by the time a call is made.
	Available() bool
}

// Locator is implemented by keys with an ID that does not say which KMS holds them. Two
// keys with one ID are one key if their locations are equal, and two keys that cannot open
// each other's envelopes if not.
type Locator interface {
	// Location names the place: an address, the path of a file. It is not recorded,
	// holds no credential, and stays the same for the life of the key. It is empty where
	// the ID alone says which key it is, as the name of a key in a public cloud does.
	Location() string
}

// Decorator is implemented by keys that stand in front of another one.
type Decorator interface {
	// Decorated returns the key behind.
	Decorated() Key
}

// As returns key, or the first key behind it, as a T: kms.As[kms.Rotator](key).
func As[T any](key Key) (T, bool) {
	for {
		if t, ok := key.(T); ok {
			return t, true
		}
		d, ok := key.(Decorator)
		if !ok {
			var none T
			return none, false
		}
		key = d.Decorated()
	}
}
