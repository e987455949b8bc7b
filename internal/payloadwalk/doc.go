// Package payloadwalk finds every payload in a Temporal API message, by reflection: in any
// field, map, list, failure, event or Any. The wire guard uses it, and so does whatever
// looks through histories.
//
// A field that a new version of the API adds is found without a change here. A message
// that cannot be looked into is an error (ErrOpaque), and never passes for one without
// payloads. Nothing is opened, sealed or logged, and search attributes are left out
// (WhyPlain says why).
package payloadwalk
