package format

import "fmt"

// typicalClaims is how many claims fit before Parse allocates again.
const typicalClaims = 4

// Parse reads an envelope without any key. The result aliases b, which must not
// change while it is in use.
//
// Parse accepts exactly what Seal and Rewrap can write; for everything else it returns
// an *Error that wraps ErrMalformed, ErrUnsupported or ErrLimit (all kms.Corrupt to
// callers). The order of checks is the order of the bytes: size of the whole →
// recipients → protected: suite first, so that a later suite may change the layout of
// the rest, then salt, commitment, namespace, claims, compression → ciphertext → nothing
// behind it. For each field: tag → length against the limit → length against the bytes
// left → value.
//
// It allocates at most len(b) and a few hundred bytes for each recipient and claim.
func Parse(b []byte) (*Envelope, error) {
	if len(b) > maxEnvelope {
		return nil, tooLong(path{name: "envelope"}, uint64(len(b)), maxEnvelope).during(opParse, 0)
	}
	c := cursor{buf: b, end: len(b), message: messageEnvelope, name: path{name: "envelope"}}
	e := &Envelope{raw: b}
	if err := e.parseRecipients(&c); err != nil {
		return nil, err
	}
	e.body = c.pos

	field := path{name: "protected"}
	protected, err := c.bytes(envelopeProtected, field, maxProtected)
	if err != nil {
		return nil, err
	}
	e.protected = protected
	if err := e.parseProtected(c.in(protected, messageProtected, field)); err != nil {
		return nil, err
	}

	start := c.pos
	field = path{name: "ciphertext"}
	if e.ciphertext, err = c.bytes(envelopeCiphertext, field, maxCiphertext); err != nil {
		return nil, err
	}
	if n := len(e.ciphertext); n < ciphertextOverhead {
		reason := fmt.Sprintf("%d bytes where nonce and tag take %d", n, ciphertextOverhead)
		return nil, fault(ErrMalformed, field, reason).during(opParse, start)
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Envelope) parseRecipients(c *cursor) error {
	for c.at(envelopeRecipients) {
		start, i := c.pos, len(e.Recipients)
		if bad := checkRecipientCount(i + 1); bad != nil {
			return bad.during(opParse, start)
		}
		name := path{list: "recipients", index: i}
		val, err := c.bytes(envelopeRecipients, name, maxRecipient)
		if err != nil {
			return err
		}
		r, err := parseRecipient(c.in(val, messageRecipient, name), i)
		if err != nil {
			return err
		}
		e.Recipients = append(e.Recipients, r)
		if bad := checkRecipient(e.Recipients, i); bad != nil {
			return bad.during(opParse, start)
		}
	}
	if len(e.Recipients) == 0 {
		return c.refuse(envelopeRecipients, path{name: "recipients"})
	}
	return nil
}

func parseRecipient(c cursor, i int) (r Recipient, err error) {
	if c.at(recipientKeyID) {
		id, err := c.bytes(recipientKeyID, path{list: "recipients", index: i, name: "key_id"}, MaxKeyID)
		if err != nil {
			return Recipient{}, err
		}
		r.KeyID = string(id)
	}
	r.WrappedKey, err = c.bytes(recipientWrappedKey, path{list: "recipients", index: i, name: "wrapped_key"}, maxWrappedKey)
	if err != nil {
		return Recipient{}, err
	}
	return r, c.done()
}

func (e *Envelope) parseProtected(c cursor) error {
	c.text, c.base = string(e.protected), c.pos
	if err := e.parseSuite(&c); err != nil {
		return err
	}
	if err := c.fixed(protectedSalt, path{name: "salt"}, e.Salt[:]); err != nil {
		return err
	}
	if err := c.fixed(protectedCommitment, path{name: "commitment"}, e.Commitment[:]); err != nil {
		return err
	}
	start := c.pos
	namespace, err := c.string(protectedNamespace, path{name: "namespace"}, MaxNamespace)
	if err != nil {
		return err
	}
	if bad := checkNamespace(namespace); bad != nil {
		return bad.during(opParse, start)
	}
	e.Header.Namespace = namespace
	if err := e.parseClaims(&c); err != nil {
		return err
	}
	if err := e.parseCompression(&c); err != nil {
		return err
	}
	return c.done()
}

func (e *Envelope) parseSuite(c *cursor) error {
	start, field := c.pos, path{name: "suite"}
	n, err := c.number(protectedSuite, field)
	if err != nil {
		return err
	}
	e.Suite = Suite(n)
	if e.Suite != Suite1 {
		return fault(ErrUnsupported, field, fmt.Sprintf("%d is not known", n)).during(opParse, start)
	}
	return nil
}

func (e *Envelope) parseClaims(c *cursor) error {
	for c.at(protectedClaims) {
		start, i := c.pos, len(e.Header.Claims)
		if bad := checkClaimCount(i + 1); bad != nil {
			return bad.during(opParse, start)
		}
		name := path{list: "claims", index: i}
		val, err := c.bytes(protectedClaims, name, maxClaim)
		if err != nil {
			return err
		}
		claim, err := parseClaim(c.in(val, messageClaim, name), i)
		if err != nil {
			return err
		}
		if i == 0 {
			e.Header.Claims = make([]Claim, 0, typicalClaims)
		}
		e.Header.Claims = append(e.Header.Claims, claim)
		if bad := checkClaim(e.Header.Claims, i); bad != nil {
			return bad.during(opParse, start)
		}
	}
	return nil
}

func parseClaim(c cursor, i int) (claim Claim, err error) {
	claim.Name, err = c.string(claimName, path{list: "claims", index: i, name: "name"}, maxClaimName)
	if err != nil {
		return Claim{}, err
	}
	claim.Value, err = c.string(claimValue, path{list: "claims", index: i, name: "value"}, MaxClaimValue)
	if err != nil {
		return Claim{}, err
	}
	return claim, c.done()
}

func (e *Envelope) parseCompression(c *cursor) error {
	if !c.at(protectedCompression) {
		return nil
	}
	start := c.pos
	n, err := c.number(protectedCompression, path{name: "compression"})
	if err != nil {
		return err
	}
	e.Header.Compression = Compression(n)
	if bad := checkCompression(e.Header.Compression); bad != nil {
		return bad.during(opParse, start)
	}
	return nil
}
