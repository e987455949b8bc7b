package localkms

import (
	"crypto/aes"
	"crypto/cipher"
	"io/fs"
	"os"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// settled is how old a file must be before equal time, size and inode mean that it is
// unchanged. Below the granularity of file times two changes may look alike.
const settled = 100 * time.Millisecond

// loadedKey is what a Key knows of its versions. It is immutable.
type loadedKey struct {
	info     fs.FileInfo // the file that it was read from
	readAt   time.Time
	primary  uint32
	versions map[uint32]loadedVersion
}

type loadedVersion struct {
	state     State
	destroyAt time.Time   // of a Pending version
	aead      cipher.AEAD // nil if the version is Pending or Destroyed
}

// usable says why the version cannot be used now.
func (v loadedVersion) usable(number uint32) error {
	name := versionName(number)
	switch {
	case v.state == Destroyed || due(v.state, v.destroyAt, time.Now()):
		return destroyed(name)
	case v.state == Pending:
		return problem(kms.Disabled, "version "+name+" is to be destroyed at "+v.destroyAt.Format(time.RFC3339),
			"to keep it, restore and then enable the version in the keyring", nil)
	case v.state != Enabled:
		return problem(kms.Disabled, "version "+name+" is disabled", "enable the version in the keyring; to wrap again without it, rotate the key", nil)
	}
	return nil
}

func destroyed(version string) error {
	return problem(kms.NotFound, "version "+version+" was destroyed",
		"what it wrapped opens only with a copy of the keyring from before, or another recipient's key; to wrap again, rotate the key", nil)
}

// current returns the key's versions as the file has them now. While the file is
// unchanged that takes one stat.
func (k *Key) current() (*loadedKey, error) {
	if k.closed.Load() {
		return nil, errClosed()
	}
	info, err := k.store.stat()
	if err != nil {
		return nil, err
	}
	if now := k.loaded.Load(); now.isOf(info) {
		return now, nil
	}
	return k.reload()
}

// isOf reports whether l was read from the file that info describes. A file that
// was young when it was read may have changed since without a trace.
func (l *loadedKey) isOf(info fs.FileInfo) bool {
	return l != nil && os.SameFile(l.info, info) && l.info.Size() == info.Size() && l.info.ModTime().Equal(info.ModTime()) &&
		l.info.Mode() == info.Mode() && // opened up to others meanwhile: reading it again refuses it
		l.readAt.Sub(info.ModTime()) > settled
}

// reload reads the file.
func (k *Key) reload() (*loadedKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed.Load() {
		return nil, errClosed()
	}
	readAt := time.Now()
	c, info, err := k.store.load()
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	if id := c.keyID(k.name); id != k.id {
		return nil, replaced(id)
	}
	now, err := newLoadedKey(c, k.name, info, readAt)
	if err != nil {
		return nil, err
	}
	k.loaded.Store(now)
	k.seen.Store(true)
	return now, nil
}

func replaced(id string) error {
	return problem(kms.NotFound, "the keyring file was replaced by another keyring, in which the key would be "+id,
		"put the right keyring file back, or restart to use the other one", nil)
}

// newLoadedKey makes the ciphers of one key.
func newLoadedKey(c *contents, name string, info fs.FileInfo, readAt time.Time) (*loadedKey, error) {
	e, ok := c.keys[name]
	if !ok {
		return nil, noSuchKey(name)
	}
	l := &loadedKey{info: info, readAt: readAt, primary: e.primary, versions: make(map[uint32]loadedVersion, len(e.versions))}
	for _, v := range e.versions {
		if v.state == Pending || v.state == Destroyed {
			l.versions[v.number] = loadedVersion{state: v.state, destroyAt: v.destroyAt}
			continue
		}
		aead, err := newAEAD(v.material.bytes())
		if err != nil {
			return nil, problem(kms.Internal, "cannot make an AES-GCM cipher", "please report this bug", err)
		}
		l.versions[v.number] = loadedVersion{state: v.state, aead: aead}
	}
	return l, nil
}

func newAEAD(material []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(material)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
