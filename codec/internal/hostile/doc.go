// Package hostile tests what Waxseal promises against a Temporal server that acts. It
// holds nothing but tests, and this page, which says how they work.
//
// # The adversary
//
// The adversary is the server: it stores everything that honest programs send, chooses
// every response, and has no key. It is a scripted server (package temporaltest) on a
// loopback gRPC connection. A real worker and a real client of the SDK, with
// codec.NewPlugin, run a program against it that uses all that carries payloads
// (program_test.go).
//
// # A shot
//
// First the server is honest. It plays a history with the worker, command by command
// (history_test.go, record_test.go), and makes the other responses with sealed content
// (scenes_test.go, clients_test.go, fill_test.go). Every value in them is a canary: a
// text that no other text contains. Each of these responses is a scene. A rehearsal
// delivers each as it is: one that does not go well would prove nothing. Workflow tasks
// come whole, by pages, and with the last events for a workflow in the worker's cache.
// What a client sends where the response holds nothing to alter, such as completions of
// activities, batches and resets, is in the wire test (../../wire_calls_test.go).
//
// Then a shot takes a scene, one of the places in its response that can hold a payload
// (places_test.go finds them by reflection), and a mutation (mutations_test.go), delivers
// what comes of it, and an honest task after it (adversary_test.go).
//
// # What is checked
//
//   - No canary of an honest program leaves in any request or into external storage
//     (storage_test.go), which the adversary reads and fills too: in any field, header or gRPC
//     metadata, plain, upper case, as base64, hexadecimal or UTF-16, or as one of these in
//     another.
//   - Where the policy has requireSealed, no value that the adversary made up reaches the
//     program (lane_test.go notes all that it is handed), and none comes back in an
//     envelope: a codec with all keys opens every envelope of every request.
//   - No value of another namespace reaches the program.
//   - A refusal names its class, an error value has a hint, and neither holds a canary or
//     a line break.
//   - The honest task after the shot completes.
//
// Search attributes are plaintext by design: values that are put there are not looked for
// in the program. A program that calls the service by itself is handed messages, and opens
// none: its scenes are "raw", and check what leaves.
//
// # Coverage
//
// coverage_test.go lists by reflection every place of every response of the API that can
// hold a payload. Each is in a scene, or in unread_test.go with the reason why no program
// reads it. A field that a new version of the API brings fails the test until it is one
// of both.
//
// # The control
//
// TestTheAdversaryIsAble attacks the codec of Temporal's samples, which has no guard, with
// the same shots. It fails unless each property is broken there.
//
// # To see a fault again
//
// A failure prints what WAXSEAL_HOSTILE has to be for its shot alone: seed/lane/shot. A
// seed alone repeats a whole run. WAXSEAL_HOSTILE_COUNT is how many responses are altered;
// -v prints how often each place was, and how exchanges ended; WAXSEAL_HOSTILE_LOG prints
// what the SDK logs.
package hostile
