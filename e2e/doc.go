// Package e2e proves Waxseal against the real thing: a real Temporal server
// and Web UI, the temporal command, a browser and the waxseal binary, all on
// loopback.
//
// It holds tests only. They promise that of all that a worker and its clients
// say, the server never sees or stores more in plaintext than
// docs/what-is-encrypted.md admits, and that those who may read it can. The
// programs that they need are installed by e2e/servers/install.sh; one that is
// missing fails the tests, none is ever skipped.
package e2e
