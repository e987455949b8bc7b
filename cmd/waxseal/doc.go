// Command waxseal is Waxseal's command line. It runs the codec server for the Temporal Web UI and the temporal command line,
// opens and seals payloads in files, shows what envelopes say without any key, manages local keyrings, examines keys, and
// serves stand-ins for cloud KMSs on loopback.
//
// It parses flags, wires the packages together and runs them. Standard output has the result and nothing else; all else goes
// to standard error. It never prints a key or a token, and no plaintext but that of payloads that it is to open.
package main
