// Package payloads finds every Temporal payload in a message by reflection:
// whatever the field, also inside google.protobuf.Any, search attributes and
// the details of gRPC errors, and in fields that a newer API has added.
//
// The end-to-end tests look with it at what a client sent and what the server
// keeps. It deliberately shares nothing with the visitor that package codec
// uses: what that one overlooks, this one shows.
package payloads
