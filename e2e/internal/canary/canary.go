package canary

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

const prefix = "CANARY-"

// Flock makes canaries that differ from those of any other Flock, and finds them. It is
// safe for concurrent use.
type Flock struct {
	run    string // 16 lower-case hexadecimal digits
	needle []byte // what all canaries begin with, in lower case

	mu    sync.Mutex
	kinds map[string]bool
	words map[string]string // kind by word, in lower case
}

// NewFlock returns a Flock with a name drawn at random.
func NewFlock() *Flock {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return &Flock{run: hex.EncodeToString(b[:]), needle: bytes.ToLower([]byte(prefix)), kinds: make(map[string]bool), words: make(map[string]string)}
}

// Canary returns the canary of a kind, the same at every call. A kind consists
// of lower-case letters and single hyphens; anything else is a mistake in the
// test and panics.
func (f *Flock) Canary(kind string) string {
	if !validKind(kind) {
		panic(fmt.Sprintf("canary: %q is not a kind", kind)) //nolint:forbidigo // tests write kinds as constants
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kinds[kind] = true
	return prefix + kind + "-" + f.run
}

// Word makes word a canary of a kind, for text that a test cannot choose when it
// runs, such as the name of a function in a stack trace. It returns word.
func (f *Flock) Word(kind, word string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kinds[kind] = true
	f.words[strings.ToLower(word)] = kind
	return word
}

// Kinds returns the kinds that Canary and Word were called with, sorted.
func (f *Flock) Kinds() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.kinds))
}

func validKind(kind string) bool {
	if kind == "" || kind[0] == '-' || kind[len(kind)-1] == '-' || bytes.Contains([]byte(kind), []byte("--")) {
		return false
	}
	for _, c := range []byte(kind) {
		if c != '-' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// spoken returns the kinds of the words in b, which is in lower case.
func (f *Flock) spoken(b []byte) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kinds []string
	for word, kind := range f.words {
		if bytes.Contains(b, []byte(word)) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// at returns the kind of the canary that begins at b[0], b being in lower case.
func (f *Flock) at(b []byte) (kind string, ok bool) {
	const maxKind = 64
	rest := b[len(prefix):]
	end := bytes.Index(rest[:min(len(rest), maxKind+1+len(f.run))], []byte("-"+f.run))
	if end <= 0 || !validKind(string(rest[:end])) {
		return "", false
	}
	return string(rest[:end]), true
}
