// Package keyset opens the KEKs of a policy, each behind its resilience, and finds those
// that may open an envelope: policy.Policy.MayOpen names the candidates, and a key ID found
// in an envelope never opens a key that the policy does not name.
//
// It knows which keys are out, for whatever waits for one. Keys of {namespace} templates
// are opened when a namespace first needs one, coalesced and bounded, and closed after their
// last call. It seals and opens no payload, and knows nothing of Temporal.
package keyset
