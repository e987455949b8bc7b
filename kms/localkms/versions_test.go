//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"bytes"
	"encoding/base64"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// aged moves the time of every version of a key back.
func aged(t testing.TB, path, name string, by time.Duration) {
	t.Helper()
	check(t, (&store{path: path}).update(t.Context(), false, func(c *contents) error {
		for _, v := range c.keys[name].versions {
			v.created = v.created.Add(-by)
		}
		return nil
	}))
}

func TestRotateIfOlder(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	_, _, err := r.RotateIfOlder("k", time.Hour)
	wantError(t, err, kms.Invalid, "there is no keyring file")
	_, err = r.Create("k")
	check(t, err)
	_, _, err = r.RotateIfOlder("other", time.Hour)
	wantError(t, err, kms.NotFound, `has no key "other"`)

	before := readFile(t, path)
	if version, rotated, err := r.RotateIfOlder("k", time.Hour); version != "1" || rotated || err != nil {
		t.Errorf("a young version: now %q, rotated %v, error %v", version, rotated, err)
	}
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("a rotation that was not due wrote the file")
	}
	aged(t, path, "k", 2*time.Hour)
	if version, rotated, err := r.RotateIfOlder("k", time.Hour); version != "2" || !rotated || err != nil {
		t.Errorf("an old version: now %q, rotated %v, error %v", version, rotated, err)
	}
	aged(t, path, "k", 2*time.Hour)

	// The age is looked at when it is one's turn: of many, one rotates.
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := map[string]int{}
	for range 16 {
		wg.Go(func() {
			version, rotated, err := mustOpenKeyring(t, path).RotateIfOlder("k", time.Hour)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || version != "3" {
				t.Errorf("version %q, error %v", version, err)
			}
			if rotated {
				made[version]++
			}
		})
	}
	wg.Wait()
	if len(made) != 1 || made["3"] != 1 {
		t.Errorf("rotations of 16 at one time: %v", made)
	}

	check(t, (&store{path: path}).update(t.Context(), false, func(c *contents) error {
		e := c.keys["k"]
		e.versions[2].number, e.primary = 1<<32-1, 1<<32-1
		return nil
	}))
	aged(t, path, "k", 2*time.Hour)
	version, rotated, err := r.RotateIfOlder("k", time.Hour)
	wantError(t, err, kms.Invalid, "cannot have more versions")
	if version != "" || rotated {
		t.Errorf("version %q, rotated %v, and an error", version, rotated)
	}
}

func stateOf(t testing.TB, r *Keyring, version string) VersionInfo {
	t.Helper()
	keys, err := r.List()
	check(t, err)
	for _, v := range keys[0].Versions {
		if v.Version == version {
			return v
		}
	}
	t.Fatalf("no version %s in %v", version, keys)
	return VersionInfo{}
}

func TestDestroyAndRestore(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	key := mustOpen(t, path, "k")
	dataKey, old := wrapNew(t, key, nil)
	mustRotate(t, path, "k")

	_, err := r.Destroy("k", "1", 0)
	wantError(t, err, kms.Invalid, `version 1 of the key "k" is enabled`, "disable it first")
	wantOpens(t, key, old, dataKey)
	check(t, r.Disable("k", "1"))
	for _, wait := range []time.Duration{-1, MaxDestroyWait + 1} {
		_, err = r.Destroy("k", "1", wait)
		wantError(t, err, kms.Invalid, "cannot wait for", "87600h")
	}
	wantError(t, r.Restore("k", "1"), kms.Invalid, "waits for its destruction")

	start := time.Now()
	at, err := r.Destroy("k", "1", 0)
	check(t, err)
	if wait := at.Sub(start); wait < DestroyWait || wait > DestroyWait+time.Minute || at.Location() != time.UTC {
		t.Errorf("destroyed at %v, which is %v away", at, wait)
	}
	if got := stateOf(t, r, "1"); got.State != Pending || !got.DestroyAt.Equal(at) {
		t.Errorf("version 1 is %+v", got)
	}
	_, err = unwrapOne(t, key, old, nil)
	wantError(t, err, kms.Disabled, "version 1 is to be destroyed at "+at.Format(time.RFC3339), "restore")
	wantError(t, r.Enable("k", "1"), kms.Disabled, "restore")
	check(t, r.Disable("k", "1")) // off already
	if got := stateOf(t, r, "1"); got.State != Pending {
		t.Errorf("disabling took the destruction back: %+v", got)
	}
	later, err := r.Destroy("k", "1", 30*24*time.Hour) // another time
	if err != nil || !later.After(at) {
		t.Errorf("destruction at %v, error %v", later, err)
	}

	check(t, r.Restore("k", "1"))
	_, err = unwrapOne(t, key, old, nil)
	wantError(t, err, kms.Disabled, "version 1 is disabled")
	check(t, r.Enable("k", "1"))
	wantOpens(t, key, old, dataKey)
}

// When the time of a version has come, nothing opens with it, whatever the file
// says; the next change takes its material out of the file.
func TestDestructionComesDue(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	key := mustOpen(t, path, "k")
	dataKey, old := wrapNew(t, key, nil)
	mustRotate(t, path, "k")
	check(t, r.Disable("k", "1"))
	var material string
	check(t, (&store{path: path}).update(t.Context(), false, func(c *contents) error {
		material = base64.StdEncoding.EncodeToString(c.keys["k"].versions[0].material.bytes())
		return nil
	}))
	_, err := unwrapOne(t, key, old, nil)
	wantError(t, err, kms.Disabled)

	destroyNow(t, path, "k", "1")
	if !bytes.Contains(readFile(t, path), []byte(material)) {
		t.Error("the test does not show what it should: the material is gone already")
	}
	_, err = unwrapOne(t, key, old, nil)
	wantError(t, err, kms.NotFound, "version 1 was destroyed", "copy of the keyring")
	if got := stateOf(t, r, "1"); got.State != Destroyed || !got.DestroyAt.IsZero() {
		t.Errorf("version 1 is %+v", got)
	}
	for what, err := range map[string]error{
		"enable": r.Enable("k", "1"), "disable": r.Disable("k", "1"), "restore": r.Restore("k", "1"),
		"destroy": func() error { _, err := r.Destroy("k", "1", 0); return err }(),
	} {
		wantError(t, err, kms.NotFound, "version 1 was destroyed")
		if err == nil {
			t.Errorf("%s a destroyed version: no error", what)
		}
	}
	mustRotate(t, path, "k")
	if bytes.Contains(readFile(t, path), []byte(material)) {
		t.Error("the material of a destroyed version is still in the file")
	}
	_, err = unwrapOne(t, key, old, nil)
	wantError(t, err, kms.NotFound, "version 1 was destroyed")
	if shows(err.Error(), dataKey) {
		t.Error("a data key shows in the error")
	}
	next, current := wrapNew(t, key, nil)
	wantOpens(t, key, current, next)
}

// A handle that read the file before the time came does not go on.
func TestDestructionComesDueUnderAHandle(t *testing.T) {
	now := time.Now()
	v := loadedVersion{state: Pending, destroyAt: now.Add(time.Hour)}
	wantError(t, report("unwrap", "", v.usable(3)), kms.Disabled, "version 3 is to be destroyed")
	v.destroyAt = now
	wantError(t, report("unwrap", "", v.usable(3)), kms.NotFound, "version 3 was destroyed")
	for state, want := range map[State]bool{Pending: true, Enabled: false, Disabled: false, Destroyed: false} {
		if due(state, now, now) != want {
			t.Errorf("%s at its time: due %v", state, !want)
		}
	}
	if due(Pending, now.Add(1), now) {
		t.Error("due before its time")
	}
}

func TestDestroyTheKey(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	key := mustOpen(t, path, "k")
	dataKey, w := wrapNew(t, key, nil)
	mustRotate(t, path, "k")
	check(t, r.Disable("k", "1"))
	_, err := r.Destroy("k", "", 0)
	wantError(t, err, kms.Invalid, "version 2 of the key", "is enabled")
	if got := stateOf(t, r, "1"); got.State != Disabled {
		t.Errorf("a destruction that was refused left version 1 %+v", got)
	}
	check(t, r.Disable("k", ""))
	_, err = r.Destroy("k", "", time.Hour)
	check(t, err)
	_, err = key.Wrap(t.Context(), [][]byte{dataKey}, nil)
	wantError(t, err, kms.Disabled, "version 2 is to be destroyed")
	wantError(t, r.Enable("k", ""), kms.Disabled, "restore")
	check(t, r.Restore("k", ""))
	check(t, r.Enable("k", ""))
	wantOpens(t, key, w, dataKey)

	// A key that is gone altogether wraps again after a rotation.
	check(t, r.Disable("k", ""))
	destroyNow(t, path, "k", "1")
	destroyNow(t, path, "k", "2")
	_, err = key.Wrap(t.Context(), [][]byte{dataKey}, nil)
	wantError(t, err, kms.NotFound, "version 2 was destroyed", "rotate")
	wantError(t, r.Restore("k", ""), kms.NotFound, "was destroyed")
	wantError(t, r.Enable("k", ""), kms.NotFound, "was destroyed")
	check(t, r.Disable("k", "")) // nothing is on
	_, err = r.Destroy("k", "", 0)
	wantError(t, err, kms.NotFound, "was destroyed")
	mustRotate(t, path, "k")
	check(t, roundTrip(t.Context(), key))
	// Of several versions those are enabled that can be.
	check(t, r.Disable("k", ""))
	check(t, r.Enable("k", ""))
	check(t, roundTrip(t.Context(), key))
	check(t, r.Disable("k", "3"))
	if _, err := r.Destroy("k", "", 0); err != nil { // those that are gone already are passed over
		t.Error(err)
	}
}

func TestVersionsErrors(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	_, err := r.Destroy("k", "1", 0)
	wantError(t, err, kms.Invalid, "there is no keyring file")
	_, err = r.Create("k")
	check(t, err)
	_, err = r.Destroy("other", "1", 0)
	wantError(t, err, kms.NotFound, `has no key "other"`)
	wantError(t, r.Restore("other", "1"), kms.NotFound, `has no key "other"`)
	for _, version := range []string{"2", "0", "01", "v1", "-1", " 1"} {
		_, err = r.Destroy("k", version, 0)
		wantError(t, err, kms.NotFound, "has no version")
		wantError(t, r.Restore("k", version), kms.NotFound, "has no version")
	}
}

// A Key manages its versions only in the keyring that it was opened from.
func TestRotatorErrors(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	all := func(k *Key) map[string]error {
		_, versions := k.Versions(t.Context())
		_, rotate := k.Rotate(t.Context())
		_, destroy := k.Destroy(t.Context(), "1", 0)
		return map[string]error{
			"list versions": versions, "rotate": rotate, "destroy": destroy,
			"disable": k.Disable(t.Context(), "1"), "enable": k.Enable(t.Context(), "1"), "restore": k.Restore(t.Context(), "1"),
		}
	}
	wantAll := func(k *Key, class kms.Class, words ...string) {
		t.Helper()
		for op, err := range all(k) {
			wantError(t, err, class, words...)
			if e, ok := errors.AsType[*kms.Error](err); !ok || e.Op != op || e.KeyID != k.ID() {
				t.Errorf("%s: error %v", op, err)
			}
		}
	}

	lazy, err := mustOpenKeyring(t, path).Open(t.Context(), "not-made-yet")
	check(t, err)
	defer func() { check(t, lazy.Close()) }()
	wantAll(lazy, kms.NotFound, `has no key "not-made-yet"`)

	other := tempPath(t)
	mustOpen(t, other, "k")
	writeFile(t, path, readFile(t, other))
	wantAll(key, kms.NotFound, "replaced by another keyring")
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.NotFound, "replaced by another keyring")

	check(t, key.Close())
	wantAll(key, kms.Internal, "the key is closed")
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.Internal, "the key is closed")
}

func TestRotationThatFailsReturnsNothing(t *testing.T) {
	last := mustOpen(t, tempPath(t), "k")
	check(t, last.store.update(t.Context(), false, func(c *contents) error {
		e := c.keys["k"]
		e.versions[0].number, e.primary = 1<<32-1, 1<<32-1
		return nil
	}))
	if v, err := last.Rotate(t.Context()); v != (kms.Version{}) || kms.ClassOf(err) != kms.Invalid {
		t.Errorf("beyond the last version: %+v, error %v", v, err)
	}

	path := tempPath(t)
	key := mustOpen(t, path, "k")
	key.store.disk.before = func(step string) error {
		if step == "rename" {
			return errors.New("broken")
		}
		return nil
	}
	v, err := key.Rotate(t.Context())
	wantError(t, err, kms.Unavailable, "cannot write")
	if v != (kms.Version{}) {
		t.Errorf("a version that was not made: %+v", v)
	}
	check(t, mustOpenKeyring(t, path).Disable("k", "1"))
	at, err := key.Destroy(t.Context(), "1", 0)
	wantError(t, err, kms.Unavailable, "cannot write")
	if !at.IsZero() {
		t.Errorf("a destruction at %v that was not scheduled", at)
	}
}
