package format

// Rewrap returns a copy of the envelope b with other recipients. All bytes behind the
// recipients stay, so it opens under the same data key. The caller ensures that the
// recipients hold that key (Envelope.CommitsTo); Open refuses any other.
//
// It returns the errors of Parse for b and of ValidateRecipients for recipients.
func Rewrap(b []byte, recipients []Recipient) ([]byte, error) {
	e, err := Parse(b)
	if err != nil {
		return nil, err
	}
	if err := ValidateRecipients(recipients); err != nil {
		return nil, err
	}
	body := e.raw[e.body:]
	dst := make([]byte, 0, sizeRecipients(recipients)+len(body))
	dst = appendRecipients(dst, recipients)
	return append(dst, body...), nil
}
