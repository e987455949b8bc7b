// Package guard is the last check before a request leaves: a gRPC client interceptor that finds
// every payload of every request, and refuses a request with one that is not sealed. plain.go
// lists what may leave in plaintext, and why.
//
// The guard itself seals what does not pass the data converter: headers where the namespace's
// rule says sealHeaders, failures, and data that a workflow or a schedule has from before the
// plugin. It also checks responses: it opens sealed headers, puts the data keys of a workflow
// task into the cache before the SDK sees the task, and drops what the server must not decide.
// Package hold decides which tasks wait.
//
// One walk of a message plans the changes, and then the planned places are edited. A request is
// edited in a copy, since the caller may send it again. The guard reads no texts but those of
// failures.
package guard
