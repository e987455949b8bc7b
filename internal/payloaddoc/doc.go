// Package payloaddoc finds the Temporal payloads in a JSON document and puts
// others in their place, leaving every other byte as it is.
//
// A document is what people have at hand: one payload, a Payloads message as
// codec servers speak it, a list of payloads, a history as "temporal workflow
// show -o json" or the Web UI write it, or the JSON of any other temporal
// command. Histories are not taken apart into messages and put together again:
// fields that a newer server added, the spelling of enums, the indentation and
// payloads in shorthand survive, because they are never touched.
//
// The command line calls it. Its errors say what is wrong and where, never what
// stands there: the input may be plaintext. It performs no I/O and holds no state.
package payloaddoc
