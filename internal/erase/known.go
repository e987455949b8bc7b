//go:build go1.26 && !go1.27

package erase

// layoutsKnown says that the ciphers of this version of Go (crypto/internal/fips140/aes and
// its gcm) were read, and share nothing with other objects. Add a version after reading.
const layoutsKnown = true
