// Package policy compiles Waxseal's policy file and answers three questions from it: which keys seal a payload
// (Policy.SealRule), what is a key's URI for a namespace (Key.Expand), and may a namespace open what another one sealed
// (Policy.Accepts). Package codec calls it; cmd loads the file and shows its errors.
//
// It promises to be strict and total: Parse refuses everything it does not understand, with the line, the column and a
// caret, and a parsed Policy answers for any input without panicking. It refuses what no rule allows. It calls no KMS,
// starts nothing, keeps no state and never logs; its only I/O is that Load reads the file. schema.go declares the file's
// fields, and docs/policy.md is their reference.
package policy
