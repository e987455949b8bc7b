// Command soak runs the long forms of the tests that a minute cannot pass: half an
// hour without a KMS under workflows in flight, an hour of sealing and opening
// with flat memory, 10^8 seals without a repeated nonce, and 100,000 altered
// responses of a hostile server. It says what it is doing and for how long, can be
// ended with Ctrl-C at any time, and leaves a folder with a report, pictures and
// the figures behind.
package main
