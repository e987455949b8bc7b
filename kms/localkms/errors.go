package localkms

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/waxseal/waxseal/kms"
)

// ErrExists is in the chain of the error that Keyring.Create gives for a key
// that is there already.
var ErrExists = errors.New("localkms: key exists")

// errAbsent is in the chain of errors that mean: there is no file yet, and one
// may be made.
var errAbsent = errors.New("localkms: no keyring file")

// problem is an error without its operation and key, which report adds.
func problem(class kms.Class, detail, advice string, cause error) *kms.Error {
	return &kms.Error{Class: class, Detail: detail, Advice: advice, Err: cause}
}

// report gives err the operation and the key that it is about.
func report(op, keyID string, err error) error {
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		return &kms.Error{Class: kms.ClassOf(err), Op: op, KeyID: keyID, Detail: reason(err), Err: err}
	}
	named := *e
	named.Op, named.KeyID = op, keyID
	return &named
}

// fileProblem is what the operating system said about a file or folder.
func fileProblem(verb, path string, err error) *kms.Error {
	class, advice := kms.Unavailable, "see to the disk, then try again"
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		class, advice = kms.Denied, "let the user who runs this read and write the keyring file and its folder, or name another path"
	}
	return problem(class, "cannot "+verb+" "+path+": "+reason(err), advice, err)
}

// reason is an error of the operating system in its own fixed words. Other
// errors may quote what they read and give only a general one.
func reason(err error) string {
	errno, ok := errors.AsType[syscall.Errno](err)
	switch {
	case ok:
		return errno.Error()
	case kms.ClassOf(err) == kms.Canceled:
		return "the caller gave up"
	default:
		return "input/output failed"
	}
}

// shellWord returns path so that it can be pasted into a shell.
func shellWord(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,", r)
	}
	if path != "" && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
