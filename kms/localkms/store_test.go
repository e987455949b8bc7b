//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
)

func TestModes(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		t.Run(fmt.Sprintf("umask %03o", umask), func(t *testing.T) {
			path := tempPath(t)
			old := syscall.Umask(umask)
			defer syscall.Umask(old)
			mustOpen(t, path, "k")
			mustRotate(t, path, "k")
			for p, want := range map[string]fs.FileMode{path: 0o600, path + ".lock": 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
				info, err := os.Stat(p)
				check(t, err)
				if info.Mode() != want {
					t.Errorf("%s has mode %v, want %v", p, info.Mode(), want)
				}
			}
		})
	}
}

func TestTrust(t *testing.T) {
	const me = 1000
	for _, tt := range []struct {
		name   string
		facts  facts
		file   bool
		folder bool
		words  []string
	}{
		{"private file", facts{path: "/k", mode: 0o600, uid: me}, true, false, nil},
		{"read-only file", facts{path: "/k", mode: 0o400, uid: me}, true, false, nil},
		{"group reads", facts{path: "/k", mode: 0o640, uid: me}, false, false, []string{"mode 0640", "chmod 600 /k", "rotate"}},
		{"group writes", facts{path: "/k", mode: 0o620, uid: me}, false, false, []string{"mode 0620", "chmod 600 /k"}},
		{"others read", facts{path: "/k", mode: 0o604, uid: me}, false, false, []string{"mode 0604", "chmod 600 /k"}},
		{"others write", facts{path: "/k", mode: 0o602, uid: me}, false, false, []string{"mode 0602", "chmod 600 /k"}},
		{"all may all", facts{path: "/my keys", mode: 0o777, uid: me}, false, false, []string{"mode 0777", "chmod 600 '/my keys'"}},
		{"of another user", facts{path: "/k", mode: 0o600, uid: 7}, false, false, []string{"belongs to user 7", "user 1000", "chown 1000 /k"}},
		{"owner not told", facts{path: "/k", mode: 0o600, uid: -1}, false, false, []string{"belongs to user -1"}},
		{"pipe", facts{path: "/k", mode: fs.ModeNamedPipe | 0o600, uid: me}, false, false, []string{"not a regular file"}},
		{"device", facts{path: "/dev/null", mode: fs.ModeDevice | 0o600, uid: me}, false, false, []string{"not a regular file"}},
		{"private folder", facts{path: "/d", mode: fs.ModeDir | 0o700, uid: me}, false, true, []string{"is a folder", "name a file in it: /d/keyring"}},
		{"usual folder", facts{path: "/d", mode: fs.ModeDir | 0o755, uid: 0}, false, true, []string{"is a folder"}},
		{"sticky folder", facts{path: "/tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777, uid: 0}, false, true, []string{"is a folder"}},
		{"open folder", facts{path: "/d", mode: fs.ModeDir | 0o777, uid: me}, false, false, []string{"is a folder"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.euid = me
			err := tt.facts.checkFile()
			if (err == nil) != tt.file {
				t.Errorf("checkFile: %v", err)
			}
			if err != nil {
				wantError(t, report("open", "", err), kms.Denied, tt.words...)
			}
			if err := tt.facts.checkFolder(); (err == nil) != tt.folder {
				t.Errorf("checkFolder: %v", err)
			}
		})
	}
	wantError(t, report("open", "", facts{path: "/d", mode: fs.ModeDir | 0o777}.checkFolder()), kms.Denied, "mode 0777", "chmod o-w /d", "folder of its own")
	wantError(t, report("open", "", facts{path: "/f", mode: 0o600}.checkFolder()), kms.Denied, "/f is not a folder")
}

// TestRefuses puts bad files and folders in place. Every way in refuses them, and
// nothing of them is changed.
func TestRefuses(t *testing.T) {
	valid := sample().encode()
	for _, tt := range []struct {
		name  string
		setup func(t *testing.T, path string)
		class kms.Class
		words []string
	}{
		{"file that others read", func(t *testing.T, path string) {
			writeFile(t, path, valid)
			check(t, os.Chmod(path, 0o644))
		}, kms.Denied, []string{"mode 0644", "chmod 600 "}},
		{"link to a file that others read", func(t *testing.T, path string) {
			target := filepath.Join(filepath.Dir(path), "target")
			writeFile(t, target, valid)
			check(t, os.Chmod(target, 0o640))
			check(t, os.Symlink(target, path))
		}, kms.Denied, []string{"target is open to others", "mode 0640"}},
		{"link into a folder that others write", func(t *testing.T, path string) {
			target := filepath.Join(filepath.Dir(path), "open", "target")
			writeFile(t, target, valid)
			check(t, os.Chmod(filepath.Dir(target), 0o777))
			check(t, os.Symlink(target, path))
		}, kms.Denied, []string{"everyone may replace files in ", "/open", "chmod o-w "}},
		{"link to nothing", func(t *testing.T, path string) {
			check(t, os.MkdirAll(filepath.Dir(path), 0o700))
			check(t, os.Symlink(path+"-not-there", path))
		}, kms.Invalid, []string{"symbolic link that leads nowhere"}},
		{"link to itself", func(t *testing.T, path string) {
			check(t, os.MkdirAll(filepath.Dir(path), 0o700))
			check(t, os.Symlink(path, path))
		}, kms.Invalid, []string{"symbolic link that leads nowhere"}},
		{"folder", func(t *testing.T, path string) {
			check(t, os.MkdirAll(path, 0o700))
		}, kms.Denied, []string{"is a folder", "name a file in it"}},
		{"pipe", func(t *testing.T, path string) {
			check(t, os.MkdirAll(filepath.Dir(path), 0o700))
			check(t, syscall.Mkfifo(path, 0o600))
		}, kms.Denied, []string{"not a regular file"}},
		{"folder that others write", func(t *testing.T, path string) {
			writeFile(t, path, valid)
			check(t, os.Chmod(filepath.Dir(path), 0o777))
		}, kms.Denied, []string{"everyone may replace files in ", "mode 0777", "chmod o-w "}},
		{"file in the place of the folder", func(t *testing.T, path string) {
			writeFile(t, filepath.Dir(path), nil)
		}, kms.Denied, []string{"is not a folder", "name a file in a folder"}},
		{"empty file", func(t *testing.T, path string) {
			writeFile(t, path, nil)
		}, kms.Unavailable, []string{"is not understood: it is empty", "nothing was changed"}},
		{"garbage", func(t *testing.T, path string) {
			writeFile(t, path, []byte("this is not a keyring"))
		}, kms.Unavailable, []string{"is not understood: it is not JSON", "nothing was changed"}},
		{"file cut short", func(t *testing.T, path string) {
			writeFile(t, path, valid[:len(valid)/2])
		}, kms.Unavailable, []string{"not JSON", "nothing was changed"}},
		{"later format", func(t *testing.T, path string) {
			writeFile(t, path, []byte(`{"waxsealKeyring": 2, "keys": []}`))
		}, kms.Unavailable, []string{"format is version 2", "nothing was changed"}},
		{"unknown field", func(t *testing.T, path string) {
			writeFile(t, path, []byte(strings.Replace(string(valid), `"keys"`, `"owner": "me", "keys"`, 1)))
		}, kms.Unavailable, []string{"a field that is not known", "nothing was changed"}},
		{"huge file", func(t *testing.T, path string) {
			writeFile(t, path, nil)
			check(t, os.Truncate(path, maxFileSize+1))
		}, kms.Unavailable, []string{"larger than 8388608 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tempPath(t)
			tt.setup(t, path)
			r := &Keyring{store: &store{path: path}}
			wantUntouched(t, filepath.Dir(filepath.Dir(path)), func() {
				for call, f := range map[string]func() error{
					"OpenKeyring": func() error { _, err := OpenKeyring(path); return err },
					"registry":    func() error { _, err := kms.NewRegistry(Backend).Open(t.Context(), URI(path, "k")); return err },
					"Open":        func() error { _, err := r.Open(t.Context(), "k"); return err },
					"List":        func() error { _, err := r.List(); return err },
					"Create":      func() error { _, err := r.Create("k"); return err },
					"Ensure":      func() error { _, err := r.Ensure("k"); return err },
					"Rotate":      func() error { _, err := r.Rotate("payments"); return err },
					"Disable":     func() error { return r.Disable("payments", "1") },
					"Enable":      func() error { return r.Enable("payments", "1") },
				} {
					err := f()
					if err == nil {
						t.Errorf("%s: not refused", call)
						continue
					}
					t.Logf("%s: %v", call, err)
					words := tt.words
					if call == "Rotate" || call == "Disable" || call == "Enable" || tt.class == kms.Denied {
						words = words[:1]
					}
					wantError(t, err, tt.class, words...)
				}
			})
		})
	}
}

func TestRefusesForeignOwner(t *testing.T) {
	path := tempPath(t)
	mustOpen(t, path, "k")
	if os.Geteuid() != 0 {
		return // only root can give a file away; TestTrust has the rule
	}
	check(t, os.Chown(path, 65534, -1))
	_, err := OpenKeyring(path)
	wantError(t, err, kms.Denied, "belongs to user 65534", "chown 0 ")
}

func TestBadPaths(t *testing.T) {
	for path, words := range map[string]string{
		"":             "not an absolute path",
		"keyring":      "not an absolute path",
		"./keyring":    "not an absolute path",
		"/dir/":        "names a folder",
		"/a\nb":        "control character",
		"/dir/\x00key": "control character",
	} {
		_, err := OpenKeyring(path)
		wantError(t, err, kms.Invalid, words)
	}
	folder := t.TempDir()
	check(t, os.Chmod(folder, 0o700)) // whatever the umask
	long := filepath.Join(folder, strings.Repeat("n", 300))
	_, err := OpenKeyring(long)
	wantError(t, err, kms.Unavailable, "name too long")
	wantError(t, report("open", "", checkFolder(long)), kms.Unavailable, "cannot read")

	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	_, err = OpenKeyring(filepath.Join(file, "x", "keyring"))
	wantError(t, err, kms.Unavailable, "cannot read", "not a directory")

	_, err = newStoreOn(false, "/keyring")
	wantError(t, report("open keyring", "", err), kms.Invalid, "Unix permissions", "Vault")

	r := mustOpenKeyring(t, filepath.Join(t.TempDir(), "a", "b", "keyring"))
	_, err = r.Create("k")
	wantError(t, err, kms.Invalid, "there is no folder", "mkdir -p ")
}

func TestFollowsLinks(t *testing.T) {
	folder := t.TempDir()
	check(t, os.Chmod(folder, 0o700)) // whatever the umask
	target := filepath.Join(folder, "real", "keyring")
	key := mustOpen(t, target, "k")
	link := filepath.Join(folder, "link")
	check(t, os.Symlink(filepath.Join("real", "keyring"), link))
	folderLink := filepath.Join(folder, "folder-link")
	check(t, os.Symlink("real", folderLink))

	dataKey, wrapped := wrapNew(t, key, nil)
	for _, path := range []string{link, filepath.Join(folderLink, "keyring")} {
		linked := mustOpen(t, path, "k")
		if linked.ID() != key.ID() {
			t.Errorf("%s: ID %s, want %s", path, linked.ID(), key.ID())
		}
		wantOpens(t, linked, wrapped, dataKey)
		version := mustRotate(t, path, "k")
		if _, w := wrapNew(t, key, nil); w.Version != version {
			t.Errorf("%s: a rotation by the link gave another file", path)
		}
	}
	for path, mode := range map[string]fs.FileMode{link: fs.ModeSymlink, folderLink: fs.ModeSymlink, target: 0} {
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != mode {
			t.Errorf("%s is a %v now (error %v)", path, info.Mode().Type(), err)
		}
	}
	if _, err := os.Stat(link + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock is by the link, not by the file: %v", err)
	}
	linkedNew := mustOpen(t, filepath.Join(folderLink, "another"), "k") // created through a link to the folder
	if _, err := os.Stat(filepath.Join(folder, "real", "another")); err != nil || linkedNew == nil {
		t.Error(err)
	}
}

// TestDiskFaults fails each step of a change in turn: the error says so, the old
// file stays, no temporary file does, and the next change goes through.
func TestDiskFaults(t *testing.T) {
	for _, step := range []string{"open", "stat", "read", "lock", "create", "write", "chmod", "sync", "close", "rename", "sync folder"} {
		for name, fault := range map[string]struct {
			err   error
			class kms.Class
			words []string
		}{
			"disk full": {syscall.ENOSPC, kms.Unavailable, []string{"no space left on device", "disk"}},
			"forbidden": {syscall.EACCES, kms.Denied, []string{"permission denied", "let the user who runs this"}},
			"read-only": {syscall.EROFS, kms.Denied, []string{"read-only file system"}},
			"strange":   {errors.New("quoting c2VjcmV0"), kms.Unavailable, []string{"input/output failed"}},
		} {
			t.Run(step+"/"+name, func(t *testing.T) {
				path := tempPath(t)
				key := mustOpen(t, path, "k")
				r := mustOpenKeyring(t, path)
				hit := false
				r.store.disk.before = func(s string) error {
					if s != step {
						return nil
					}
					hit = true
					return fault.err
				}
				before := string(readFile(t, path))
				version, err := r.Rotate("k")
				if !hit {
					t.Fatal("the step was not taken")
				}
				class, words := fault.class, fault.words
				made := step == "sync folder"
				if made { // the file is replaced by then
					class, words = kms.Unavailable, []string{"was made, but may not survive", "list"}
				}
				wantError(t, err, class, words...)
				if version != "" || strings.Contains(err.Error(), "c2VjcmV0") {
					t.Errorf("version %q, error %v", version, err)
				}
				if !errors.Is(err, fault.err) {
					t.Errorf("the cause is lost: %v", err)
				}
				if same := before == string(readFile(t, path)); same == made {
					t.Errorf("file unchanged: %v", same)
				}
				if left, _ := filepath.Glob(path + "*"); len(left) != 2 {
					t.Errorf("files left behind: %v", left)
				}
				r.store.disk.before = nil
				_, err = r.Rotate("k")
				check(t, err)
				wrapNew(t, key, nil)
			})
		}
	}
}

// TestDiskErrors provokes errors of the operating system itself.
func TestDiskErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no folder", "keyring")
	if err := (disk{}).replace(path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("replace: %v", err)
	}
	if err := (disk{}).syncFolder(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("syncFolder: %v", err)
	}
	writeFile(t, path, nil)
	readOnly, err := os.Open(path)
	check(t, err)
	defer func() { check(t, readOnly.Close()) }()
	if err := (disk{}).fill(readOnly, []byte("x")); !errors.Is(err, syscall.EBADF) {
		t.Errorf("fill: %v", err)
	}
}

func TestCreateOnBrokenDisk(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	r.store.disk.before = func(s string) error {
		if s == "sync folder" {
			return syscall.EIO
		}
		return nil
	}
	_, err := r.Open(t.Context(), "k")
	wantError(t, err, kms.Unavailable, "cannot make the folder", "input/output error")
	r.store.disk.before = func(s string) error {
		if s == "rename" {
			return syscall.EIO
		}
		return nil
	}
	_, err = r.Open(t.Context(), "k")
	wantError(t, err, kms.Unavailable, "cannot write")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a keyring: %v", err)
	}
}

func TestLeftovers(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	writeFile(t, path+".tmp", []byte("of a process that died"))
	mustRotate(t, path, "k")
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the leftover is still there: %v", err)
	}
	// Something that is not ours is not removed.
	writeFile(t, filepath.Join(path+".tmp", "precious"), []byte("x"))
	_, err := mustOpenKeyring(t, path).Rotate("k")
	wantError(t, err, kms.Unavailable, "cannot write")
	readFile(t, filepath.Join(path+".tmp", "precious"))
	wrapNew(t, key, nil)
}

func TestLock(t *testing.T) {
	path := tempPath(t)
	mustOpen(t, path, "k")
	held, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	check(t, err)
	if locked, err := tryLock(held); !locked || err != nil {
		t.Fatal(locked, err)
	}
	t.Run("held too long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := mustOpenKeyring(t, path).Rotate("k")
			wantError(t, err, kms.Unavailable, "another process has held "+path+".lock for 10s", "fuser ")
			if took := time.Since(start); took != lockTimeout {
				t.Errorf("gave up after %v", took)
			}
		})
	})
	t.Run("caller gives up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			key, err := kms.NewRegistry(Backend).Open(ctx, URI(path, "not-there-yet"))
			check(t, err)
			start := time.Now()
			_, err = key.Wrap(ctx, [][]byte{make([]byte, kms.DataKeySize)}, nil)
			wantError(t, err, kms.Canceled)
			if took := time.Since(start); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("gave up after %v: %v", took, err)
			}
		})
	})
	t.Run("readers need none", func(t *testing.T) {
		wrapNew(t, mustOpen(t, path, "k"), nil)
	})
	t.Run("free in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			time.AfterFunc(lockTimeout/2, func() { _ = held.Close() })
			_, err := mustOpenKeyring(t, path).Rotate("k")
			check(t, err)
		})
	})
	if _, err := tryLock(held); err == nil {
		t.Error("a closed file was locked")
	}
	check(t, os.Remove(path+".lock"))
	check(t, os.Mkdir(path+".lock", 0o700))
	_, err = mustOpenKeyring(t, path).Rotate("k")
	wantError(t, err, kms.Unavailable, "cannot open "+path+".lock")
}

func TestWriteRefuses(t *testing.T) {
	path := tempPath(t)
	mustOpen(t, path, "k")
	s := &store{path: path}
	wantUntouched(t, filepath.Dir(path), func() {
		err := s.update(t.Context(), false, func(c *contents) error {
			e := c.keys["k"]
			for range maxFileSize / 100 {
				e.add(time.Now())
			}
			return nil
		})
		wantError(t, report("rotate key", "", err), kms.Invalid, "would grow beyond")
		err = s.update(t.Context(), false, func(c *contents) error {
			c.keys["a b"] = c.keys["k"]
			return nil
		})
		wantError(t, report("rotate key", "", err), kms.Internal, "would not be readable", "nothing was changed")
	})
}

func TestOwnerNotTold(t *testing.T) {
	if got := ownerOf(noStat{}); got != -1 {
		t.Errorf("ownerOf = %d", got)
	}
}

type noStat struct{ fs.FileInfo }

func (noStat) Sys() any { return nil }

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"/var/lib/waxseal/keyring-1_a.json": "/var/lib/waxseal/keyring-1_a.json", "": "''", "/my keys": "'/my keys'", "/it's": `'/it'\''s'`, "$(x)": "'$(x)'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestReason(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "open", Path: "/k", Err: syscall.ENOSPC}, "no space left on device"},
		{fmt.Errorf("x: %w", context.Canceled), "the caller gave up"},
		{errors.New("a secret"), "input/output failed"},
	} {
		if got := reason(tt.err); got != tt.want {
			t.Errorf("reason(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}
