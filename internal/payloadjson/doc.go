// Package payloadjson reads and writes Temporal's Payloads message as JSON, the
// body of every codec server request and answer.
//
// Parse accepts what protojson accepts (camelCase and snake_case names, padded or unpadded, standard or URL-safe base64) and
// nothing else, and stops at its Limits before it allocates more. Append writes what protojson writes, always in the same
// bytes: no spaces, fields in field-number order, metadata sorted by name, so that two answers can be compared.
//
// Package httpapi calls it, and the command line for payload files. Its errors say what is wrong and at which byte, and never
// quote the document, which may be plaintext. It performs no I/O and holds no state.
package payloadjson
