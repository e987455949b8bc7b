// Package gcpkms is Google Cloud KMS on loopback for tests and development:
// the service's own gRPC interface, so that the real client libraries of any
// language talk to it, with real cryptography behind it, also under GODEBUG=fips140=only.
//
// Start returns a running Server, AddKey puts keys into it, and a client reaches
// it at Server.Addr over plaintext gRPC. Symmetric keys encrypt with AES-256-GCM,
// one random key for each version, and bind the additional authenticated data.
// Limits, key states, purposes, checksums (*_crc32c, verified_*) and status codes
// are those that Google documents; what the server does not do, such as signing,
// answers UNIMPLEMENTED.
//
// It authenticates no caller until SignIn and Grant give one an access token and roles;
// Deny takes a permission from all callers. Faults come on command: Inject makes requests
// wait, stall, or fail with any status and details, and makes answers wrong, cut short,
// damaged, enormous or endless; SetLatency is for benchmarks; DropConnections, SetDown and
// AnswerInstead act on the way to the server. Calls and MostInFlight count requests.
//
// Where the documentation leaves the words of an error open they are ours; a client should
// go by code and details. IAM policies by request, import jobs, external key managers and
// Autokey are not simulated, rotation schedules are shown but not followed, and what Google
// documents to take minutes, such as disabling a version, happens at once.
//
// Keys live in memory and are lost when the server stops. It listens on loopback
// only: never give it anything that must stay secret.
package gcpkms
