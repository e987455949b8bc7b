package policy

import "strings"

// meets reports whether some namespace gives the template k the URI of other, which may be a template too. It compares two
// templates only if they have one variable each.
func (k Key) meets(other Key) bool {
	if !other.Templated() {
		return k.expandsTo(other.URI)
	}
	first, second := k.template(), other.template()
	if len(first) != 2 || len(second) != 2 {
		return false
	}
	if len(first[0]) > len(second[0]) {
		first, second = second, first
	}
	begin, end, otherBegin, otherEnd := first[0], first[1], second[0], second[1]
	more, ok := strings.CutPrefix(otherBegin, begin)
	if !ok {
		return false
	}
	// The namespace of the template that begins earlier begins with more.
	if rest, ok := strings.CutSuffix(otherEnd, end); ok {
		return unsafeNamespace(more+"x"+rest) == ""
	}
	// Or it is a part of more, and the rest of more begins the end of that template.
	rest, ok := strings.CutSuffix(end, otherEnd)
	if !ok {
		return false
	}
	for i := 1; i < len(more); i++ {
		if tail, ok := strings.CutPrefix(rest, more[i:]); ok && unsafeNamespace(more[:i]) == "" && unsafeNamespace(tail) == "" {
			return true
		}
	}
	return unsafeNamespace(more+"x"+rest) == ""
}

// expandsTo reports whether some namespace gives the template k this URI.
func (k Key) expandsTo(uri string) bool {
	pieces := k.template()
	begin, variables := len(pieces[0]), len(pieces)-1
	size := (len(uri) - len(strings.Join(pieces, ""))) / variables
	if size <= 0 || len(uri) < begin+size {
		return false
	}
	got, err := k.Expand(uri[begin:][:size])
	return err == nil && got == uri
}
