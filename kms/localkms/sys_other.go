//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package localkms

import (
	"errors"
	"io/fs"
	"os"
)

// supported says whether this system has what the package needs. This one has
// not: newStore refuses, and nothing below is reached.
const supported = false

const openFlags = 0

func effectiveUser() int { return -1 }

func ownerOf(fs.FileInfo) int { return -2 }

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }
