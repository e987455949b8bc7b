package format_test

import (
	"strings"

	"github.com/waxseal/waxseal/envelope/format"
)

// These scenarios are about what is around the envelope: the plaintext that the
// compression promises, and the container that names the keys. Parse and Open
// have no part in either, and accept them all.

// frame holds "hello" in one raw block: magic number, descriptor (a single
// segment), content size, block header, content.
const frame = "\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"

// skippable is a skippable frame of six bytes.
const skippable = "\x50\x2a\x4d\x18\x06\x00\x00\x00canary"

// framed returns a scenario with a plaintext declared to be a Zstandard frame.
func framed(name, expect, comment, plaintext string) scenario {
	s := one(name, comment, wrapped32, format.Header{Namespace: "default", Compression: format.CompressionZstd}, []byte(plaintext))
	s.expect = expect
	return s
}

var frameScenarios = []scenario{
	framed("zstd-empty-frame", "success", "A frame of nothing.", "\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"),
	framed("zstd-two-blocks", "success", "A frame of two blocks.", "\x28\xb5\x2f\xfd\x20\x05\x18\x00\x00hel\x11\x00\x00lo"),
	framed("zstd-window", "success", "A frame with a window descriptor and no content size.", "\x28\xb5\x2f\xfd\x00\x00\x29\x00\x00hello"),
	framed("zstd-repeated-byte", "success", "A block that repeats one byte 261 times: one byte follows its header. The content size takes two bytes.",
		"\x28\xb5\x2f\xfd\x60\x05\x00\x2b\x08\x00h"),
	framed("zstd-checksum", "success", "A frame with a checksum.", "\x28\xb5\x2f\xfd\x04\x00\x29\x00\x00hello\xa3\x6d\x9f\x88"),
	framed("zstd-compressed", "success", "A compressed block of 320 bytes, with window descriptor, content size and checksum.",
		"\x28\xb5\x2f\xfd\x44\x00\x40\x00\xcd\x00\x00\x04\x01\x61\x74\x74\x61\x63\x6b\x20\x61\x74\x20\x64\x61\x77\x6e\x2e\x20\x01\x54\x10\x04\x2c\x5a\x26\x2f\x06\x68\x01"),

	framed("zstd-two-frames", "compression", "Two frames, which most decoders put together.", frame+frame),
	framed("zstd-skippable-before", "compression", "A skippable frame in front.", skippable+frame),
	framed("zstd-skippable-behind", "compression", "A skippable frame behind.", frame+skippable),
	framed("zstd-skippable-only", "compression", "A skippable frame and nothing else.", skippable),
	framed("zstd-trailing-byte", "compression", "A byte behind the frame.", frame+"\x00"),
	framed("zstd-trailing-magic", "compression", "Three bytes of another frame behind the frame.", frame+frame[:3]),
	framed("zstd-dictionary-id", "compression", "The frame names a dictionary.", "\x28\xb5\x2f\xfd\x21\x07\x05\x29\x00\x00hello"),
	framed("zstd-dictionary-id-zero", "compression", "The frame has a dictionary ID that says there is none.", "\x28\xb5\x2f\xfd\x21\x00\x05\x29\x00\x00hello"),
	framed("zstd-dictionary-id-4-bytes", "compression", "The frame has a dictionary ID of four bytes.", "\x28\xb5\x2f\xfd\x23\x00\x00\x00\x00\x05\x29\x00\x00hello"),
	framed("zstd-reserved-bit", "compression", "The reserved bit of the frame header is set.", "\x28\xb5\x2f\xfd\x28\x05\x29\x00\x00hello"),
	framed("zstd-reserved-block", "compression", "A block of the reserved type.", "\x28\xb5\x2f\xfd\x20\x05\x2f\x00\x00hello"),
	framed("zstd-no-last-block", "compression", "No block says that it is the last one.", "\x28\xb5\x2f\xfd\x20\x05\x28\x00\x00hello"),
	framed("zstd-cut", "compression", "The frame lacks its last byte.", frame[:len(frame)-1]),
	framed("zstd-header-cut", "compression", "The frame ends within its header.", frame[:5]),
	framed("zstd-checksum-cut", "compression", "The frame says that a checksum follows, and none does.", "\x28\xb5\x2f\xfd\x04\x00\x29\x00\x00hello"),
	framed("zstd-nothing", "compression", "No byte at all.", ""),
	framed("zstd-plain", "compression", "The plaintext is not compressed.", "canary plaintext"),
}

const ringMain, ringOther = "local://ring/main@1", "local://ring/other@2"

// beside returns a scenario of an envelope in a container that names the keys of
// its recipients by list.
func beside(name, expect, comment string, recipients int, list string) scenario {
	s := to(name, comment, manyRecipients(recipients)...)
	s.expect, s.container = expect, new(list)
	return s
}

// longID is a key ID of n bytes.
func longID(n int) string { return "test://" + strings.Repeat("k", n-len("test://")) }

var containerScenarios = []scenario{
	beside("container-one", "success", "The container names the key.", 1, ringMain),
	beside("container-two", "success", "The container names two keys, in the order of the recipients.", 2, ringMain+" "+ringOther),
	beside("container-longest", "success", "The container names eight keys of 1100 bytes each, the limits.", 8,
		strings.Join(strings.Fields(strings.Repeat(longID(format.MaxKeyID)+" ", 8)), " ")),

	beside("container-empty", "container", "An empty list of keys.", 1, ""),
	beside("container-space", "container", "One space.", 1, " "),
	beside("container-space-first", "container", "A space in front of the key.", 1, " "+ringMain),
	beside("container-space-last", "container", "A space behind the key.", 1, ringMain+" "),
	beside("container-two-spaces", "container", "Two spaces between the keys.", 2, ringMain+"  "+ringOther),
	beside("container-tab", "container", "A tab between the keys.", 2, ringMain+"\t"+ringOther),
	beside("container-line-feed", "container", "A line feed, which would begin a line of its own in a log.", 1, "local://canary\nERROR"),
	beside("container-carriage-return", "container", "A carriage return, which would hide what stands before it.", 1, "local://canary\rlocal://ring"),
	beside("container-nul", "container", "A NUL.", 1, "local://canary\x00"),
	beside("container-escape", "container", "An escape sequence, which terminals obey.", 1, "local://canary\x1b[2J"),
	beside("container-delete", "container", "A DEL.", 1, "local://canary\x7f"),
	beside("container-c1-control", "container", "A control character of U+0080 to U+009F.", 1, "local://canary\u009b2J"),
	beside("container-bidi", "container", "U+202E, which turns the direction of what follows.", 1, "local://canary\u202egnir"),
	beside("container-zero-width", "container", "U+200B, which cannot be seen.", 1, "local://can\u200bary"),
	beside("container-not-ascii", "container", "UTF-8 beyond ASCII.", 1, "local://canary/schlüssel"),
	beside("container-not-utf8", "container", "A byte that is not UTF-8.", 1, "local://canary\xff"),
	beside("container-too-long", "container", "A key ID of 1101 bytes.", 1, longID(format.MaxKeyID+1)),
	beside("container-nine", "container", "Nine keys.", 8, strings.Repeat(ringMain+" ", 8)+ringOther),
	beside("container-too-few", "container", "One key for two recipients.", 2, ringMain),
	beside("container-too-many", "container", "Two keys for one recipient.", 1, ringMain+" "+ringOther),
	func() scenario {
		s := to("container-and-envelope", "Both the container and the envelope name the key, and the same one.",
			format.Recipient{KeyID: ringMain, WrappedKey: wrapped32})
		s.expect, s.container = "container", new(ringMain)
		return s
	}(),
}
