package localkms

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/kms"
)

const (
	// maxNameSize is the longest key name in bytes, that of a Temporal namespace.
	maxNameSize = 255

	idBytes = 10 // 80 random bits, 16 characters
)

// State says whether a version may be used.
type State string

const (
	// Enabled versions unwrap, and wrap if they are the primary.
	Enabled State = "enabled"
	// Disabled versions do neither, until they are enabled again.
	Disabled State = "disabled"
	// Pending versions do neither, and are destroyed at a set time unless restored.
	Pending State = "pending destruction"
	// Destroyed versions are gone: their key material is no more.
	Destroyed State = "destroyed"
)

// contents is a keyring file in memory.
type contents struct {
	id   string
	keys map[string]*entry
}

// entry is one key: its versions in ascending order, never none.
type entry struct {
	primary  uint32
	versions []*version
}

type version struct {
	number  uint32
	created time.Time // UTC, whole seconds
	state   State
	// destroyAt is when a Pending version is destroyed, UTC and whole seconds; zero otherwise.
	destroyAt time.Time
	material  secret // wiped, and not written, once Destroyed
}

// due reports whether the time of a Pending version has come. A file may say so
// for long: it is written at the next change.
func due(state State, destroyAt, now time.Time) bool {
	return state == Pending && !now.Before(destroyAt)
}

// settle destroys the versions that are due.
func (c *contents) settle(now time.Time) {
	for _, e := range c.keys {
		for _, v := range e.versions {
			if due(v.state, v.destroyAt, now) {
				v.destroy()
			}
		}
	}
}

func (v *version) destroy() {
	v.material.wipe()
	v.state, v.destroyAt = Destroyed, time.Time{}
}

// newContents returns an empty keyring with an ID of its own.
func newContents() *contents {
	id := make([]byte, idBytes)
	rand.Read(id)
	return &contents{id: base32Lower().EncodeToString(id), keys: map[string]*entry{}}
}

// base32Lower is RFC 4648 base32 in lower case without padding.
func base32Lower() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// keyID is what envelopes record.
func (c *contents) keyID(name string) string { return Scheme + "://" + c.id + "/" + name }

// wipe zeroes all key material.
func (c *contents) wipe() {
	for _, e := range c.keys {
		for _, v := range e.versions {
			v.material.wipe()
		}
	}
}

// add gives the key a new version, makes it the primary and returns its number.
func (e *entry) add(now time.Time) uint32 {
	v := &version{number: 1, created: now.UTC().Truncate(time.Second), state: Enabled, material: newSecret()}
	if n := len(e.versions); n > 0 {
		v.number = e.versions[n-1].number + 1
	}
	e.versions = append(e.versions, v)
	e.primary = v.number
	return v.number
}

// versionName is a version as kms.Wrapped names it.
func versionName(number uint32) string { return strconv.FormatUint(uint64(number), 10) }

// checkName says what is wrong with a key's name. Names are part of URIs and
// recorded IDs and are typed in shells, so they stay plain.
func checkName(name string) error {
	bad := func(detail string) error {
		return problem(kms.Invalid, detail, "name the key with letters, digits, '.', '_' and '-', starting with a letter or digit", nil)
	}
	letterOrDigit := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }
	switch {
	case name == "":
		return bad("the key has no name")
	case len(name) > maxNameSize:
		return bad(fmt.Sprintf("the key's name is longer than %d bytes", maxNameSize))
	case !letterOrDigit(rune(name[0])):
		return bad(fmt.Sprintf("the key's name %q does not start with a letter or digit", name))
	case strings.ContainsFunc(name, func(r rune) bool { return !letterOrDigit(r) && !strings.ContainsRune("._-", r) }):
		return bad(fmt.Sprintf("the key's name %q holds a character that is not allowed", name))
	}
	return nil
}
