//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
	"pgregory.net/rapid"
)

func decode64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	check(t, err)
	return b
}

func TestBlobShape(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	mustRotate(t, path, "k")
	_, w := wrapNew(t, key, kms.Context{"a": "b"})
	if len(w.Blob) != 65 || string(w.Blob[:5]) != "\x01\x00\x00\x00\x02" || w.Version != "2" {
		t.Errorf("blob of %d bytes starts with %x, version %q", len(w.Blob), w.Blob[:5], w.Version)
	}
}

// TestStaysInItsKey gives two keys, and two versions, the same material: what one
// wrapped still does not open with the other.
func TestStaysInItsKey(t *testing.T) {
	path := tempPath(t)
	a, b := mustOpen(t, path, "a"), mustOpen(t, path, "b")
	s := &store{path: path}
	check(t, s.update(t.Context(), false, func(c *contents) error {
		copy(c.keys["b"].versions[0].material.bytes(), c.keys["a"].versions[0].material.bytes())
		c.keys["a"].add(time.Now())
		copy(c.keys["a"].versions[1].material.bytes(), c.keys["a"].versions[0].material.bytes())
		return nil
	}))
	dataKey, w := wrapNew(t, a, nil)
	wantOpens(t, a, w, dataKey)
	w.Blob[4] = 1 // version 1 has the same material
	_, err := unwrapOne(t, a, w, nil)
	wantError(t, err, kms.Corrupt)
	check(t, mustOpenKeyring(t, path).Disable("a", "2"))
	w.Blob[4] = 2
	_, err = unwrapOne(t, b, w, nil)
	wantError(t, err, kms.NotFound, "no version 2")
	_, w = wrapNew(t, b, nil)
	_, err = unwrapOne(t, a, w, nil)
	wantError(t, err, kms.Corrupt, "altered, or belongs to another key or context")
}

func TestAssociatedDataIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(i string) (string, []byte, kms.Context) {
			id := rapid.StringN(0, 6, -1).Draw(t, "id"+i)
			number := rapid.Uint32().Draw(t, "version"+i)
			ec := rapid.MapOfN(rapid.StringN(0, 3, -1), rapid.StringN(0, 3, -1), 0, 3).Draw(t, "context"+i)
			return id, blobHeader(number), ec
		}
		id1, header1, ec1 := draw("1")
		id2, header2, ec2 := draw("2")
		same := id1 == id2 && string(header1) == string(header2) && string(kms.Context(ec1).AssociatedData()) == string(kms.Context(ec2).AssociatedData())
		if got := string(associatedData(id1, header1, ec1)) == string(associatedData(id2, header2, ec2)); got != same {
			t.Fatalf("same associated data: %v, same parts: %v", got, same)
		}
	})
	if string(associatedData("a", []byte("bc"), nil)) == string(associatedData("ab", []byte("c"), nil)) {
		t.Error("the boundary between ID and header is lost")
	}
}

func TestDisabledVersions(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	key := mustOpen(t, path, "k")
	oldKey, oldWrapped := wrapNew(t, key, nil)
	mustRotate(t, path, "k")
	newKey, newWrapped := wrapNew(t, key, nil)

	check(t, r.Disable("k", "1"))
	got, err := key.Unwrap(t.Context(), []kms.Wrapped{oldWrapped, newWrapped}, nil)
	check(t, err)
	wantError(t, got[0].Err, kms.Disabled, "version 1 is disabled", "enable the version")
	if got[1].Err != nil || string(got[1].DataKey) != string(newKey) {
		t.Errorf("version 2 suffers: %v", got[1].Err)
	}
	wrapNew(t, key, nil)

	check(t, r.Enable("k", "1"))
	check(t, r.Disable("k", "2"))
	_, err = key.Wrap(t.Context(), [][]byte{newKey}, nil)
	wantError(t, err, kms.Disabled, "version 2 is disabled", "rotate the key")
	wantOpens(t, key, oldWrapped, oldKey)
	mustRotate(t, path, "k") // the way out
	if _, w := wrapNew(t, key, nil); w.Version != "3" {
		t.Errorf("version %s", w.Version)
	}
	_, err = unwrapOne(t, key, newWrapped, nil)
	wantError(t, err, kms.Disabled)
}

func TestFileChangesUnderAKey(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	dataKey, w := wrapNew(t, key, nil)
	good := readFile(t, path)
	both := func(t *testing.T, class kms.Class, words ...string) {
		t.Helper()
		_, err := key.Wrap(t.Context(), [][]byte{dataKey}, nil)
		wantError(t, err, class, words...)
		_, err = unwrapOne(t, key, w, nil)
		wantError(t, err, class, words...)
		e, ok := errors.AsType[*kms.Error](err)
		if !ok || e.KeyID != key.ID() || e.Op != "unwrap" {
			t.Errorf("error %v", err)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T)
		class  kms.Class
		words  []string
	}{
		{"removed", func(t *testing.T) { check(t, os.Remove(path)) }, kms.Invalid, []string{"there is no keyring file", "restore it from a backup"}},
		{"folder removed", func(t *testing.T) { check(t, os.RemoveAll(filepath.Dir(path))) }, kms.Invalid, []string{"there is no keyring file"}},
		{"folder replaced", func(t *testing.T) {
			check(t, os.RemoveAll(filepath.Dir(path)))
			check(t, os.WriteFile(filepath.Dir(path), nil, 0o600))
		}, kms.Unavailable, []string{"cannot read", "not a directory"}},
		{"emptied", func(t *testing.T) { writeFile(t, path, nil) }, kms.Unavailable, []string{"it is empty", "nothing was changed"}},
		{"another keyring", func(t *testing.T) {
			c := newContents()
			c.keys["k"] = &entry{}
			c.keys["k"].add(time.Now())
			writeFile(t, path, c.encode())
		}, kms.NotFound, []string{"replaced by another keyring", "put the right keyring file back"}},
		{"key removed", func(t *testing.T) {
			writeFile(t, path, []byte(strings.Replace(string(good), `"k"`, `"other"`, 1)))
		}, kms.NotFound, []string{`has no key "k"`}},
		{"opened to others", func(t *testing.T) {
			writeFile(t, path, append(good, ' '))
			check(t, os.Chmod(path, 0o666))
		}, kms.Denied, []string{"mode 0666", "chmod 600"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.change(t)
			both(t, tt.class, tt.words...)
			check(t, os.RemoveAll(filepath.Dir(path)))
			writeFile(t, path, good)
			wantOpens(t, key, w, dataKey) // none the worse
			wrapNew(t, key, nil)
		})
	}
}

// TestReadsTheFileOnlyWhenItChanged counts how often the file is opened.
func TestReadsTheFileOnlyWhenItChanged(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	opened := 0
	key.store = &store{path: path, disk: disk{before: func(step string) error {
		if step == "open" {
			opened++
		}
		return nil
	}}}
	use := func() (kms.Wrapped, int) {
		t.Helper()
		before := opened
		dataKey, w := wrapNew(t, key, nil)
		wantOpens(t, key, w, dataKey)
		return w, opened - before
	}
	// The file is young: it could change again within the grain of its time.
	if _, n := use(); n != 2 {
		t.Errorf("read %d times in two calls while it was young", n)
	}
	hourAgo := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(path, hourAgo, hourAgo))
	if _, n := use(); n != 1 {
		t.Errorf("read %d times after it was touched", n)
	}
	w, n := use()
	if n != 0 {
		t.Errorf("read %d times though it is unchanged", n)
	}

	// An unknown version is worth one look, however many items name it.
	unknown := make([]kms.Wrapped, 5)
	for i := range unknown {
		unknown[i].Blob = append([]byte{}, w.Blob...)
		unknown[i].Blob[4] = 9
	}
	before := opened
	got, err := key.Unwrap(t.Context(), unknown, nil)
	check(t, err)
	for _, u := range got {
		wantError(t, u.Err, kms.NotFound, "no version 9")
	}
	if opened-before != 1 {
		t.Errorf("read %d times for an unknown version", opened-before)
	}
	check(t, os.Chmod(path, 0o640))
	_, err = key.Unwrap(t.Context(), unknown, nil)
	wantError(t, err, kms.Denied, "mode 0640")
}

// TestSeesChangesThatLeaveNoTrace rewrites the file in place, with the same size,
// inode and time, just after it was read.
func TestSeesChangesThatLeaveNoTrace(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	mustRotate(t, path, "k")
	check(t, mustOpenKeyring(t, path).Disable("k", "1"))
	dataKey, w := wrapNew(t, key, nil)
	info, err := os.Stat(path)
	check(t, err)
	data := string(readFile(t, path))
	swapped := strings.NewReplacer(`"disabled"`, `"enabled"`, `"enabled"`, `"disabled"`).Replace(data)
	if len(swapped) != len(data) || swapped == data {
		t.Fatal("the change is not what it should be")
	}
	check(t, os.WriteFile(path, []byte(swapped), 0o600))
	check(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	_, err = unwrapOne(t, key, w, nil)
	wantError(t, err, kms.Disabled)
	_, err = key.Wrap(t.Context(), [][]byte{dataKey}, nil)
	wantError(t, err, kms.Disabled)
}

func TestClose(t *testing.T) {
	key := mustOpen(t, tempPath(t), "k")
	dataKey, w := wrapNew(t, key, nil)
	check(t, key.Close())
	check(t, key.Close())
	if key.loaded.Load() != nil {
		t.Error("the ciphers are still there")
	}
	_, err := key.Wrap(t.Context(), [][]byte{dataKey}, nil)
	wantError(t, err, kms.Internal, "the key is closed")
	_, err = key.Unwrap(t.Context(), []kms.Wrapped{w}, nil)
	wantError(t, err, kms.Internal, "the key is closed")
	if _, err := key.reload(); !errors.Is(err, errKeyClosed) {
		t.Errorf("reload: %v", err)
	}
	if key.ID() == "" {
		t.Error("the ID is gone")
	}
}

// TestCloseWhileInUse closes a key under load: a call is answered, or says that
// the key is closed.
func TestCloseWhileInUse(t *testing.T) {
	key := mustOpen(t, tempPath(t), "k")
	started, done := make(chan struct{}), make(chan error)
	for range 4 {
		go func() {
			started <- struct{}{}
			for {
				if err := roundTrip(t.Context(), key); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range 4 {
		<-started
	}
	check(t, key.Close())
	for range 4 {
		if err := <-done; !errors.Is(err, errKeyClosed) {
			t.Errorf("error %v", err)
		}
	}
}

func TestBadMaterial(t *testing.T) {
	if _, err := newAEAD([]byte("short")); err == nil {
		t.Error("a cipher of a short key")
	}
	c := sample()
	c.keys["a"].versions[0].material = holdSecret([]byte("short"))
	_, err := newLoadedKey(c, "a", nil, time.Now())
	wantError(t, report("open", "", err), kms.Internal, "cannot make an AES-GCM cipher")
}

func BenchmarkRoundTrip(b *testing.B) {
	path := tempPath(b)
	key := mustOpen(b, path, "k")
	hourAgo := time.Now().Add(-time.Hour)
	check(b, os.Chtimes(path, hourAgo, hourAgo))
	b.ReportAllocs()
	for b.Loop() {
		check(b, roundTrip(b.Context(), key))
	}
}
