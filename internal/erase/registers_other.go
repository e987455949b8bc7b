//go:build !amd64 && !arm64

package erase

// clearRegisters does nothing: where there is no assembly for AES, no vector
// registers hold keys for long.
func clearRegisters() {}
