// Package codec puts envelope encryption into Temporal's Go SDK: a
// PayloadCodec that knows its serialization context, a DataConverter, a
// FailureConverter, and a client plugin whose wire guard refuses to send what
// is not sealed.
//
// Workers and clients call it through the SDK, the codec server through
// Encode and Decode. It asks package policy which keys seal a payload and
// calls package envelope to do it; it holds no keys of its own. It never
// returns plaintext in place of an error and never mutates its inputs.
package codec
