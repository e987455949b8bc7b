// Package guard is the last look before a request leaves: a gRPC client interceptor that
// finds every payload of every request, and refuses a request with one that is not sealed.
// plain.go lists what may leave in plaintext, and why.
//
// It seals itself what passes the data converter by: headers where the namespace's rule says
// sealHeaders, failures, and what a workflow or a schedule carries over from before it had
// the plugin. It checks responses too, opens sealed headers in them, has the data keys of a
// workflow task in the cache before the SDK sees the task, and drops what a server must not
// decide. Package hold decides which tasks wait.
//
// One walk of a message plans, and the planned places are then edited. A request is edited in
// a copy, since the caller may send it again. No other text than that of failures is
// looked at.
package guard
