package format_test

import (
	"bytes"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/envelope/format"
)

// scenarios are all vectors: envelopes as they should be, then broken ones.
var scenarios = slices.Concat(goodScenarios, malformedScenarios, limitScenarios, alteredScenarios, frameScenarios, containerScenarios)

// one returns a scenario with an unnamed recipient, a namespace and claims.
func one(name, comment string, wrapped []byte, h format.Header, plaintext []byte) scenario {
	return scenario{
		name: name, comment: comment, expect: "success",
		seal: func() ([]format.Recipient, format.Header, []byte) {
			return []format.Recipient{{WrappedKey: wrapped}}, h, plaintext
		},
	}
}

// to returns a scenario with these recipients and nothing special besides.
func to(name, comment string, recipients ...format.Recipient) scenario {
	return scenario{
		name: name, comment: comment, expect: "success",
		seal: func() ([]format.Recipient, format.Header, []byte) {
			return recipients, inDefault, []byte("attack at dawn")
		},
	}
}

var (
	inDefault = format.Header{Namespace: "default"}
	wrapped32 = pattern(32, 40)
	hello     = []byte("hello")
)

// payloadHi is a marshalled temporal.api.common.v1.Payload: metadata
// encoding=json/plain, data "hi" with its quotes.
var payloadHi = []byte("\x0a\x16\x0a\x08encoding\x12\x0ajson/plain\x12\x04\"hi\"")

func withClaims(claims ...format.Claim) format.Header {
	return format.Header{Namespace: "payments-prod", Claims: claims}
}

// sixteenClaims are as many as there may be.
func sixteenClaims() []format.Claim {
	claims := make([]format.Claim, format.MaxClaims)
	for i := range claims {
		claims[i] = format.Claim{Name: "claim" + string(rune('a'+i)), Value: strings.Repeat("v", 1+i)}
	}
	return claims
}

func manyRecipients(n int) []format.Recipient {
	recipients := make([]format.Recipient, n)
	for i := range recipients {
		recipients[i] = format.Recipient{WrappedKey: pattern(20+i, byte(i))}
	}
	return recipients
}

var goodScenarios = []scenario{
	one("minimal", "The shortest envelope there is: one byte of wrapped key, one of namespace, nothing sealed.",
		[]byte{0x01}, format.Header{Namespace: "d"}, nil),
	one("worked-example", "The worked example of docs/format.md: a Temporal payload that holds the JSON text \"hi\".",
		[]byte("wrapped-by-some-kms"), withClaims(format.Claim{Name: "workflowId", Value: "order-1"}), payloadHi),
	one("aws-recipient", "One recipient as AWS KMS makes it, of 184 bytes; the container names the key.",
		pattern(184, 7), inDefault, payloadHi),

	to("key-id", "The envelope names the key itself, with its version, as a file or a column needs it.",
		format.Recipient{KeyID: "hashivault://transit/payments@7", WrappedKey: []byte("vault:v7:AAAA")}),
	to("key-id-longest", "A key ID of 1100 bytes, the limit.",
		format.Recipient{KeyID: "test://" + strings.Repeat("k", format.MaxKeyID-7), WrappedKey: wrapped32}),
	to("recipients-two", "Two recipients: either one opens the envelope.",
		format.Recipient{WrappedKey: pattern(184, 1)}, format.Recipient{WrappedKey: pattern(113, 2)}),
	to("recipients-two-named", "Two recipients that both name their key.",
		format.Recipient{KeyID: "awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", WrappedKey: pattern(184, 1)},
		format.Recipient{KeyID: "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k@3", WrappedKey: pattern(113, 2)}),
	to("recipients-eight", "Eight recipients, the limit.", manyRecipients(format.MaxRecipients)...),
	to("recipients-same-key", "The same key twice, under two versions: the format does not mind.",
		format.Recipient{KeyID: "local://ring/main@1", WrappedKey: pattern(60, 1)},
		format.Recipient{KeyID: "local://ring/main@2", WrappedKey: pattern(60, 2)}),
	to("wrapped-key-longest", "A wrapped key of 4096 bytes, the limit.",
		format.Recipient{WrappedKey: pattern(format.MaxWrappedKey, 5)}),
	to("wrapped-key-127", "A wrapped key of 127 bytes: the longest whose length takes one byte.",
		format.Recipient{WrappedKey: pattern(127, 5)}),
	to("wrapped-key-128", "A wrapped key of 128 bytes: the shortest whose length takes two bytes.",
		format.Recipient{WrappedKey: pattern(128, 5)}),
	{
		name: "rewrapped", comment: "What Rewrap makes of worked-example: all behind the recipients is the same.",
		expect: "success", rewrapOf: "worked-example",
		seal: func() ([]format.Recipient, format.Header, []byte) { return manyRecipients(3), format.Header{}, nil },
	},

	one("namespace-longest", "A namespace of 255 bytes, the limit.",
		wrapped32, format.Header{Namespace: strings.Repeat("n", format.MaxNamespace)}, hello),
	one("namespace-utf8", "A namespace in UTF-8 with characters of two, three and four bytes.",
		wrapped32, format.Header{Namespace: "zahlungen-für-日本-🐝"}, hello),
	one("claims-four", "The claims that the codec may record.", wrapped32, withClaims(
		format.Claim{Name: "activityType", Value: "ChargeCard"}, format.Claim{Name: "taskQueue", Value: "payments"},
		format.Claim{Name: "workflowId", Value: "order-1"}, format.Claim{Name: "workflowType", Value: "Order"}), hello),
	one("claims-sixteen", "Sixteen claims, the limit.",
		wrapped32, withClaims(sixteenClaims()...), hello),
	one("claim-value-one-byte", "The shortest claim there is: one byte of name, one of value.",
		wrapped32, withClaims(format.Claim{Name: "n", Value: "v"}), hello),
	one("claim-value-longest", "A claim value of 1024 bytes, the limit.",
		wrapped32, withClaims(format.Claim{Name: "workflowId", Value: strings.Repeat("w", format.MaxClaimValue)}), hello),
	one("claim-name-longest", "A claim name of 64 bytes, the limit.",
		wrapped32, withClaims(format.Claim{Name: strings.Repeat("n", format.MaxClaimName), Value: "v"}), hello),
	one("claims-byte-order", "Claims are in the order of their UTF-8 bytes; in UTF-16 code units these two are the other way round.",
		wrapped32, withClaims(format.Claim{Name: "\uff5e", Value: "first"}, format.Claim{Name: "\U0001f41d", Value: "second"}), hello),
	one("claims-prefix-order", "A name that begins another one comes before it; upper case comes before lower case.",
		wrapped32, withClaims(format.Claim{Name: "Z", Value: "1"}, format.Claim{Name: "a", Value: "2"}, format.Claim{Name: "aa", Value: "3"}), hello),

	one("compression-zstd", "Compression is recorded; the plaintext is a Zstandard frame, and Open returns it as it is.",
		wrapped32, format.Header{Namespace: "default", Compression: format.CompressionZstd},
		[]byte("\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello")),
	one("plaintext-one-byte", "One byte sealed, a zero.", wrapped32, inDefault, []byte{0}),
	one("plaintext-99", "99 bytes sealed: the longest ciphertext whose length takes one byte.", wrapped32, inDefault, pattern(99, 6)),
	one("plaintext-100", "100 bytes sealed: the shortest ciphertext whose length takes two bytes.", wrapped32, inDefault, pattern(100, 6)),
	one("plaintext-4096", "4096 bytes sealed: of a longer plaintext a vector has the hash.", wrapped32, inDefault, bytes.Repeat([]byte("waxseal!"), 512)),
	one("plaintext-looks-like-fields", "The plaintext looks like fields of an envelope.", wrapped32, inDefault,
		[]byte("\x0a\x03\x12\x01\x01\x12\x02\x08\x01\x1a\x00")),
}
