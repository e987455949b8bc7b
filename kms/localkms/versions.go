package localkms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// DestroyWait is how long a version waits for its destruction by default.
	DestroyWait = 7 * 24 * time.Hour
	// MaxDestroyWait is the longest wait.
	MaxDestroyWait = 10 * 365 * 24 * time.Hour
)

// Rotate gives the key a new version, which wraps from now on in every process,
// and returns its name. Earlier versions keep unwrapping.
func (r *Keyring) Rotate(name string) (version string, err error) {
	err = r.change(context.Background(), "rotate key", name, func(e *entry) error {
		version, err = e.rotate(name, time.Now())
		return err
	})
	if err != nil {
		return "", err
	}
	return version, nil
}

// RotateIfOlder rotates the key if its primary version is older than age, and
// returns the primary and whether it is new. Of several processes that do so at
// one time, one rotates.
func (r *Keyring) RotateIfOlder(name string, age time.Duration) (version string, rotated bool, err error) {
	err = r.change(context.Background(), "rotate key", name, func(e *entry) error {
		version, rotated = versionName(e.primary), false
		now := time.Now()
		for _, v := range e.versions {
			if v.number == e.primary && now.Sub(v.created) <= age {
				return errUnchanged
			}
		}
		version, err = e.rotate(name, now)
		rotated = err == nil
		return err
	})
	if err != nil {
		return "", false, err
	}
	return version, rotated, nil
}

// Disable switches a version off, or every version if version is "": what it
// wrapped does not open, and if it is the primary nothing is wrapped. A version
// that is off already stays so without an error.
func (r *Keyring) Disable(name, version string) error {
	return r.change(context.Background(), "disable version", name, func(e *entry) error { return e.disable(name, version) })
}

// Enable switches a version on again, or every disabled version if version is "".
// One that waits for its destruction is restored first.
func (r *Keyring) Enable(name, version string) error {
	return r.change(context.Background(), "enable version", name, func(e *entry) error { return e.enable(name, version) })
}

// Destroy schedules the destruction of a disabled version, or of every version if version
// is "", after wait, DestroyWait if that is zero, and returns when. From then on what it
// wrapped cannot be opened; its key material leaves the file with the next change of the
// keyring.
func (r *Keyring) Destroy(name, version string, wait time.Duration) (at time.Time, err error) {
	err = r.change(context.Background(), "destroy version", name, func(e *entry) error {
		at, err = e.destroy(name, version, wait, time.Now())
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return at, nil
}

// Restore takes back the destruction of a version that waits for it, or of every
// such version if version is "". It is disabled afterwards.
func (r *Keyring) Restore(name, version string) error {
	return r.change(context.Background(), "restore version", name, func(e *entry) error { return e.restore(name, version) })
}

// rotate adds a version to the key called name.
func (e *entry) rotate(name string, now time.Time) (version string, err error) {
	if e.versions[len(e.versions)-1].number == 1<<32-1 {
		return "", problem(kms.Invalid, fmt.Sprintf("the key %q cannot have more versions", name), "create another key", nil)
	}
	return versionName(e.add(now)), nil
}

// named returns one version, or all if version is "".
func (e *entry) named(name, version string) ([]*version, error) {
	if version == "" {
		return e.versions, nil
	}
	for i, v := range e.versions {
		if version == versionName(v.number) {
			return e.versions[i : i+1], nil
		}
	}
	return nil, problem(kms.NotFound, fmt.Sprintf("the key %q has no version %s", name, strconv.Quote(version)), "list the keyring's keys to see their versions", nil)
}

// move puts one version, or all if version is "", into a state, of those that are in
// one of the states from. It returns how many that were, and the first one named.
func (e *entry) move(name, version string, to State, at time.Time, from ...State) (moved int, first *version, err error) {
	chosen, err := e.named(name, version)
	if err != nil {
		return 0, nil, err
	}
	for _, v := range chosen {
		if slices.Contains(from, v.state) {
			v.state, v.destroyAt = to, at
			moved++
		}
	}
	return moved, chosen[0], nil
}

func (e *entry) disable(name, version string) error {
	_, first, err := e.move(name, version, Disabled, time.Time{}, Enabled)
	if err == nil && version != "" && first.state == Destroyed {
		return destroyed(version)
	}
	return err
}

func (e *entry) enable(name, version string) error {
	enabled, first, err := e.move(name, version, Enabled, time.Time{}, Enabled, Disabled)
	if err != nil || enabled > 0 {
		return err
	}
	return first.off()
}

// off says why a version that is Pending or Destroyed cannot be used.
func (v *version) off() error {
	return loadedVersion{state: v.state, destroyAt: v.destroyAt}.usable(v.number)
}

func (e *entry) destroy(name, version string, wait time.Duration, now time.Time) (at time.Time, err error) {
	if wait < 0 || wait > MaxDestroyWait {
		return time.Time{}, problem(kms.Invalid, fmt.Sprintf("a destruction cannot wait for %v", wait), fmt.Sprintf("choose up to %v", MaxDestroyWait), nil)
	}
	if wait == 0 {
		wait = DestroyWait
	}
	at = now.Add(wait + time.Second - 1).UTC().Truncate(time.Second) // whole seconds, and never less than wait
	chosen, err := e.named(name, version)
	if err != nil {
		return time.Time{}, err
	}
	for _, v := range chosen {
		if v.state == Enabled {
			return time.Time{}, problem(kms.Invalid, fmt.Sprintf("version %s of the key %q is enabled", versionName(v.number), name),
				"disable it first, and see whether anything misses it", nil)
		}
	}
	moved, first, err := e.move(name, version, Pending, at, Disabled, Pending)
	if err == nil && moved == 0 {
		return time.Time{}, destroyed(versionName(first.number))
	}
	return at, err
}

func (e *entry) restore(name, version string) error {
	restored, first, err := e.move(name, version, Disabled, time.Time{}, Pending)
	switch {
	case err != nil || restored > 0:
		return err
	case first.state == Destroyed:
		return destroyed(versionName(first.number))
	}
	return problem(kms.Invalid, fmt.Sprintf("nothing of the key %q that is named waits for its destruction", name), "list the keyring's keys to see their versions", nil)
}

// change alters one key that exists.
func (r *Keyring) change(ctx context.Context, op, name string, alter func(*entry) error) error {
	id := ""
	err := r.store.update(ctx, false, func(c *contents) error {
		e, ok := c.keys[name]
		if !ok {
			return noSuchKey(name)
		}
		id = c.keyID(name)
		return alter(e)
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return report(op, id, err)
	}
	return nil
}
