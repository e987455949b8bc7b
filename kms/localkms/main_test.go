//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/waxseal/waxseal/kms"
)

// TestMain lets the test binary be one of several processes that share a
// keyring: see process_test.go.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := runChild(role); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// tempPath returns the path of a keyring that does not exist, in a folder that
// does not exist either.
func tempPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "waxseal", "keyring")
}

func mustOpenKeyring(t testing.TB, path string) *Keyring {
	t.Helper()
	r, err := OpenKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mustOpen opens a key, and makes it if there is none.
func mustOpen(t testing.TB, path, name string) *Key {
	t.Helper()
	r := mustOpenKeyring(t, path)
	k, err := r.Open(t.Context(), name)
	if err == nil && !k.seen.Load() {
		if _, err = r.Ensure(name); err == nil {
			k, err = r.Open(t.Context(), name)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, k.Close()) })
	return k
}

func mustRotate(t testing.TB, path, name string) string {
	t.Helper()
	version, err := mustOpenKeyring(t, path).Rotate(name)
	check(t, err)
	return version
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o700))
	check(t, os.WriteFile(path, data, 0o600))
	check(t, os.Chmod(path, 0o600))
}

// wrapNew wraps a new data key.
func wrapNew(t testing.TB, k *Key, ec kms.Context) (dataKey []byte, wrapped kms.Wrapped) {
	t.Helper()
	dataKey = newSecret().bytes()
	out, err := k.Wrap(t.Context(), [][]byte{dataKey}, ec)
	check(t, err)
	return dataKey, out[0]
}

// unwrapOne unwraps; an error of the whole call counts as the item's.
func unwrapOne(t testing.TB, k *Key, w kms.Wrapped, ec kms.Context) ([]byte, error) {
	t.Helper()
	out, err := k.Unwrap(t.Context(), []kms.Wrapped{w}, ec)
	if err != nil {
		return nil, err
	}
	return out[0].DataKey, out[0].Err
}

func wantOpens(t testing.TB, k *Key, w kms.Wrapped, want []byte) {
	t.Helper()
	if got, err := unwrapOne(t, k, w, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Unwrap: error %v, right data key %v", err, bytes.Equal(got, want))
	}
}

// wantError checks an error's class, that it is a *kms.Error with an operation
// and a hint, and that its text and hint hold certain words.
func wantError(t testing.TB, err error, class kms.Class, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		t.Errorf("error %v (%T), want a *kms.Error", err, err)
		return
	}
	if e.Class != class {
		t.Errorf("Class = %v, want %v: %v", e.Class, class, err)
	}
	if e.Op == "" {
		t.Errorf("no Op: %v", err)
	}
	if e.Hint() == "" && e.Class != kms.Canceled {
		t.Errorf("no hint: %v", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+"\n"+e.Hint(), w) {
			t.Errorf("error does not say %q: %v\nhint: %s", w, err, e.Hint())
		}
	}
}

// wantUntouched runs f and checks that it changes nothing in the folder but a lock.
func wantUntouched(t testing.TB, folder string, f func()) {
	t.Helper()
	list := func() map[string]string {
		files := map[string]string{}
		check(t, filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || strings.HasSuffix(path, ".lock") {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			files[path] = fmt.Sprint(info.Mode())
			if info.Mode().IsRegular() {
				files[path] += fmt.Sprint(info.ModTime()) + string(readFile(t, path))
			}
			return nil
		}))
		return files
	}
	before := list()
	f()
	if after := list(); !maps.Equal(before, after) {
		t.Errorf("files changed: before %v, after %v", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
}
