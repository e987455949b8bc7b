package policy

import (
	"io"
	"os"
)

// Load reads and parses the policy file of that name. What cannot be read is a
// *ReadError, what cannot be accepted an *Error; no more than MaxFileSize bytes
// are taken in.
func Load(filename string) (*Policy, error) {
	text, err := read(filename)
	if err != nil {
		return nil, &ReadError{File: filename, Err: err}
	}
	return Parse(filename, text)
}

func read(filename string) (text []byte, err error) {
	f, err := os.Open(filename)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	return io.ReadAll(io.LimitReader(f, MaxFileSize+1)) // one byte more, for Parse to see that it is too large
}
