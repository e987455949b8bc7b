//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/waxseal/waxseal/kms"
)

func TestKeyringLifecycle(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	if r.Path() != path {
		t.Errorf("Path = %s", r.Path())
	}
	if keys, err := r.List(); err != nil || keys != nil {
		t.Errorf("a keyring that does not exist has the keys %v, error %v", keys, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking created something: %v", err)
	}

	start := time.Now().UTC().Truncate(time.Second)
	payments, err := r.Create("payments")
	check(t, err)
	version, err := r.Rotate("payments")
	check(t, err)
	if version != "2" {
		t.Errorf("Rotate gave version %q", version)
	}
	check(t, r.Disable("payments", "1"))
	check(t, r.Disable("payments", "1")) // again is no error
	again, err := r.Ensure("payments")
	check(t, err)
	added, err := r.Ensure("added")
	check(t, err)

	keys, err := r.List()
	check(t, err)
	want := []KeyInfo{
		{Name: "added", ID: added.ID, Versions: []VersionInfo{{Version: "1", State: Enabled, Primary: true}}},
		{Name: "payments", ID: payments.ID, Versions: []VersionInfo{{Version: "1", State: Disabled}, {Version: "2", State: Enabled, Primary: true}}},
	}
	if diff := cmp.Diff(want[1], again, cmp.FilterPath(isCreated, cmp.Ignore())); diff != "" {
		t.Errorf("Ensure of a key that exists (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, keys, cmp.FilterPath(isCreated, cmp.Ignore())); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for _, k := range keys {
		for _, v := range k.Versions {
			if v.Created.Before(start) || v.Created.After(time.Now()) || v.Created.Location() != time.UTC {
				t.Errorf("%s: version %s was created %v", k.Name, v.Version, v.Created)
			}
		}
		if p := k.Primary(); p != k.Versions[len(k.Versions)-1] {
			t.Errorf("%s: primary %+v", k.Name, p)
		}
	}
	if (KeyInfo{}).Primary() != (VersionInfo{}) {
		t.Error("a primary of nothing")
	}
	if want := "local://" + payments.ID[len("local://"):len("local://")+16] + "/payments"; payments.ID != want {
		t.Errorf("ID = %s, want %s", payments.ID, want)
	}

	check(t, r.Disable("payments", ""))
	check(t, r.Enable("payments", "2"))
	keys, err = r.List()
	check(t, err)
	if v := keys[1].Versions; v[0].State != Disabled || v[1].State != Enabled {
		t.Errorf("after disabling all and enabling 2: %+v", v)
	}
}

func isCreated(p cmp.Path) bool { return p.Last().String() == ".Created" }

func TestKeyringErrors(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	_, err := r.Rotate("k")
	wantError(t, err, kms.Invalid, "there is no keyring file "+path)
	check(t, os.Mkdir(filepath.Dir(path), 0o700))
	_, err = r.Rotate("k")
	wantError(t, err, kms.Invalid, "there is no keyring file "+path)
	_, err = r.Create("k")
	check(t, err)

	wantUntouched(t, filepath.Dir(path), func() {
		_, err = r.Create("k")
		wantError(t, err, kms.Invalid, `has a key "k" already`, "rotate")
		if !errors.Is(err, ErrExists) {
			t.Error("ErrExists is not in the chain")
		}
		for _, name := range []string{"", "a b", "../k"} {
			_, err = r.Create(name)
			wantError(t, err, kms.Invalid, "name the key with letters")
			_, err = r.Ensure(name)
			wantError(t, err, kms.Invalid, "name the key with letters")
			_, err = r.Open(t.Context(), name)
			wantError(t, err, kms.Invalid, "name the key with letters")
			_, err = r.Rotate(name)
			wantError(t, err, kms.NotFound, "has no key")
		}
		_, err = r.Rotate("other")
		wantError(t, err, kms.NotFound, `has no key "other"`, "create this one")
		wantError(t, r.Disable("other", "1"), kms.NotFound, `has no key "other"`)
		wantError(t, r.Enable("other", ""), kms.NotFound, `has no key "other"`)
		for _, version := range []string{"2", "0", "01", "v1", "-1", " 1"} {
			wantError(t, r.Disable("k", version), kms.NotFound, `the key "k" has no version`)
		}
	})

	s := &store{path: path}
	check(t, s.update(t.Context(), false, func(c *contents) error {
		e := c.keys["k"]
		e.versions[0].number, e.primary = 1<<32-1, 1<<32-1
		return nil
	}))
	version, err := r.Rotate("k")
	wantError(t, err, kms.Invalid, "cannot have more versions")
	if version != "" {
		t.Errorf("a version %q that was not made", version)
	}
}

func TestKeyringsHaveDistinctIDs(t *testing.T) {
	ids := map[string]bool{}
	for range 100 {
		ids[newContents().id] = true
	}
	if len(ids) != 100 {
		t.Errorf("%d distinct IDs of 100", len(ids))
	}
}

func TestOpenLeavesExistingKeysAlone(t *testing.T) {
	path := tempPath(t)
	mustOpen(t, path, "k")
	check(t, os.Remove(path+".lock"))
	check(t, os.Chmod(path, 0o400)) // as on a read-only disk
	wantUntouched(t, filepath.Dir(path), func() {
		wrapNew(t, mustOpen(t, path, "k"), nil)
	})
	if _, err := os.Stat(path + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening took a lock: %v", err)
	}
}

// TestVersion1OpensForever reads a keyring and blobs that an earlier version wrote.
func TestVersion1OpensForever(t *testing.T) {
	path := tempPath(t)
	golden := readFile(t, filepath.Join("testdata", "keyring-v1.json"))
	writeFile(t, path, golden)
	c, err := parse(golden)
	check(t, err)
	if string(c.encode()) != string(golden) {
		t.Error("the file would be written differently now")
	}
	key := mustOpen(t, path, "payments")
	if key.ID() != "local://kctuy6um2ma52ucg/payments" {
		t.Errorf("ID = %s", key.ID())
	}
	for version, blob := range map[string]string{
		"1": "AQAAAAFLfHJGNSLJXtqC0UbvXGtPO0BuPFXi9anvmv/YY01UPVr5vW28a9FwXY9PinDfySRSkWVuBwO2JxVARCo=",
		"2": "AQAAAAJMutxW5BCUTQAaKfYBvth5s0NYieGdC3Eu4WQJkj8EPPr9ALsYBbsfEI6rEUsNVGgKShxPrVcO9LHN7uQ=",
	} {
		got, err := unwrapOne(t, key, kms.Wrapped{Version: version, Blob: decode64(t, blob)}, kms.Context{"namespace": "default"})
		if err != nil || string(got) != "\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a\a" {
			t.Errorf("version %s: error %v", version, err)
		}
	}
	_, err = mustOpen(t, path, "recovery").Wrap(t.Context(), [][]byte{make([]byte, kms.DataKeySize)}, nil)
	wantError(t, err, kms.Disabled, "version 1 is disabled", "enable")
}
