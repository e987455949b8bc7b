// Package servers starts the real servers that the end-to-end tests and the
// demo run against: Temporal with its Web UI, and Vault. It also finds the
// temporal command and a browser.
//
// The programs are those that e2e/servers/install.sh installs; one that is
// missing is an error that says to run `make servers`, never a skipped test.
// Servers listen on 127.0.0.1 at free ports, have answered before a Run or
// Start function returns, and end with the test, with Stop, or (on Linux) with
// the process that started them. The package never installs anything and never
// uses a server that somebody else runs.
package servers
