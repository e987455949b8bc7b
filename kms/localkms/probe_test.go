//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms"
)

func wantReport(t *testing.T, key *Key, now time.Time, words ...string) kms.Report {
	t.Helper()
	r, err := key.probe(t.Context(), now)
	check(t, err)
	text := r.Key + "\n" + strings.Join(r.Warnings, "\n")
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the report does not say %q:\n%s", w, text)
		}
	}
	if want := fmt.Sprintf("user %d of this machine", os.Geteuid()); r.Identity != want || !r.SkewKnown || r.Skew != 0 {
		t.Errorf("report %+v", r)
	}
	return r
}

func TestProbe(t *testing.T) {
	path := tempPath(t)
	r := mustOpenKeyring(t, path)
	key, err := r.Open(t.Context(), "k")
	check(t, err)
	defer func() { check(t, key.Close()) }()
	now := time.Now()
	wantReport(t, key, now, path+", made when it first wraps", "for development")
	if n := keysIn(t, path); n != 0 {
		t.Errorf("probing made %d keys", n)
	}
	wrapNew(t, key, nil)
	mustRotate(t, path, "k")
	got := wantReport(t, key, now, "AES-256-GCM in "+path+", version 2 of 2", "for development")
	if len(got.Warnings) != 1 {
		t.Errorf("warnings about a keyring that is well: %q", got.Warnings)
	}
	check(t, r.Disable("k", "1"))
	at, err := r.Destroy("k", "1", time.Hour)
	check(t, err)
	wantReport(t, key, now, "Version 1 is to be destroyed at "+at.Format(time.RFC3339))
	wantReport(t, key, now.Add(400*24*time.Hour+time.Hour), "Version 2 wraps since 400 days", "rotate the key")

	check(t, r.Disable("k", "2"))
	beside, err := key.Probe(t.Context())
	wantError(t, err, kms.Disabled, "version 2 is disabled")
	if beside.Identity == "" || len(beside.Warnings) == 0 {
		t.Errorf("beside the error stands %+v", beside)
	}
	destroyNow(t, path, "k", "2")
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.NotFound, "version 2 was destroyed")
	check(t, os.Chmod(path, 0o644))
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.Denied, "mode 0644")
	check(t, os.RemoveAll(filepath.Dir(path)))
	_, err = key.Probe(t.Context())
	wantError(t, err, kms.Invalid, "there is no keyring file")
}

// A key that was there and is gone is not one that is yet to be made.
func TestProbeOfARemovedKey(t *testing.T) {
	key := mustOpen(t, tempPath(t), "k")
	check(t, key.store.update(t.Context(), false, func(c *contents) error {
		delete(c.keys, "k")
		return nil
	}))
	_, err := key.Probe(t.Context())
	wantError(t, err, kms.NotFound, `has no key "k"`)
}

func TestProbeLooksAtFolders(t *testing.T) {
	path := tempPath(t)
	key := mustOpen(t, path, "k")
	folder := filepath.Dir(path)
	check(t, os.Chmod(folder, 0o755))
	wantReport(t, key, time.Now(), "Others may look into the folder of the keyring (mode 0755): chmod 700 "+folder)

	// Both folders count when the keyring is a link.
	link := filepath.Join(t.TempDir(), "open", "link")
	check(t, os.Mkdir(filepath.Dir(link), 0o700))
	check(t, os.Symlink(path, link))
	linked := mustOpen(t, link, "k")
	check(t, os.Chmod(filepath.Dir(link), 0o770))
	wantReport(t, linked, time.Now(), "look into the folder", "Others may replace files in the folder of the keyring (mode 0770): chmod 700 "+filepath.Dir(link))
}

func TestFolderWarning(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o700: "", 0o500: "", 0o711: "look into", 0o750: "look into", 0o755: "look into",
		0o770: "replace files in", 0o720: "replace files in", fs.ModeSticky | 0o777: "put files into", fs.ModeSticky | 0o755: "look into",
	} {
		got := folderWarning("/my ring", mode)
		if (len(got) == 0) != (want == "") || want != "" && (!strings.Contains(got[0], want) || !strings.Contains(got[0], "chmod 700 '/my ring'")) {
			t.Errorf("mode %v: %q", mode, got)
		}
	}
}
