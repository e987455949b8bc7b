package localkms

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// maxFileSize is the largest keyring file in bytes that is read or written:
	// room for some 40,000 versions.
	maxFileSize = 8 << 20

	fileFormat = 1

	// versionRoom is at least the length in bytes of a version in the file.
	versionRoom = 224
)

// encode returns c as the file's bytes, which the caller wipes. It is the one
// place that writes key material, and writes by hand: encoding/json would keep a
// copy in a buffer of its own. Nothing in c needs escaping; parse sees to that.
func (c *contents) encode() []byte {
	size := 128
	for name, e := range c.keys {
		size += 128 + len(name) + versionRoom*len(e.versions)
	}
	b := make([]byte, 0, size) // large enough: growing would leave a copy behind
	b = fmt.Appendf(b, "{\n  \"waxsealKeyring\": %d,\n  \"id\": %q,\n  \"keys\": {", fileFormat, c.id)
	for i, name := range slices.Sorted(maps.Keys(c.keys)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "\n    %q: ", name)
		b = c.keys[name].append(b)
	}
	if len(c.keys) > 0 {
		b = append(b, "\n  "...)
	}
	return append(b, "}\n}\n"...)
}

func (e *entry) append(b []byte) []byte {
	b = fmt.Appendf(b, "{\n      \"primary\": %d,\n      \"versions\": [", e.primary)
	for i, v := range e.versions {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "\n        {\"version\": %d, \"created\": %q, \"state\": %q", v.number, v.created.Format(time.RFC3339), v.state)
		if v.state == Pending {
			b = fmt.Appendf(b, ", \"destroyAt\": %q", v.destroyAt.Format(time.RFC3339))
		}
		if v.state != Destroyed {
			b = append(b, ", \"material\": \""...)
			b = base64.StdEncoding.AppendEncode(b, v.material.bytes())
			b = append(b, '"')
		}
		b = append(b, '}')
	}
	return append(b, "\n      ]\n    }"...)
}
