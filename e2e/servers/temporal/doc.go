// Command temporal-server is a real Temporal server with the real Web UI in
// one process, for tests, demos and benchmarks.
//
// The end-to-end tests and `make demo` start it; e2e/servers/install.sh builds
// it. It is a module of its own so that the server's dependencies stay out of
// everybody else's. It listens on 127.0.0.1 and nowhere else, asks nobody for
// credentials, and contacts no other host; it is not meant for production.
package main
