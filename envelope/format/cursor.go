package format

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

const opParse = "parse envelope"

// cursor reads one message strictly: fields in ascending order, each at most once unless the caller loops, shortest
// varints, nothing unknown, nothing empty. Offsets count from the start of the envelope even inside nested messages.
//
// After the first error all methods do nothing and return zero values.
type cursor struct {
	buf      []byte // the whole envelope
	pos, end int    // the unread part of this message
	message  message
	name     path // of this message, for errors about no field in particular
	err      error

	// text is a copy of the envelope from base on. All strings are parts of it.
	text string
	base int
}

// fail is for a bad field at an offset; bad is nil if a check passed.
func (c *cursor) fail(bad *Error, offset int) {
	if c.err == nil && bad != nil {
		c.err = bad.during(opParse, offset)
	}
}

// enter returns a cursor over message m in field num, which must come next; leave ends it.
func (c *cursor) enter(num protowire.Number, m message, name path, limit int) cursor {
	val := c.bytes(num, name, limit)
	return cursor{
		buf: c.buf, pos: c.pos - len(val), end: c.pos, message: m, name: name, err: c.err,
		text: c.text, base: c.base,
	}
}

// leave checks that a nested message was read to its end.
func (c *cursor) leave(nested *cursor) {
	nested.done()
	c.err = nested.err
}

// at reports whether field num comes next. All tags of the schema take one byte.
func (c *cursor) at(num protowire.Number) bool {
	return c.err == nil && c.pos < c.end && uint64(c.buf[c.pos]) == protowire.EncodeTag(num, c.message.wireType(num))
}

// bytes reads the length-delimited field num, which must come next and hold 1 to limit
// bytes, all of them in this message. The result aliases the envelope.
func (c *cursor) bytes(num protowire.Number, field path, limit int) []byte {
	start := c.pos
	n := c.varint(num, field)
	switch {
	case c.err != nil:
		return nil
	case n == 0:
		c.fail(fault(ErrMalformed, field, "present but empty"), start)
		return nil
	case n > uint64(limit): //nolint:gosec // limits are positive constants
		c.fail(tooLong(field, n, limit), start)
		return nil
	case n > uint64(c.end-c.pos): //nolint:gosec // pos never passes end
		c.fail(fault(ErrMalformed, field, "runs past the end"), start)
		return nil
	}
	from := c.pos
	c.pos += int(n) //nolint:gosec // at most limit
	return c.buf[from:c.pos:c.pos]
}

// string reads the string field num like bytes, as a part of c.text.
func (c *cursor) string(num protowire.Number, field path, limit int) string {
	val := c.bytes(num, field, limit)
	if c.err != nil {
		return ""
	}
	end := c.pos - c.base
	return c.text[end-len(val) : end]
}

// fixed reads the bytes field num, which must come next and fill dst exactly.
func (c *cursor) fixed(num protowire.Number, field path, dst []byte) {
	start := c.pos
	val := c.bytes(num, field, maxProtected)
	if len(val) != len(dst) {
		c.fail(fault(ErrMalformed, field, fmt.Sprintf("%d bytes where %d are needed", len(val), len(dst))), start)
		return
	}
	copy(dst, val)
}

// number reads the uint32 field num, which must come next and not be zero.
func (c *cursor) number(num protowire.Number, field path) uint32 {
	start := c.pos
	n := c.varint(num, field)
	switch {
	case n == 0:
		c.fail(fault(ErrMalformed, field, "present but zero"), start)
	case n > 1<<32-1:
		c.fail(fault(ErrMalformed, field, "more than 32 bits"), start)
	}
	return uint32(n) //nolint:gosec // or an error
}

// varint reads the tag of field num, which must come next, and the varint behind it.
func (c *cursor) varint(num protowire.Number, field path) uint64 {
	start := c.pos
	if !c.at(num) {
		c.refuse(num, field)
		return 0
	}
	n, size := protowire.ConsumeVarint(c.buf[c.pos+1 : c.end])
	switch {
	case size < 0:
		c.fail(fault(ErrMalformed, field, "cut short, or not a varint"), start)
		return 0
	case size != protowire.SizeVarint(n):
		c.fail(fault(ErrMalformed, field, "not the shortest varint"), start)
		return 0
	}
	c.pos += 1 + size
	return n
}

// done refuses the rest of the message, if there is any.
func (c *cursor) done() {
	if c.pos != c.end {
		c.refuse(c.message.last()+1, c.name)
	}
}

// refuse explains why field want is not next.
func (c *cursor) refuse(want protowire.Number, field path) {
	if c.err != nil {
		return
	}
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
	c.fail(fault(ErrMalformed, faulty, reason), c.pos)
}
