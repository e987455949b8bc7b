// Package waxseal is the root of Waxseal, KMS-backed envelope encryption for
// Temporal. It holds no code, only the tests that keep the tree in order.
//
// Workers and clients use package codec. Programs that encrypt their own bytes use package
// envelope. Both use the keys of package kms. Operators use the binary in cmd/waxseal.
package waxseal
