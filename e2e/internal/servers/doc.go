// Package servers starts the real Temporal server, with its Web UI, that the
// end-to-end tests and the demo run against, and finds the temporal command and
// a browser. It also starts Vault, for programs: tests of the root module have
// internal/vaulttest.
//
// The programs are those that e2e/servers/install.sh installs; one that is
// missing is an error that says to run `make servers`, never a skipped test. A
// server listens on 127.0.0.1 at free ports, has answered before RunTemporal or
// StartTemporal returns, and ends with the test, with Stop, or (on Linux) with
// the process that started it. The package never installs anything and never
// uses a server that it did not start.
package servers
