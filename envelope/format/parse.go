package format

import "fmt"

// typicalClaims is how many claims fit before Parse allocates again.
const typicalClaims = 4

// Parse reads an envelope without any key. The result aliases b, which must not change while it is in use.
//
// Parse accepts exactly what Seal and Rewrap can write; for everything else it returns an *Error that wraps
// ErrMalformed, ErrUnsupported or ErrLimit (all kms.Corrupt to callers). The order of checks is the order of the bytes:
// size of the whole → recipients → protected: suite first, so that a later suite may change the layout of the rest,
// then salt, commitment, namespace, claims, compression → ciphertext → nothing behind it. For each field: tag → length
// against the limit → length against the bytes left → value.
//
// It allocates at most len(b) and a few hundred bytes for each recipient and claim.
func Parse(b []byte) (*Envelope, error) {
	if len(b) > maxEnvelope {
		return nil, tooLong(path{name: "envelope"}, uint64(len(b)), maxEnvelope).during(opParse, 0)
	}
	c := cursor{buf: b, end: len(b), message: messageEnvelope, name: path{name: "envelope"}}
	e := &Envelope{raw: b}
	e.parseRecipients(&c)
	e.body = c.pos
	protected := c.enter(envelopeProtected, messageProtected, path{name: "protected"}, maxProtected)
	e.protected = b[protected.pos:protected.end:protected.end]
	e.parseProtected(&protected)
	c.leave(&protected)
	start, field := c.pos, path{name: "ciphertext"}
	e.ciphertext = c.bytes(envelopeCiphertext, field, maxCiphertext)
	if n := len(e.ciphertext); n < ciphertextOverhead {
		c.fail(fault(ErrMalformed, field, fmt.Sprintf("%d bytes where nonce and tag take %d", n, ciphertextOverhead)), start)
	}
	c.done()
	if c.err != nil {
		return nil, c.err
	}
	return e, nil
}

func (e *Envelope) parseRecipients(c *cursor) {
	for c.at(envelopeRecipients) {
		start, i := c.pos, len(e.Recipients)
		c.fail(checkRecipientCount(i+1), start)
		in := c.enter(envelopeRecipients, messageRecipient, path{list: "recipients", index: i}, maxRecipient)
		var r Recipient
		if in.at(recipientKeyID) {
			r.KeyID = string(in.bytes(recipientKeyID, path{list: "recipients", index: i, name: "key_id"}, MaxKeyID))
		}
		r.WrappedKey = in.bytes(recipientWrappedKey, path{list: "recipients", index: i, name: "wrapped_key"}, maxWrappedKey)
		if c.leave(&in); c.err != nil {
			return
		}
		e.Recipients = append(e.Recipients, r)
		c.fail(checkRecipient(e.Recipients, i), start)
	}
	if len(e.Recipients) == 0 {
		c.refuse(envelopeRecipients, path{name: "recipients"})
	}
}

func (e *Envelope) parseProtected(c *cursor) {
	c.text, c.base = string(e.protected), c.pos
	start, field := c.pos, path{name: "suite"}
	e.Suite = Suite(c.number(protectedSuite, field))
	if e.Suite != Suite1 {
		c.fail(fault(ErrUnsupported, field, fmt.Sprintf("%d is not known", uint32(e.Suite))), start)
	}
	c.fixed(protectedSalt, path{name: "salt"}, e.Salt[:])
	c.fixed(protectedCommitment, path{name: "commitment"}, e.Commitment[:])
	start = c.pos
	e.Header.Namespace = c.string(protectedNamespace, path{name: "namespace"}, MaxNamespace)
	c.fail(checkNamespace(e.Header.Namespace), start)
	e.parseClaims(c)
	if c.at(protectedCompression) {
		start = c.pos
		e.Header.Compression = Compression(c.number(protectedCompression, path{name: "compression"}))
		c.fail(checkCompression(e.Header.Compression), start)
	}
}

func (e *Envelope) parseClaims(c *cursor) {
	for c.at(protectedClaims) {
		start, i := c.pos, len(e.Header.Claims)
		c.fail(checkClaimCount(i+1), start)
		in := c.enter(protectedClaims, messageClaim, path{list: "claims", index: i}, maxClaim)
		claim := Claim{
			Name:  in.string(claimName, path{list: "claims", index: i, name: "name"}, maxClaimName),
			Value: in.string(claimValue, path{list: "claims", index: i, name: "value"}, MaxClaimValue),
		}
		if c.leave(&in); c.err != nil {
			return
		}
		if i == 0 {
			e.Header.Claims = make([]Claim, 0, typicalClaims)
		}
		e.Header.Claims = append(e.Header.Claims, claim)
		c.fail(checkClaim(e.Header.Claims, i), start)
	}
}
