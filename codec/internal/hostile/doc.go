// Package hostile tests Waxseal's promises against a hostile Temporal server. It holds only
// tests, and this page, which says how they work.
//
// # The adversary
//
// The adversary is the server: it stores everything that honest programs send, chooses every
// response, and has no key. It is a scripted server (package temporaltest) on a loopback gRPC
// connection. A real worker and a real client of the SDK, with codec.NewPlugin, run a program
// that uses everything that carries payloads (program_test.go).
//
// # A shot
//
// First the server is honest. It plays a history with the worker, command by command
// (history_test.go, record_test.go), and makes the other responses with sealed content
// (scenes_test.go, clients_test.go, fill_test.go). Every value in them is a canary: a text that
// no other text contains. Each of these responses is a scene. A rehearsal delivers each scene
// unchanged: one that fails would prove nothing. Workflow tasks come whole, by pages, and with
// the last events for a workflow in the worker's cache. The wire test
// (../../wire_calls_test.go) has the client's calls with responses that hold nothing to alter,
// such as completions of activities, batches and resets.
//
// Then a shot takes a scene, one of the places in its response that can hold a payload
// (places_test.go finds them by reflection), and a mutation (mutations_test.go). It delivers
// the altered response, and an honest task after it (adversary_test.go).
//
// # What is checked
//
//   - No canary of an honest program leaves in any request or into external storage
//     (storage_test.go), which the adversary also reads and writes: in any field, header or gRPC
//     metadata, plain, upper case, as base64, hexadecimal or UTF-16, or as one of these in
//     another.
//   - Where the policy has requireSealed, no value that the adversary made up reaches the
//     program (lane_test.go notes every value that it receives), and none comes back in an
//     envelope: a codec with all keys opens every envelope of every request.
//   - No value of another namespace reaches the program.
//   - A refusal names its class, an error value has a hint, and neither holds a canary or
//     a line break.
//   - The honest task after the shot completes.
//
// Search attributes are plaintext by design: the test ignores them in the program. A program
// that calls the service directly receives messages, and opens none: its scenes are "raw", and
// check only requests.
//
// # Coverage
//
// coverage_test.go lists by reflection every place of every response of the API that can hold a
// payload. Each is in a scene, or in unread_test.go with the reason why no program reads it. A
// field that a new version of the API adds fails the test until it is in one of them.
//
// # The control
//
// TestTheAdversaryIsAble attacks the codec of Temporal's samples, which has no guard, with
// the same shots. It fails unless each property is broken there.
//
// # To reproduce a fault
//
// A failure prints the value of WAXSEAL_HOSTILE that runs only its shot: seed/lane/shot. A seed
// alone repeats a whole run. WAXSEAL_HOSTILE_COUNT is how many responses are altered. -v prints
// how often each place was altered, and how exchanges ended. WAXSEAL_HOSTILE_LOG prints the
// SDK's log.
package hostile
