// Package failure seals the texts of Temporal failures and finds those that are in
// plaintext. It cuts a failure to the size that the server keeps, marks the envelopes of
// texts so that they open as texts alone, and puts fixed words in place of what cannot be
// sealed or must not be read. No text of a program ever leaves in its place.
package failure
