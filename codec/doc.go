// Package codec puts envelope encryption into Temporal's Go SDK: a PayloadCodec that knows its
// serialization context, a DataConverter, a FailureConverter, and a client plugin with a wire
// guard that refuses to send payloads that are not sealed.
//
// Workers and clients call it through the SDK. The codec server calls Encode and Decode.
// Package policy decides which keys seal a payload, and package envelope seals it: this package
// holds no keys. It never returns plaintext in place of an error and never mutates its inputs.
package codec
