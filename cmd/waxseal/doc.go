// Command waxseal is Waxseal for people and operators: the codec server that
// lets the Temporal Web UI and the temporal command line show plaintext, the
// same for files, a look into envelopes without any key, the care of local
// keyrings, an examination of keys, and stand-ins for cloud KMSs on loopback.
//
// It parses flags, wires the packages together and runs them. What it prints on
// standard output is what it was asked for, and only that; everything else goes
// to standard error. It prints no key and no token ever, and no plaintext but
// that which it was asked to open.
package main
