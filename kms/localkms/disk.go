package localkms

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk reads and writes whole files. The zero value is ready to use.
type disk struct {
	// before, if not nil, is called before each step and may fail it: so tests see what a
	// broken disk does.
	before func(step string) error
}

func (d disk) step(name string) error {
	if d.before == nil {
		return nil
	}
	return d.before(name)
}

// read returns the file's first bytes, at most limit+1 of them, and what the
// file is. Trust is decided on the open file, so that it cannot be exchanged in
// between.
func (d disk) read(path string, limit int64, trusted func(fs.FileInfo) error) ([]byte, fs.FileInfo, error) {
	if err := d.step("open"); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err := errors.Join(err, d.step("stat")); err != nil {
		return nil, nil, err
	}
	if err := trusted(info); err != nil {
		return nil, nil, err
	}
	data := make([]byte, min(info.Size(), limit)+1) // large enough: growing would leave a copy behind
	n, err := io.ReadFull(f, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err := errors.Join(err, d.step("read")); err != nil {
		clear(data)
		return nil, nil, err
	}
	return data[:n], info, nil
}

// replace puts data in the place of the file at path, all of it or nothing.
// Only one process at a time may do so: whatever stands under the temporary
// name was left by one that died.
func (d disk) replace(path string, data []byte) error {
	temporary := path + ".tmp"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.step("create"); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Clean(temporary), os.O_WRONLY|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
	if err != nil {
		return err
	}
	err = d.fill(f, data)
	err = errors.Join(err, f.Close(), d.step("close"))
	if err == nil {
		err = d.step("rename")
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// fill writes data to a new file and has it on the disk when it returns.
func (d disk) fill(f *os.File, data []byte) error {
	if err := d.step("write"); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := errors.Join(d.step("chmod"), f.Chmod(0o600)); err != nil { // whatever the umask
		return err
	}
	if err := d.step("sync"); err != nil {
		return err
	}
	return f.Sync()
}

// syncFolder makes a rename in the folder survive a power failure.
func (d disk) syncFolder(path string) error {
	if err := d.step("sync folder"); err != nil {
		return err
	}
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
