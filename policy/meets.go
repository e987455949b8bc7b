package policy

import "strings"

// meets reports whether some namespace gives the template k the URI of other, which may be a template filled for another
// namespace. It compares two templates only if they have one variable each.
func (k Key) meets(other Key) bool {
	if !other.Templated() {
		return k.expandsTo(other.URI)
	}
	if strings.Count(k.URI, namespaceVariable) != 1 || strings.Count(other.URI, namespaceVariable) != 1 {
		return false
	}
	begin, end, _ := strings.Cut(k.URI, namespaceVariable)
	otherBegin, otherEnd, _ := strings.Cut(other.URI, namespaceVariable)
	if len(begin) > len(otherBegin) {
		begin, end, otherBegin, otherEnd = otherBegin, otherEnd, begin, end
	}
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
		if second, ok := strings.CutPrefix(rest, more[i:]); ok && unsafeNamespace(more[:i]) == "" && unsafeNamespace(second) == "" {
			return true
		}
	}
	return unsafeNamespace(more+"x"+rest) == ""
}

// expandsTo reports whether some namespace gives the template k this URI.
func (k Key) expandsTo(uri string) bool {
	begin, _, _ := strings.Cut(k.URI, namespaceVariable)
	variables := strings.Count(k.URI, namespaceVariable)
	size := (len(uri) - len(k.URI) + variables*len(namespaceVariable)) / variables
	if size <= 0 || len(uri) < len(begin)+size {
		return false
	}
	got, err := k.Expand(uri[len(begin):][:size])
	return err == nil && got == uri
}
