package format

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

const opParse = "parse envelope"

// cursor reads one message strictly: fields in ascending order, each at most
// once unless the caller loops, shortest varints, nothing unknown, nothing empty.
// Offsets count from the start of the envelope even inside nested messages.
type cursor struct {
	buf      []byte // the whole envelope
	pos, end int    // the unread part of this message
	message  message
	name     path // of this message, for errors about no field in particular

	// text is a copy of the envelope from base on, of which all strings are
	// parts: one allocation instead of one for each.
	text string
	base int
}

// in returns a cursor over the nested message in val, which was just read.
func (c *cursor) in(val []byte, m message, name path) cursor {
	return cursor{
		buf: c.buf, pos: c.pos - len(val), end: c.pos, message: m, name: name,
		text: c.text, base: c.base,
	}
}

// at reports whether field num comes next. All tags of the schema take one byte.
func (c *cursor) at(num protowire.Number) bool {
	return c.pos < c.end && uint64(c.buf[c.pos]) == protowire.EncodeTag(num, c.message.wireType(num))
}

// bytes reads the length-delimited field num, which must come next and hold 1 to limit
// bytes. It checks the length against the limit and the bytes left before any use. The
// result aliases the envelope.
func (c *cursor) bytes(num protowire.Number, field path, limit int) ([]byte, error) {
	start := c.pos
	n, err := c.varint(num, field)
	if err != nil {
		return nil, err
	}
	switch {
	case n == 0:
		return nil, fault(ErrMalformed, field, "present but empty").during(opParse, start)
	case n > uint64(limit): //nolint:gosec // limits are positive constants
		return nil, tooLong(field, n, limit).during(opParse, start)
	case n > uint64(c.end-c.pos): //nolint:gosec // pos never passes end
		return nil, fault(ErrMalformed, field, "runs past the end").during(opParse, start)
	}
	from := c.pos
	c.pos += int(n) //nolint:gosec // at most limit
	return c.buf[from:c.pos:c.pos], nil
}

// string reads the string field num like bytes, as a part of c.text.
func (c *cursor) string(num protowire.Number, field path, limit int) (string, error) {
	val, err := c.bytes(num, field, limit)
	if err != nil {
		return "", err
	}
	end := c.pos - c.base
	return c.text[end-len(val) : end], nil
}

// fixed reads the bytes field num, which must come next and fill dst exactly.
func (c *cursor) fixed(num protowire.Number, field path, dst []byte) error {
	start := c.pos
	val, err := c.bytes(num, field, maxProtected)
	if err != nil {
		return err
	}
	if len(val) != len(dst) {
		reason := fmt.Sprintf("%d bytes where %d are needed", len(val), len(dst))
		return fault(ErrMalformed, field, reason).during(opParse, start)
	}
	copy(dst, val)
	return nil
}

// number reads the uint32 field num, which must come next and not be zero: a writer
// leaves a zero out.
func (c *cursor) number(num protowire.Number, field path) (uint32, error) {
	start := c.pos
	n, err := c.varint(num, field)
	if err != nil {
		return 0, err
	}
	switch {
	case n == 0:
		return 0, fault(ErrMalformed, field, "present but zero").during(opParse, start)
	case n > 1<<32-1:
		return 0, fault(ErrMalformed, field, "more than 32 bits").during(opParse, start)
	}
	return uint32(n), nil
}

// varint reads the tag of field num, which must come next, and the varint
// behind it: a number, or the length of what follows.
func (c *cursor) varint(num protowire.Number, field path) (uint64, error) {
	start := c.pos
	if !c.at(num) {
		return 0, c.refuse(num, field)
	}
	n, size := protowire.ConsumeVarint(c.buf[c.pos+1 : c.end])
	switch {
	case size < 0:
		return 0, fault(ErrMalformed, field, "cut short, or not a varint").during(opParse, start)
	case size != protowire.SizeVarint(n):
		return 0, fault(ErrMalformed, field, "not the shortest varint").during(opParse, start)
	}
	c.pos += 1 + size
	return n, nil
}

// done refuses the rest of the message, if there is any.
func (c *cursor) done() error {
	if c.pos == c.end {
		return nil
	}
	return c.refuse(c.message.last()+1, c.name)
}

// refuse explains why field want is not next.
func (c *cursor) refuse(want protowire.Number, field path) error {
	num, typ, size := protowire.ConsumeTag(c.buf[c.pos:c.end])
	reason := "a field twice or out of order"
	faulty := c.name
	switch {
	case c.pos == c.end:
		faulty, reason = field, "missing"
	case size < 0:
		reason = "not a field"
	case size != protowire.SizeTag(num):
		reason = "not the shortest tag"
	case num > c.message.last():
		reason = "an unknown field"
	case typ != c.message.wireType(num):
		reason = "a field of the wrong wire type"
	case num > want:
		faulty, reason = field, "missing or out of order"
	}
	return fault(ErrMalformed, faulty, reason).during(opParse, c.pos)
}
