// Package policy compiles Waxseal's policy file and answers three questions
// from it: which keys seal this payload (Policy.SealRule), what is a key's URI
// for this namespace (Key.Expand), and may this namespace open what another
// one sealed (Policy.Accepts).
//
// It promises to be strict and total: Parse refuses everything it does not
// understand, with the line, the column and a caret, and a parsed Policy
// answers for any input without panicking. What no rule allows is refused.
// Package codec asks; cmd loads and explains. This package calls no KMS, starts
// nothing, keeps no state and never logs; reading the file in Load is its only
// I/O. docs/policy.md is the reference of the file format.
package policy
