// Package payloadwalk finds every payload in a Temporal API message, by reflection: in any
// field, map, list, failure, event or Any. The wire guard and package failure use it.
//
// It finds a field that a new version of the API adds without a change here. A message that it
// cannot look into is an error (ErrOpaque), and never counts as one without payloads. It opens,
// seals and logs nothing, and leaves out search attributes (WhyPlain says why).
package payloadwalk
