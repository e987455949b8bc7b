// Package e2e proves Waxseal against the real thing: a real Temporal server
// and Web UI, the temporal command, a browser and the waxseal binary, all on
// loopback.
//
// It holds tests only. They promise that the server never sees or stores more plaintext
// of a worker and its clients than docs/what-is-encrypted.md admits, and that authorized
// users can read the rest. e2e/servers/install.sh installs the programs that the tests
// need. A missing program fails the tests; no test is ever skipped.
package e2e
