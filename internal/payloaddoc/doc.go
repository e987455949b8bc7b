// Package payloaddoc finds the Temporal payloads in a JSON document and replaces them. The command line calls it.
//
// A document is one payload, a Payloads message as codec servers speak it, a list of payloads, a history as "temporal workflow
// show -o json" or the Web UI write it, or the JSON of any other temporal command. Replace leaves every byte outside the
// payloads as it is. So fields of newer servers, the spelling of enums, the indentation and payloads in shorthand survive.
//
// Its errors say what is wrong and where, and never quote the document, which may be plaintext. It performs no I/O and holds
// no state.
package payloaddoc
