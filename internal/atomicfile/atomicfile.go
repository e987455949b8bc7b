package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file at path by one of data with mode 0600, whatever the umask and the mode of the old file. It
// writes a file in the same folder and renames it once it is on the disk. It follows a symbolic link, and refuses what
// is no regular file, such as a folder or a device, with ErrIrregular.
func Write(path string, data []byte) (err error) {
	target, err := resolve(path)
	if err != nil {
		return fmt.Errorf("atomicfile: write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("atomicfile: write %s: %w", path, Cause(err))
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), target)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first failure is what matters
		return fmt.Errorf("atomicfile: write %s: %w", path, Cause(err))
	}
	return nil
}

// ErrIrregular is in the chain of the error for a path with something that is not a regular file.
var ErrIrregular = errors.New("not a regular file")

// resolve follows symbolic links to a file that need not exist.
func resolve(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return "", ErrIrregular
	case err == nil:
		target, err := filepath.EvalSymlinks(path)
		return target, Cause(err)
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	}
	return "", Cause(err)
}

// Cause returns an error of the operating system without the path.
func Cause(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}
