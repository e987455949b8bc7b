//go:build !go1.26 || go1.27

package erase

const layoutsKnown = false
