package localkms

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// lockTimeout is how long a change waits for its turn. A change takes
// milliseconds; a process that holds the lock for longer is stopped or hangs.
const lockTimeout = 10 * time.Second

// store is a keyring file on the disk. It holds only the path, and is
// safe for concurrent use, also by several processes.
type store struct {
	path string // absolute and clean; may be or contain a symbolic link
	disk disk
}

func newStore(path string) (*store, error) { return newStoreOn(supported, path) }

// newStoreOn is newStore on a system that has what the package needs, or has not.
func newStoreOn(supported bool, path string) (*store, error) {
	switch {
	case !supported:
		return nil, problem(kms.Invalid, "local keyrings need a system with Unix permissions and file locks", "use a KMS, such as HashiCorp Vault", nil)
	case !filepath.IsAbs(path):
		return nil, problem(kms.Invalid, fmt.Sprintf("%q is not an absolute path", path), "name the keyring file with its whole path: local:///var/lib/waxseal/keyring#name", nil)
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return nil, problem(kms.Invalid, "the path holds a control character", "name another path", nil)
	case strings.HasSuffix(path, "/"):
		return nil, problem(kms.Invalid, path+" names a folder", "name a file in it: "+shellWord(path+"keyring"), nil)
	}
	return &store{path: filepath.Clean(path)}, nil
}

// load reads the file. If there is none, the error has errAbsent in its chain.
// The caller wipes the contents.
func (s *store) load() (*contents, fs.FileInfo, error) {
	target, err := s.resolve()
	if err != nil {
		return nil, nil, err
	}
	return s.loadAt(target)
}

func (s *store) loadAt(target string) (*contents, fs.FileInfo, error) {
	data, info, err := s.disk.read(target, maxFileSize, func(info fs.FileInfo) error {
		return factsOf(target, info).checkFile()
	})
	_, refused := errors.AsType[*kms.Error](err)
	switch {
	case refused:
		return nil, nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, s.absent()
	case err != nil:
		return nil, nil, fileProblem("read", target, err)
	}
	defer clear(data)
	if len(data) > maxFileSize {
		return nil, nil, problem(kms.Unavailable, fmt.Sprintf("%s is larger than %d bytes", target, maxFileSize), "name a keyring file", nil)
	}
	c, err := parse(data)
	if err != nil {
		if e, ok := errors.AsType[*kms.Error](err); ok {
			e.Detail = "keyring " + target + " is not understood: " + e.Detail
		}
		return nil, nil, err
	}
	c.settle(time.Now())
	return c, info, nil
}

// check reads the file, if there is one.
func (s *store) check() error {
	c, _, err := s.load()
	switch {
	case errors.Is(err, errAbsent):
		return nil
	case err != nil:
		return err
	}
	c.wipe()
	return nil
}

func (s *store) absent() error {
	return problem(kms.Invalid, "there is no keyring file "+s.path, "restore it from a backup, or correct the path; creating a key makes a new keyring", errAbsent)
}

// stat says what the file is now, cheaply.
func (s *store) stat() (fs.FileInfo, error) {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, s.absent()
	case err != nil:
		return nil, fileProblem("read", s.path, err)
	}
	return info, nil
}

// resolve follows symbolic links to the file, which need not exist, and checks
// the folders that decide which file that is.
func (s *store) resolve() (target string, err error) {
	folder, err := filepath.EvalSymlinks(filepath.Dir(s.path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", s.absent()
	case err != nil:
		return "", fileProblem("read", filepath.Dir(s.path), err)
	}
	if err := checkFolder(folder); err != nil {
		return "", err
	}
	target = filepath.Join(folder, filepath.Base(s.path))
	info, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return target, nil
	case err != nil:
		return "", fileProblem("read", target, err)
	case info.Mode()&fs.ModeSymlink == 0:
		return target, nil
	}
	end, err := filepath.EvalSymlinks(target)
	if err != nil {
		return "", problem(kms.Invalid, target+" is a symbolic link that leads nowhere", "restore the file that it points to, or remove the link", err)
	}
	return end, checkFolder(filepath.Dir(end))
}

func checkFolder(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return fileProblem("read", folder, err)
	}
	return factsOf(folder, info).checkFolder()
}

// update takes the lock, reads the file, lets change alter it, and writes it back. With
// create, it makes a file that does not exist, and the last folder of its path. It returns
// an error of change as it is, and then writes nothing.
func (s *store) update(ctx context.Context, create bool, change func(*contents) error) error {
	if create {
		if err := s.makeFolder(); err != nil {
			return err
		}
	}
	target, err := s.resolve()
	if err != nil {
		return err
	}
	lock, err := s.lock(ctx, target+".lock")
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // nothing was written to it; closing unlocks

	c, _, err := s.loadAt(target)
	if create && errors.Is(err, errAbsent) {
		c, err = newContents(), nil
	}
	if err != nil {
		return err
	}
	defer c.wipe()
	if err := change(c); err != nil {
		return err
	}
	return s.write(target, c)
}

func (s *store) write(target string, c *contents) error {
	data := c.encode()
	defer clear(data)
	if len(data) > maxFileSize {
		return problem(kms.Invalid, fmt.Sprintf("keyring %s would grow beyond %d bytes", target, maxFileSize), "start another keyring for further keys", nil)
	}
	// What could not be read again is not written: the same rules both ways.
	again, err := parse(data)
	if err != nil {
		return problem(kms.Internal, "keyring "+target+" would not be readable after the change", "nothing was changed; please report this bug", err)
	}
	again.wipe()
	if err := s.disk.replace(target, data); err != nil {
		return fileProblem("write", target, err)
	}
	if err := s.disk.syncFolder(filepath.Dir(target)); err != nil {
		return problem(kms.Unavailable, "the change to "+target+" was made, but may not survive a power failure: "+reason(err),
			"see to the disk, then list the keyring's keys to see whether the change is there", err)
	}
	return nil
}

// makeFolder makes the folder of the file, but none above it: a mistyped path
// should not grow a tree.
func (s *store) makeFolder() error {
	folder := filepath.Dir(s.path)
	err := os.Mkdir(folder, 0o700)
	if err == nil {
		err = s.disk.syncFolder(filepath.Dir(folder))
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return problem(kms.Invalid, "there is no folder "+filepath.Dir(folder), "correct the path, or: mkdir -p "+shellWord(filepath.Dir(folder)), err)
	default:
		return fileProblem("make the folder", folder, err)
	}
}

// lock waits until this process may change the file, at most until ctx ends.
func (s *store) lock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR|os.O_CREATE|openFlags, 0o600)
	if err != nil {
		return nil, fileProblem("open", path, err)
	}
	if err := s.takeTurn(ctx, f); err != nil {
		_ = f.Close() // nothing was written to it
		return nil, err
	}
	return f, nil
}

func (s *store) takeTurn(ctx context.Context, f *os.File) error {
	deadline := time.NewTimer(lockTimeout)
	defer deadline.Stop()
	for wait := time.Millisecond; ; wait = min(2*wait, 32*time.Millisecond) {
		locked, err := tryLock(f)
		if err := errors.Join(err, s.disk.step("lock")); err != nil {
			return fileProblem("lock", f.Name(), err)
		}
		if locked {
			return nil
		}
		pause := time.NewTimer(wait/2 + rand.N(wait)) //nolint:gosec // jitter, not a secret
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-deadline.C:
			pause.Stop()
			return problem(kms.Unavailable, fmt.Sprintf("another process has held %s for %v", f.Name(), lockTimeout),
				"look for a waxseal process that hangs: fuser "+shellWord(f.Name()), nil)
		}
	}
}
