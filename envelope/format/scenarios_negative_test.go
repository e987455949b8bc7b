package format_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/waxseal/waxseal/envelope/format"
)

// malformed returns a scenario that Parse refuses as malformed, blaming the field at.
func malformed(name, at, comment string, spoil func(d *draft)) scenario {
	return scenario{name: name, at: at, comment: comment, expect: "malformed", draft: spoil}
}

// over returns a scenario that Parse refuses because of a limit.
func over(name, at, comment string, spoil func(d *draft)) scenario {
	return scenario{name: name, at: at, comment: comment, expect: "limit", draft: spoil}
}

// is returns a draft with the envelope b.
func is(b []byte) func(d *draft) {
	return func(d *draft) { d.outer = func(_, _, _ []byte) []byte { return b } }
}

// cut returns a draft with an envelope that lacks its last n bytes.
func cut(n int) func(d *draft) {
	return func(d *draft) {
		d.outer = func(r, p, c []byte) []byte {
			b := slices.Concat(r, ld(2, p), ld(3, c))
			return b[:len(b)-n]
		}
	}
}

// namespaced returns a draft with this field in place of the namespace.
func namespaced(field []byte) func(d *draft) {
	return func(d *draft) { d.fields[fieldNamespace] = field }
}

// recipient returns a draft with one recipient of these fields.
func recipient(fields ...[]byte) func(d *draft) {
	return func(d *draft) { d.recipients = [][]byte{ld(1, slices.Concat(fields...))} }
}

// claiming returns a draft with these claims.
func claiming(claims ...[]byte) func(d *draft) {
	return func(d *draft) { d.claims(claims...) }
}

// layout returns a draft with its parts put together by f.
func layout(f func(recipients, protected, ciphertext []byte) []byte) func(d *draft) {
	return func(d *draft) { d.outer = f }
}

var wrappedKeyField = ld(2, []byte("canary wrapped key"))

var malformedScenarios = []scenario{
	malformed("empty", "recipients", "No bytes at all.", is(nil)),
	malformed("not-an-envelope", "envelope", "JSON text.", is([]byte(`{"canary":"not an envelope"}`))),
	malformed("all-zero", "envelope", "32 zero bytes: field number zero does not exist.", is(make([]byte, 32))),
	malformed("recipients-missing", "recipients", "No recipients.", func(d *draft) { d.recipients = nil }),
	malformed("protected-missing", "protected", "No protected field: the ciphertext follows the recipients.",
		layout(func(r, _, c []byte) []byte { return slices.Concat(r, ld(3, c)) })),
	malformed("ciphertext-missing", "ciphertext", "Ends behind the protected field.",
		layout(func(r, p, _ []byte) []byte { return slices.Concat(r, ld(2, p)) })),
	malformed("protected-empty", "protected", "The protected field is there, and empty.",
		layout(func(r, _, c []byte) []byte { return slices.Concat(r, ld(2, nil), ld(3, c)) })),
	malformed("ciphertext-empty", "ciphertext", "The ciphertext is there, and empty.",
		layout(func(r, p, _ []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, nil)) })),
	malformed("ciphertext-27-bytes", "ciphertext", "27 bytes of ciphertext: nonce and tag alone take 28.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, c[:27])) })),

	malformed("truncated-by-one", "ciphertext", "The last byte is missing.", cut(1)),
	malformed("truncated-to-one", "recipients[0]", "A tag and nothing else.", is([]byte{0x0a})),
	malformed("truncated-length", "recipients[0]", "Ends in the middle of a length.", is([]byte{0x0a, 0x80})),
	malformed("truncated-recipient", "recipients[0]", "Ends inside of the recipient.",
		layout(func(r, _, _ []byte) []byte { return r[:len(r)-1] })),
	malformed("truncated-protected", "protected", "Ends inside of the protected field.",
		layout(func(r, p, _ []byte) []byte { return slices.Concat(r, cutLD(2, uint64(len(p)), p[:40])) })),
	malformed("wrapped-key-past-recipient", "recipients[0].wrapped_key", "The wrapped key is longer than the recipient that holds it.",
		recipient(cutLD(2, 40, []byte("canary wrapped key")))),
	malformed("namespace-past-protected", "namespace", "The namespace is longer than the protected field that holds it.",
		namespaced(cutLD(4, 64, []byte("canary-payments")))),

	malformed("trailing-byte", "envelope", "One zero byte behind the ciphertext.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, c), []byte{0}) })),
	malformed("trailing-envelope", "envelope", "A second envelope behind the first.",
		layout(func(r, p, c []byte) []byte {
			b := slices.Concat(r, ld(2, p), ld(3, c))
			return slices.Concat(b, b)
		})),
	malformed("protected-twice", "envelope", "Two equal protected fields; protobuf readers keep the last.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(2, p), ld(3, c)) })),
	malformed("ciphertext-twice", "envelope", "Two equal ciphertexts.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, c), ld(3, c)) })),
	malformed("suite-twice", "protected", "The suite twice.", func(d *draft) { d.fields[fieldSuite] = slices.Concat(vi(1, 1), vi(1, 1)) }),
	malformed("salt-twice", "protected", "The salt twice.", func(d *draft) { d.fields[fieldSalt] = slices.Concat(ld(2, d.salt), ld(2, d.salt)) }),
	malformed("namespace-twice", "protected", "Two namespaces: which one decides?",
		namespaced(slices.Concat(ld(4, []byte("canary-payments")), ld(4, []byte("canary-other"))))),
	malformed("compression-twice", "protected", "Compression twice.", func(d *draft) { d.fields = append(d.fields, vi(6, 1), vi(6, 1)) }),
	malformed("key-id-twice", "recipients[0]", "A recipient with two key IDs.",
		recipient(ld(1, []byte("test://canary")), ld(1, []byte("test://canary")), wrappedKeyField)),
	malformed("wrapped-key-twice", "recipients[0]", "A recipient with two wrapped keys.", recipient(wrappedKeyField, wrappedKeyField)),
	malformed("claim-value-twice", "claims[0]", "A claim with two values.",
		claiming(slices.Concat(claimOf("canary", "canary"), ld(2, []byte("canary"))))),

	malformed("protected-first", "recipients", "The protected field in front of the recipients.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(ld(2, p), r, ld(3, c)) })),
	malformed("ciphertext-before-protected", "protected", "The ciphertext in front of the protected field.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(3, c), ld(2, p)) })),
	malformed("recipient-last", "envelope", "A second recipient behind the ciphertext.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, c), r) })),
	malformed("salt-before-suite", "suite", "The salt in front of the suite.",
		func(d *draft) { d.fields[fieldSuite], d.fields[fieldSalt] = d.fields[fieldSalt], d.fields[fieldSuite] }),
	malformed("claims-before-namespace", "namespace", "The claims in front of the namespace.", func(d *draft) {
		d.fields = slices.Insert(d.fields, fieldNamespace, ld(5, claimOf("canary", "canary")))
	}),
	malformed("compression-before-claims", "protected", "Compression in front of the claims.", func(d *draft) {
		d.fields = append(d.fields, vi(6, 1))
		d.claims(claimOf("canary", "canary"))
	}),
	malformed("wrapped-key-before-key-id", "recipients[0]", "The wrapped key in front of the key ID.",
		recipient(wrappedKeyField, ld(1, []byte("test://canary")))),
	malformed("claim-value-before-name", "claims[0].name", "A claim's value in front of its name.",
		claiming(slices.Concat(ld(2, []byte("canary")), ld(1, []byte("canary"))))),

	malformed("unknown-field-envelope", "envelope", "Field 4 behind the ciphertext.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, c), ld(4, []byte("canary"))) })),
	malformed("unknown-field-recipient", "recipients[0]", "Field 3 in a recipient.", recipient(wrappedKeyField, vi(3, 1))),
	malformed("unknown-field-protected", "protected", "Field 7 in the protected field: it would be authenticated, and not understood.",
		func(d *draft) { d.fields = append(d.fields, vi(7, 1)) }),
	malformed("unknown-field-claim", "claims[0]", "Field 3 in a claim.",
		claiming(slices.Concat(claimOf("canary", "canary"), vi(3, 1)))),
	malformed("unknown-field-2-byte-tag", "envelope", "Field 16, whose tag takes two bytes.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, c), ld(16, []byte("canary"))) })),

	malformed("wire-type-recipients", "envelope", "The recipients as a number.", func(d *draft) { d.recipients = [][]byte{vi(1, 1)} }),
	malformed("wire-type-group", "envelope", "The protected field as a group.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, []byte{0x13}, p, []byte{0x14}, ld(3, c)) })),
	malformed("wire-type-suite", "protected", "The suite as four bytes of fixed length.", func(d *draft) {
		d.fields[fieldSuite] = protowire.AppendFixed32(protowire.AppendTag(nil, 1, protowire.Fixed32Type), 1)
	}),
	malformed("wire-type-namespace", "protected", "The namespace as a number.", namespaced(vi(4, 7))),
	malformed("wire-type-compression", "protected", "Compression as bytes.", func(d *draft) { d.fields = append(d.fields, ld(6, []byte{1})) }),
	malformed("wire-type-reserved", "envelope", "Wire type 7, which does not exist.", is([]byte{0x0f, 0x01})),

	malformed("varint-padded-tag", "envelope", "The tag of the protected field in two bytes.",
		layout(func(r, p, c []byte) []byte {
			return slices.Concat(r, []byte{0x92, 0x00}, ld(2, p)[1:], ld(3, c))
		})),
	malformed("varint-padded-recipient", "recipients[0]", "The recipient's length in one byte too many.",
		func(d *draft) { d.recipients = [][]byte{longLD(1, wrappedKeyField)} }),
	malformed("varint-padded-wrapped-key", "recipients[0].wrapped_key", "The wrapped key's length in one byte too many.",
		recipient(longLD(2, []byte("canary wrapped key")))),
	malformed("varint-padded-protected", "protected", "The protected field's length in one byte too many.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, longLD(2, p), ld(3, c)) })),
	malformed("varint-padded-ciphertext", "ciphertext", "The ciphertext's length in one byte too many.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), longLD(3, c)) })),
	malformed("varint-padded-suite", "suite", "The suite in two bytes.",
		func(d *draft) { d.fields[fieldSuite] = slices.Concat([]byte{0x08}, padded(1)) }),
	malformed("varint-padded-namespace", "namespace", "The namespace's length in one byte too many.",
		namespaced(longLD(4, []byte("canary-payments")))),
	malformed("varint-65-bits", "protected", "A length of ten bytes that does not fit in 64 bits.",
		layout(func(r, p, c []byte) []byte {
			return slices.Concat(r, []byte{0x12}, bytes.Repeat([]byte{0xff}, 9), []byte{0x7f}, p, ld(3, c))
		})),
	malformed("varint-11-bytes", "recipients[0]", "A length of eleven bytes.",
		is(slices.Concat([]byte{0x0a}, bytes.Repeat([]byte{0x80}, 10), []byte{0x01}))),

	malformed("default-key-id", "recipients[0].key_id", "An empty key ID that is not left out.", recipient(ld(1, nil), wrappedKeyField)),
	malformed("default-wrapped-key", "recipients[0].wrapped_key", "An empty wrapped key.", recipient(ld(2, nil))),
	malformed("default-recipient", "recipients[0]", "An empty recipient.", func(d *draft) { d.recipients = [][]byte{ld(1, nil)} }),
	malformed("default-suite", "suite", "Suite 0.", func(d *draft) { d.fields[fieldSuite] = vi(1, 0) }),
	malformed("default-namespace", "namespace", "An empty namespace.", namespaced(ld(4, nil))),
	malformed("default-claim", "claims[0]", "An empty claim.", claiming(nil)),
	malformed("default-claim-value", "claims[0].value", "An empty claim value.", claiming(claimOf("canary", ""))),
	malformed("claim-value-missing", "claims[0].value", "A claim without a value, as protobuf writes an empty one: AWS KMS takes no empty value in an encryption context.",
		claiming(ld(1, []byte("canary")))),
	malformed("default-compression", "compression", "Compression 0 that is not left out.", func(d *draft) { d.fields = append(d.fields, vi(6, 0)) }),

	malformed("wrapped-key-missing", "recipients[0].wrapped_key", "A recipient with a key ID and no wrapped key.", recipient(ld(1, []byte("test://canary")))),
	malformed("second-wrapped-key-missing", "recipients[1].wrapped_key", "The first recipient is right, the second has no wrapped key.",
		func(d *draft) { d.recipients = append(d.recipients, ld(1, ld(1, []byte("test://canary")))) }),
	malformed("suite-missing", "suite", "No suite.", func(d *draft) { d.fields[fieldSuite] = nil }),
	malformed("salt-missing", "salt", "No salt.", func(d *draft) { d.fields[fieldSalt] = nil }),
	malformed("commitment-missing", "commitment", "No commitment.", func(d *draft) { d.fields[fieldCommitment] = nil }),
	malformed("namespace-missing", "namespace", "No namespace.", namespaced(nil)),
	malformed("namespace-missing-before-claims", "namespace", "No namespace, although there are claims.", func(d *draft) {
		d.fields[fieldNamespace] = nil
		d.claims(claimOf("canary", "canary"))
	}),
	malformed("claim-name-missing", "claims[0].name", "A claim without a name.", claiming(ld(2, []byte("canary")))),

	malformed("salt-15-bytes", "salt", "A salt of 15 bytes.", func(d *draft) { d.resalt(d.salt[:15]) }),
	malformed("salt-17-bytes", "salt", "A salt of 17 bytes.", func(d *draft) { d.resalt(append(d.salt, 0)) }),
	malformed("commitment-31-bytes", "commitment", "A commitment of 31 bytes.", func(d *draft) { d.fields[fieldCommitment] = ld(3, d.keys[32:63]) }),
	malformed("commitment-33-bytes", "commitment", "A commitment of 33 bytes.",
		func(d *draft) { d.fields[fieldCommitment] = ld(3, append(slices.Clone(d.keys[32:]), 0)) }),
	malformed("suite-33-bits", "suite", "A suite whose low 32 bits are 1.", func(d *draft) { d.fields[fieldSuite] = vi(1, 1<<32+1) }),
	malformed("compression-33-bits", "compression", "A compression whose low 32 bits are 1.",
		func(d *draft) { d.fields = append(d.fields, vi(6, 1<<32+1)) }),

	malformed("namespace-not-utf8", "namespace", "A lone continuation byte in the namespace.", namespaced(ld(4, []byte("canary\x80")))),
	malformed("namespace-overlong-utf8", "namespace", "A slash in two bytes, as UTF-8 forbids.", namespaced(ld(4, []byte("canary\xc0\xaf")))),
	malformed("namespace-surrogate", "namespace", "A surrogate, which UTF-8 forbids.", namespaced(ld(4, []byte("canary\xed\xa0\x80")))),
	malformed("namespace-newline", "namespace", "A line feed in the namespace.", namespaced(ld(4, []byte("canary\npayments")))),
	malformed("namespace-nul", "namespace", "A NUL in the namespace.", namespaced(ld(4, []byte("canary\x00")))),
	malformed("namespace-del", "namespace", "U+007F in the namespace.", namespaced(ld(4, []byte("canary\x7f")))),
	malformed("namespace-c1-control", "namespace", "U+0085, a control character of two bytes, in the namespace.", namespaced(ld(4, []byte("canary\u0085")))),
	malformed("claim-name-control", "claims[0].name", "An escape character in a claim's name.", claiming(claimOf("canary\x1b[2J", "canary"))),
	malformed("claim-value-control", "claims[0].value", "A tab in a claim's value.", claiming(claimOf("canary", "canary\tcanary"))),
	malformed("claim-value-not-utf8", "claims[0].value", "A claim's value in Latin-1.", claiming(claimOf("canary", "canary\xfc"))),
	malformed("claim-name-reserved", "claims[0].name", "A claim called namespace, beside the namespace.", claiming(claimOf("namespace", "canary-other"))),
	malformed("claims-unsorted", "claims[1].name", "Two claims in descending order.", claiming(claimOf("canary-b", "1"), claimOf("canary-a", "2"))),
	malformed("claims-twice", "claims[1].name", "Two claims of one name.", claiming(claimOf("canary", "1"), claimOf("canary", "2"))),
	malformed("claims-utf16-order", "claims[1].name", "Claims in the order of UTF-16 code units, which is not that of the bytes.",
		claiming(claimOf("canary\U0001f41d", "1"), claimOf("canary\uff5e", "2"))),
	malformed("key-id-space", "recipients[0].key_id", "A space in a key ID: it would be two in a list.", recipient(ld(1, []byte("test://canary key")), wrappedKeyField)),
	malformed("key-id-not-ascii", "recipients[0].key_id", "A key ID in UTF-8 beyond ASCII.", recipient(ld(1, []byte("test://canary-schlüssel")), wrappedKeyField)),
	malformed("key-id-control", "recipients[0].key_id", "A line feed in a key ID.", recipient(ld(1, []byte("test://canary\n")), wrappedKeyField)),
	malformed("key-id-mixed", "recipients[1].key_id", "The first recipient names its key, the second does not.", func(d *draft) {
		d.recipients = [][]byte{ld(1, slices.Concat(ld(1, []byte("test://canary")), wrappedKeyField)), ld(1, wrappedKeyField)}
	}),

	{
		name: "suite-2", at: "suite", expect: "unsupported", comment: "A suite that version 1 does not know; what follows it may look different, and is not read.",
		draft: func(d *draft) { d.fields = [][]byte{vi(1, 2), ld(9, []byte("canary"))} },
	},
	{
		name: "suite-largest", at: "suite", expect: "unsupported", comment: "The largest suite there can be.",
		draft: func(d *draft) { d.fields[fieldSuite] = vi(1, 1<<32-1) },
	},
	{
		name: "compression-2", at: "compression", expect: "unsupported", comment: "A compression that version 1 does not know.",
		draft: func(d *draft) { d.fields = append(d.fields, vi(6, 2)) },
	},
}

var limitScenarios = []scenario{
	over("recipients-nine", "recipients", "Nine recipients.", func(d *draft) {
		d.recipients = slices.Repeat([][]byte{ld(1, wrappedKeyField)}, format.MaxRecipients+1)
	}),
	over("wrapped-key-too-long", "recipients[0].wrapped_key", "A wrapped key of 4097 bytes.", recipient(ld(2, pattern(format.MaxWrappedKey+1, 1)))),
	over("key-id-too-long", "recipients[0].key_id", "A key ID of 1101 bytes.",
		recipient(ld(1, []byte("test://"+strings.Repeat("k", format.MaxKeyID-6))), wrappedKeyField)),
	over("namespace-too-long", "namespace", "A namespace of 256 bytes.", namespaced(ld(4, bytes.Repeat([]byte("n"), format.MaxNamespace+1)))),
	over("claims-seventeen", "claims", "Seventeen claims.", func(d *draft) {
		for _, c := range append(sixteenClaims(), format.Claim{Name: "claimz", Value: "vcanary"}) {
			d.claims(slices.Concat(ld(1, []byte(c.Name)), ld(2, []byte(c.Value))))
		}
	}),
	over("claim-name-too-long", "claims[0].name", "A claim name of 65 bytes.", claiming(claimOf(strings.Repeat("n", format.MaxClaimName+1), "canary"))),
	over("claim-value-too-long", "claims[0].value", "A claim value of 1025 bytes.", claiming(claimOf("canary", strings.Repeat("v", format.MaxClaimValue+1)))),
	over("recipient-too-long", "recipients[0]", "A recipient that says it has 64 KiB: more than key ID and wrapped key can be.",
		is(cutLD(1, 64<<10, wrappedKeyField))),
	over("protected-too-long", "protected", "A protected field that says it has 1 MiB; nothing is there.",
		layout(func(r, _, _ []byte) []byte { return slices.Concat(r, cutLD(2, 1<<20, nil)) })),
	over("ciphertext-too-long", "ciphertext", "A ciphertext that says it is one byte longer than 64 MiB of plaintext make; it is refused before anyone looks for it.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), cutLD(3, format.MaxPlaintext+29, c)) })),
	over("length-2-to-63", "recipients[0]", "A length of 2^63, negative where lengths are signed.", is(cutLD(1, 1<<63, wrappedKeyField))),
	over("length-2-to-64-minus-1", "ciphertext", "The largest length there can be, -1 where lengths are signed.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), cutLD(3, 1<<64-1, c)) })),
}

// resalt replaces the salt and everything that depends on it.
func (d *draft) resalt(salt []byte) {
	d.keys = derived(d.t, d.dataKey, salt)
	d.fields[fieldSalt], d.fields[fieldCommitment] = ld(2, salt), ld(3, d.keys[32:])
}

// tampered returns a scenario that Parse accepts and Open refuses.
func tampered(name, expect, comment string, spoil func(d *draft)) scenario {
	return scenario{name: name, comment: comment, expect: expect, draft: spoil}
}

// flip returns a draft in which, after sealing, a byte of protected (counted
// from the start) or of the ciphertext is changed.
func flip(inProtected, inCiphertext int) func(d *draft) {
	return func(d *draft) {
		d.claims(claimOf("canary-claim", "canary"))
		d.after = func(protected, ciphertext []byte) {
			if inProtected >= 0 {
				protected[inProtected] ^= 0x01
			} else {
				ciphertext[inCiphertext] ^= 0x01
			}
		}
	}
}

// Where in the protected field of flip's draft something begins.
const (
	inSalt       = 2 + 2
	inCommitment = inSalt + format.SaltSize + 2
	inNamespace  = inCommitment + format.CommitmentSize + 2
	inClaimName  = inNamespace + len("canary-payments") + 2 + 2
	inClaimValue = inClaimName + len("canary-claim") + 2
)

var alteredScenarios = []scenario{
	tampered("data-key-31-bytes", "data-key", "A data key of 31 bytes, which nothing can be sealed under.", func(d *draft) { d.giveKey = d.dataKey[:31] }),
	tampered("data-key-64-bytes", "data-key", "A data key of 64 bytes.", func(d *draft) { d.giveKey = slices.Concat(d.dataKey, d.dataKey) }),
	tampered("data-key-zero-padded", "data-key", "The right data key with a zero byte behind it: HMAC pads keys with zeros, so a reader that does not look at the length derives the right payload key.",
		func(d *draft) { d.giveKey = append(slices.Clone(d.dataKey), 0) }),
	tampered("data-key-empty", "data-key", "No data key.", func(d *draft) { d.giveKey = []byte{} }),
	tampered("wrong-data-key", "commitment", "The data key of another envelope.", func(d *draft) { d.giveKey = random(format.DataKeySize) }),
	tampered("wrong-data-key-last-bit", "commitment", "A data key that differs in its last bit.", func(d *draft) {
		d.giveKey = slices.Clone(d.dataKey)
		d.giveKey[31] ^= 0x01
	}),
	tampered("altered-salt", "commitment", "A bit of the salt is flipped.", flip(inSalt, 0)),
	tampered("altered-commitment-first-bit", "commitment", "A bit of the commitment's first byte is flipped.", flip(inCommitment, 0)),
	tampered("altered-commitment-last-bit", "commitment", "A bit of the commitment's last byte is flipped.", flip(inCommitment+31, 0)),
	tampered("commitment-of-another-key", "commitment", "The ciphertext is authentic under the data key, but the envelope commits to another one: a reader without the check would open it.",
		func(d *draft) {
			d.fields[fieldCommitment] = ld(3, derived(d.t, random(format.DataKeySize), d.salt)[32:])
		}),
	tampered("derived-with-extract", "commitment", "Keys derived with HKDF-Extract in front of HKDF-Expand.", func(d *draft) {
		keys, err := hkdf.Key(sha256.New, d.dataKey, nil, "waxseal/v1"+string(d.salt), 64)
		if err != nil {
			d.t.Fatal(err)
		}
		d.keys = keys
		d.fields[fieldCommitment] = ld(3, keys[32:])
	}),
	tampered("derived-with-salt-as-salt", "commitment", "Keys derived with the salt as the salt of HKDF-Extract instead of in the info.", func(d *draft) {
		keys, err := hkdf.Key(sha256.New, d.dataKey, d.salt, "waxseal/v1", 64)
		if err != nil {
			d.t.Fatal(err)
		}
		d.keys = keys
		d.fields[fieldCommitment] = ld(3, keys[32:])
	}),
	tampered("derived-with-another-label", "commitment", "Keys derived with the label of another version.", func(d *draft) {
		keys, err := hkdf.Expand(sha256.New, d.dataKey, "waxseal/v2"+string(d.salt), 64)
		if err != nil {
			d.t.Fatal(err)
		}
		d.keys = keys
		d.fields[fieldCommitment] = ld(3, keys[32:])
	}),
	tampered("commitment-before-payload-key", "commitment", "The two halves of the derived bytes swapped.", func(d *draft) {
		d.keys = slices.Concat(d.keys[32:], d.keys[:32])
		d.fields[fieldCommitment] = ld(3, d.keys[32:])
	}),

	tampered("altered-namespace", "ciphertext", "A letter of the namespace is another one: the commitment cannot tell, the associated data does.", flip(inNamespace, 0)),
	tampered("altered-claim-name", "ciphertext", "A letter of a claim's name is another one.", flip(inClaimName, 0)),
	tampered("altered-claim-value", "ciphertext", "A letter of a claim's value is another one.", flip(inClaimValue, 0)),
	tampered("claim-removed", "ciphertext", "A claim is taken out of the sealed envelope.", func(d *draft) {
		d.aad = func(protected []byte) []byte { return slices.Concat(protected, ld(5, claimOf("canary", "canary"))) }
	}),
	tampered("compression-added", "ciphertext", "An uncompressed envelope made to say that it is compressed.", func(d *draft) {
		d.fields = append(d.fields, vi(6, 1))
		d.aad = func(protected []byte) []byte { return protected[:len(protected)-2] }
	}),
	tampered("associated-data-empty", "ciphertext", "Sealed without associated data.", func(d *draft) { d.aad = func([]byte) []byte { return nil } }),
	tampered("associated-data-field", "ciphertext", "Sealed with the tag and the length of protected in its associated data.",
		func(d *draft) { d.aad = func(protected []byte) []byte { return ld(2, protected) } }),
	tampered("altered-nonce", "ciphertext", "A bit of the nonce is flipped.", flip(-1, 0)),
	tampered("altered-ciphertext", "ciphertext", "A bit of the ciphertext proper is flipped.", flip(-1, format.NonceSize)),
	tampered("altered-tag", "ciphertext", "The last bit of the tag is flipped.", flip(-1, format.NonceSize+len("canary plaintext")+format.TagSize-1)),
	tampered("ciphertext-shortened", "ciphertext", "The ciphertext lacks its last byte, and says so.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, c[:len(c)-1])) })),
	tampered("ciphertext-extended", "ciphertext", "The ciphertext has one byte more, and says so.",
		layout(func(r, p, c []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, append(slices.Clone(c), 0))) })),
	tampered("ciphertext-28-zeros", "ciphertext", "Nonce and tag are all zero, nothing is sealed.",
		layout(func(r, p, _ []byte) []byte { return slices.Concat(r, ld(2, p), ld(3, make([]byte, 28))) })),
	tampered("ciphertext-of-another-salt", "ciphertext", "The ciphertext of another envelope under the same data key.",
		func(d *draft) {
			d.keys = slices.Concat(derived(d.t, d.dataKey, random(format.SaltSize))[:32], d.keys[32:])
		}),
}
