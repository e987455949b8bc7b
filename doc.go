// Package waxseal is the root of Waxseal, KMS-backed envelope encryption for
// Temporal. It holds no code, only the tests that keep the tree in order.
//
// Workers and clients use package codec, and programs that encrypt bytes of their own
// use package envelope, both with the keys of package kms; people and operators
// use the binary in cmd/waxseal.
package waxseal
