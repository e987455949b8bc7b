// Package vaulttest runs the real HashiCorp Vault server for tests: in
// development mode, in memory, on a loopback port of its own, gone when the test
// ends.
//
// Tests of vaultkms and of everything above it call Start and then prepare keys,
// policies and tokens through the Server's methods. The binary is one that
// `make servers` built; without it a test fails and says so, it is never
// skipped. No program links this package, and nothing in a Server outlives the
// test: it must never hold a secret that matters.
package vaulttest
