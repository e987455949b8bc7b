package localkms

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// oldVersion is the age from which on the primary is called old. Nothing counts
// what a version wraps, and it should not be more than 2^32 data keys (SP
// 800-38D, 8.3): at a hundred a second that takes 16 months.
const oldVersion = 365 * 24 * time.Hour

// Probe implements kms.Prober. A key that is not made yet is no error: its first
// Wrap makes it. What was found out stands beside an error.
func (k *Key) Probe(ctx context.Context) (kms.Report, error) {
	r, err := k.probe(ctx, time.Now())
	k.report("probe", &err)
	return r, err
}

func (k *Key) probe(ctx context.Context, now time.Time) (kms.Report, error) {
	r := kms.Report{
		Identity: fmt.Sprintf("user %d of this machine", effectiveUser()), SkewKnown: true, // one clock
		Warnings: []string{"A local keyring is for development, tests and one machine: whoever reads the file opens all that was sealed with it."},
	}
	folders, err := k.folderWarnings()
	if err != nil {
		return r, err
	}
	r.Warnings = append(r.Warnings, folders...)
	e, wipe, err := k.entry(ctx)
	if errors.Is(err, errNoKey) && !k.seen.Load() {
		r.Key = "AES-256-GCM in " + k.store.path + ", made when it first wraps"
		return r, nil
	}
	if err != nil {
		return r, err
	}
	defer wipe()
	for _, v := range e.versions {
		if v.number == e.primary {
			if err := (loadedVersion{state: v.state, destroyAt: v.destroyAt}).usable(v.number); err != nil {
				return r, err
			}
			r.Key = fmt.Sprintf("AES-256-GCM in %s, version %d of %d", k.store.path, e.primary, len(e.versions))
		}
		r.Warnings = append(r.Warnings, v.warnings(v.number == e.primary, now)...)
	}
	return r, nil
}

func (v *version) warnings(primary bool, now time.Time) []string {
	switch age := now.Sub(v.created); {
	case v.state == Pending:
		return []string{fmt.Sprintf("Version %d is to be destroyed at %s: what it wrapped cannot be opened then.", v.number, v.destroyAt.Format(time.RFC3339))}
	case primary && age > oldVersion:
		return []string{fmt.Sprintf("Version %d wraps since %d days, and nothing counts how often: rotate the key.", v.number, int(age.Hours()/24))}
	}
	return nil
}

// folderWarnings says what others may do in the folder of the keyring, and in
// that of the file if the keyring is a symbolic link. What is dangerous there is
// refused; this is what is unwise.
func (k *Key) folderWarnings() ([]string, error) {
	target, err := k.store.resolve()
	if err != nil {
		return nil, err
	}
	folders := []string{filepath.Dir(target)}
	if folder, err := filepath.EvalSymlinks(filepath.Dir(k.store.path)); err == nil && folder != folders[0] {
		folders = append(folders, folder)
	}
	var out []string
	for _, folder := range folders {
		if info, err := os.Stat(folder); err == nil { // if it is gone, so is the file, which is read next
			out = append(out, folderWarning(folder, info.Mode())...)
		}
	}
	return out, nil
}

func folderWarning(folder string, mode fs.FileMode) []string {
	open := ""
	switch perm := mode.Perm(); {
	case perm&0o022 != 0 && mode&fs.ModeSticky == 0:
		open = "replace files in"
	case perm&0o022 != 0:
		open = "put files into"
	case perm&0o055 != 0:
		open = "look into"
	default:
		return nil
	}
	return []string{fmt.Sprintf("Others may %s the folder of the keyring (mode %04o): chmod 700 %s", open, mode.Perm(), shellWord(folder))}
}
