// Package kmstest holds what tests of keys need: Run, the conformance suite
// that every kms backend passes, and Fake, an in-memory kms.Key with scripted
// faults; a Managed is a Fake that can also be rewrapped, rotated and probed.
//
// Backend packages call Run from their tests, and RunReal, which runs the same cases with a
// real key that the environment names. Tests of envelope, codec and everything above them
// seal with a Fake. A Fake encrypts for real (AES-256-GCM), so a test that passes with it
// proves what it claims, and it works inside testing/synctest bubbles. No program links
// this package: a Fake's keys are lost when the process ends.
package kmstest
