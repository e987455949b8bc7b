package format

// Rewrap returns a copy of the envelope b with other recipients: everything
// behind the recipients stays byte for byte, and so opens under the same data
// key as before. That the recipients hold that key is for the caller to make
// sure (Envelope.CommitsTo); one that does not is found out when it is opened.
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
