package temporaltest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
)

// Secrets are strings that must not leave in the open. All secrets of one run contain the same
// needle, so that one search finds any of them, and which call made them.
type Secrets struct {
	needle    string
	disguises map[string][]byte // lower case, by name
	pattern   *regexp.Regexp
}

// NewSecrets returns secrets with a needle from r.
func NewSecrets(r *rand.Rand) *Secrets {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	needle := make([]byte, 24)
	for i := range needle {
		needle[i] = letters[r.IntN(len(letters))]
	}
	s := &Secrets{needle: string(needle), pattern: regexp.MustCompile(string(needle) + `-(\d+)-([a-z0-9-]+)`)}
	once := disguises(needle)
	s.disguises = map[string][]byte{"in the open": needle}
	for name, b := range once {
		s.disguises[name] = b
		for inner, b := range disguises(b) {
			s.disguises[name+" in "+inner] = b
		}
	}
	for name, b := range s.disguises {
		s.disguises[name] = bytes.ToLower(b)
	}
	return s
}

// disguises returns the part of b that is certain to be in an encoding of a text that holds b,
// at any position.
func disguises(b []byte) map[string][]byte {
	out := map[string][]byte{"hexadecimal": []byte(hex.EncodeToString(b)), "UTF-16": bytes.TrimRight([]byte(strings.Join(strings.Split(string(b), ""), "\x00")), "\x00")}
	for before := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, before), b...))
		from := 4 * ((before + 2) / 3) // the group that the text before b has a part in
		to := len(text) - 4            // the group that the text after b has a part in
		out["base64 "+strconv.Itoa(before)] = []byte(text[from:to])
	}
	return out
}

// Of returns the secret of a call for a purpose of letters, digits and dashes.
func (s *Secrets) Of(call int, what string) string {
	return fmt.Sprintf("%s-%d-%s", s.needle, call, what)
}

// Find returns how the secrets in b are disguised; empty if there are none.
func (s *Secrets) Find(b []byte) string {
	b = bytes.ToLower(b)
	for name, d := range s.disguises {
		if bytes.Contains(b, d) {
			return name
		}
	}
	return ""
}

// All returns the secrets that b contains in the open.
func (s *Secrets) All(b []byte) (found []string) {
	for _, m := range s.pattern.FindAll(b, -1) {
		found = append(found, string(m))
	}
	return found
}
