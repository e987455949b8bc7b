package localkms

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/waxseal/waxseal/kms"
)

// facts is what decides whether a file or folder can be trusted.
type facts struct {
	path string
	mode fs.FileMode
	uid  int // its owner
	euid int // of this process
}

func factsOf(path string, info fs.FileInfo) facts {
	return facts{path: path, mode: info.Mode(), uid: ownerOf(info), euid: effectiveUser()}
}

// checkFile refuses a keyring that others could have read or written.
func (f facts) checkFile() error {
	switch {
	case f.mode.IsDir():
		return problem(kms.Denied, f.path+" is a folder", "name a file in it: "+shellWord(filepath.Join(f.path, "keyring")), nil)
	case !f.mode.IsRegular():
		return problem(kms.Denied, f.path+" is not a regular file", "name a regular file, or one that does not exist yet", nil)
	case f.uid != f.euid:
		return problem(kms.Denied, fmt.Sprintf("%s belongs to user %d, and this runs as user %d", f.path, f.uid, f.euid),
			fmt.Sprintf("run as its owner, or: chown %d %s", f.euid, shellWord(f.path)), nil)
	case f.mode.Perm()&0o077 != 0:
		return problem(kms.Denied, fmt.Sprintf("%s is open to others (mode %04o)", f.path, f.mode.Perm()),
			"chmod 600 "+shellWord(f.path)+"; if someone may have read it, rotate its keys", nil)
	}
	return nil
}

// checkFolder refuses a folder where others could put another keyring in place.
func (f facts) checkFolder() error {
	switch {
	case !f.mode.IsDir():
		return problem(kms.Denied, f.path+" is not a folder", "name a file in a folder", nil)
	case f.mode.Perm()&0o002 != 0 && f.mode&fs.ModeSticky == 0:
		return problem(kms.Denied, fmt.Sprintf("everyone may replace files in %s (mode %04o, no sticky bit)", f.path, f.mode.Perm()),
			"chmod o-w "+shellWord(f.path)+", or keep the keyring in a folder of its own", nil)
	}
	return nil
}
