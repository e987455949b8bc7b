//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localkms

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// supported says whether this system has what the package needs.
const supported = true

// openFlags open a file that is no symbolic link, without waiting for the other
// end of a pipe.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func effectiveUser() int { return os.Geteuid() }

// ownerOf returns the user ID of the owner of the file, -1 if it is not known.
func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// tryLock takes the file's lock, or reports that another process has it. The lock
// ends when the file is closed, or its process ends.
func tryLock(f *os.File) (locked bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	return err == nil, err
}
