// Package devkms is what waxseal dev kms runs: an AWS KMS and a Google Cloud KMS on
// loopback, with keys, a policy file that names them, and outages on command.
//
// The command parses flags, prints and waits. This package never prints, and listens
// on loopback only; its keys are in memory and end with it.
package devkms
