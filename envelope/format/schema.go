package format

import "google.golang.org/protobuf/encoding/protowire"

// Field numbers, as in envelope.proto.
const (
	envelopeRecipients protowire.Number = 1
	envelopeProtected  protowire.Number = 2
	envelopeCiphertext protowire.Number = 3

	recipientKeyID      protowire.Number = 1
	recipientWrappedKey protowire.Number = 2

	protectedSuite       protowire.Number = 1
	protectedSalt        protowire.Number = 2
	protectedCommitment  protowire.Number = 3
	protectedNamespace   protowire.Number = 4
	protectedClaims      protowire.Number = 5
	protectedCompression protowire.Number = 6

	claimName  protowire.Number = 1
	claimValue protowire.Number = 2
)

// message is one of the messages of the schema.
type message uint8

const (
	messageEnvelope message = iota
	messageRecipient
	messageProtected
	messageClaim
)

var lastFields = [...]protowire.Number{
	messageEnvelope: envelopeCiphertext, messageRecipient: recipientWrappedKey, messageProtected: protectedCompression, messageClaim: claimValue,
}

// last returns the highest field number of m.
func (m message) last() protowire.Number { return lastFields[m] }

// wireType returns the wire type of field num of m.
func (m message) wireType(num protowire.Number) protowire.Type {
	if m == messageProtected && (num == protectedSuite || num == protectedCompression) {
		return protowire.VarintType
	}
	return protowire.BytesType
}
