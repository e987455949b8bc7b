package policy

import (
	"io"
	"os"
)

// Load reads and parses the policy file of that name. It returns an *Error for a file that it refuses, and another error
// with a hint for one that it cannot read. It reads at most MaxFileSize bytes and one.
func Load(filename string) (*Policy, error) {
	f, err := os.Open(filename)
	if err != nil {
		return nil, &readError{File: filename, Err: err}
	}
	defer func() { _ = f.Close() }()                          // only read from
	text, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1)) // one byte more, for Parse to see that it is too large
	if err != nil {
		return nil, &readError{File: filename, Err: err}
	}
	return Parse(filename, text)
}
