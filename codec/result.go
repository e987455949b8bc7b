package codec

import (
	commonpb "go.temporal.io/api/common/v1"
)

// Decoded is the outcome of opening one payload.
type Decoded struct {
	// Payload is the original payload, or the input itself where it was not
	// sealed or could not be opened (then Err says why).
	Payload *commonpb.Payload
	// Sealed says that the input was an envelope (of ours, or of a legacy format).
	Sealed bool
	// Namespace is the claim sealed in the envelope; empty if there was none to read.
	Namespace string
	// KeyIDs are the KEKs that the envelope names, with versions, in recipient order.
	KeyIDs []string
	// Err is why Payload could not be opened. kms.ClassOf tells its Class.
	Err error
}
