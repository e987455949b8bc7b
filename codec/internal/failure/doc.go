// Package failure seals the texts of Temporal failures and finds those that are in plaintext.
// It cuts a failure to the size that the server keeps, and marks the envelopes of texts so that
// they open only as texts. It replaces texts that cannot be sealed, or must not be read, by
// fixed ones, which never contain a text of a program.
package failure
