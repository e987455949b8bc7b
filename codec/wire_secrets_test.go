package codec_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// secrets are strings that must not be seen. All of one run hold the same
// needle, so that one search finds any of them, and which call made them.
type secrets struct {
	needle    string
	disguises map[string][]byte // lower case, by name
	pattern   *regexp.Regexp
}

func newSecrets(r *rand.Rand) *secrets {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	needle := make([]byte, 24)
	for i := range needle {
		needle[i] = letters[r.IntN(len(letters))]
	}
	s := &secrets{needle: string(needle), pattern: regexp.MustCompile(string(needle) + `-(\d+)-([a-z0-9-]+)`)}
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

// disguises returns what part of b certainly stands in an encoding of a text
// that holds it, wherever in the text it is.
func disguises(b []byte) map[string][]byte {
	out := map[string][]byte{"hexadecimal": []byte(hex.EncodeToString(b)), "UTF-16": bytes.TrimRight([]byte(strings.Join(strings.Split(string(b), ""), "\x00")), "\x00")}
	for before := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, before), b...))
		from := 4 * ((before + 2) / 3) // the group that what is before has a part in
		to := len(text) - 4            // the one that what is after has a part in
		out["base64 "+strconv.Itoa(before)] = []byte(text[from:to])
	}
	return out
}

// of returns the secret of a call for a purpose of letters, digits and dashes.
func (s *secrets) of(call int, what string) string {
	return fmt.Sprintf("%s-%d-%s", s.needle, call, what)
}

// find tells how the secrets that are in b are disguised; empty if there are none.
func (s *secrets) find(b []byte) string {
	b = bytes.ToLower(b)
	for name, d := range s.disguises {
		if bytes.Contains(b, d) {
			return name
		}
	}
	return ""
}

// all returns the secrets that stand in b in the open.
func (s *secrets) all(b []byte) (found []string) {
	for _, m := range s.pattern.FindAll(b, -1) {
		found = append(found, string(m))
	}
	return found
}

func TestSecretsAreFound(t *testing.T) {
	s := newSecrets(rand.New(rand.NewPCG(1, 2)))
	for before := range 4 {
		text := []byte(strings.Repeat("x", before) + s.of(7, "memo") + ` "and more`)
		twice := base64.URLEncoding.EncodeToString([]byte("y" + base64.StdEncoding.EncodeToString(text)))
		for name, b := range map[string][]byte{
			"open": text, "upper case": bytes.ToUpper(text), "base64": []byte("==" + base64.StdEncoding.EncodeToString(text)), "URL-safe base64": []byte(base64.RawURLEncoding.EncodeToString(text)),
			"hexadecimal": []byte(hex.EncodeToString(text)), "base64 twice": []byte(twice), "UTF-16": []byte(strings.Join(strings.Split(string(text), ""), "\x00")),
		} {
			if s.find(b) == "" {
				t.Errorf("%s, %d before: not found", name, before)
			}
		}
		if got := s.all(text); len(got) != 1 || got[0] != s.of(7, "memo") {
			t.Errorf("found %q", got)
		}
	}
	if found := s.find([]byte(newSecrets(rand.New(rand.NewPCG(3, 4))).of(7, "memo"))); found != "" {
		t.Errorf("found another's secret %s", found)
	}
}
