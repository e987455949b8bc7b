package codec

import (
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
)

// retryable returns what an error must be where the input of a Nexus operation does not
// open for now. The SDK opens it without a context to wait with, and says of any other
// error that the request was bad: the operation would fail for good, and with it
// mostly the workflow that called it. This one has the server try again.
func (d *dataConverter) retryable(err error) error {
	s := d.codec.site
	if _, nexus := s.serialization.(converter.NexusSerializationContext); !nexus || s.workflow != nil || s.ctx != nil || !d.codec.codec.holds(s.owner(), err) {
		return err
	}
	return temporal.NewApplicationErrorWithOptions("waxseal: the operation's input cannot be opened for now", "HeldError", temporal.ApplicationErrorOptions{Cause: err})
}
