package localkms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// Keyring is a keyring file, for its administrators. It keeps nothing in
// memory: each call reads the file. It is safe for concurrent use, also by
// several processes. Errors are *kms.Error with a hint; their classes are listed
// in the package comment.
type Keyring struct {
	store *store
}

// KeyInfo describes one key, without its material.
type KeyInfo struct {
	// Name is how URIs name the key: local:///path#name.
	Name string
	// ID is what envelopes record.
	ID string
	// Versions in ascending order, at least one.
	Versions []VersionInfo
}

// Primary returns the version that wraps.
func (k KeyInfo) Primary() VersionInfo {
	i := slices.IndexFunc(k.Versions, func(v VersionInfo) bool { return v.Primary })
	if i < 0 {
		return VersionInfo{}
	}
	return k.Versions[i]
}

// VersionInfo describes one version of a key.
type VersionInfo struct {
	// Version as kms.Wrapped names it: "1", "2", …
	Version string
	// Created is in UTC and whole seconds.
	Created time.Time
	State   State
	// Primary is true for the one version that wraps.
	Primary bool
	// DestroyAt is when a Pending version is destroyed, in UTC and whole seconds;
	// zero otherwise.
	DestroyAt time.Time
}

// OpenKeyring returns the keyring at path, which is absolute. The file need not
// exist yet; if it does, it is checked and read.
func OpenKeyring(path string) (*Keyring, error) {
	s, err := newStore(path)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, report("open keyring", "", err)
	}
	return &Keyring{store: s}, nil
}

// Path returns the keyring's path, cleaned.
func (r *Keyring) Path() string { return r.store.path }

// List returns every key, by name. A keyring that does not exist yet has none.
func (r *Keyring) List() ([]KeyInfo, error) {
	c, _, err := r.store.load()
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, report("list keys", "", err)
	}
	defer c.wipe()
	out := make([]KeyInfo, 0, len(c.keys))
	for _, name := range slices.Sorted(maps.Keys(c.keys)) {
		out = append(out, c.info(name))
	}
	return out, nil
}

func (c *contents) info(name string) KeyInfo {
	e := c.keys[name]
	info := KeyInfo{Name: name, ID: c.keyID(name)}
	for _, v := range e.versions {
		info.Versions = append(info.Versions, VersionInfo{
			Version: versionName(v.number), Created: v.created, State: v.state, Primary: v.number == e.primary, DestroyAt: v.destroyAt,
		})
	}
	return info
}

// Create makes a key with one version, and the keyring file and its folder if
// there are none. If the key exists, the error has ErrExists in its chain.
func (r *Keyring) Create(name string) (KeyInfo, error) {
	return r.create(context.Background(), name, func(*contents) error {
		return problem(kms.Invalid, fmt.Sprintf("the keyring has a key %q already", name), "choose another name, or rotate the key for a new version", ErrExists)
	})
}

// Ensure makes the key if it does not exist.
func (r *Keyring) Ensure(name string) (KeyInfo, error) {
	return r.ensure(context.Background(), name)
}

func (r *Keyring) ensure(ctx context.Context, name string) (KeyInfo, error) {
	return r.create(ctx, name, func(*contents) error { return errUnchanged })
}

// errUnchanged ends an update that has nothing to write.
var errUnchanged = errors.New("localkms: nothing to change")

func (r *Keyring) create(ctx context.Context, name string, exists func(*contents) error) (info KeyInfo, err error) {
	const op = "create key"
	if err := checkName(name); err != nil {
		return KeyInfo{}, report(op, "", err)
	}
	err = r.store.update(ctx, true, func(c *contents) error {
		if _, there := c.keys[name]; there {
			info = c.info(name)
			return exists(c)
		}
		e := &entry{}
		e.add(time.Now())
		c.keys[name] = e
		info = c.info(name)
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return KeyInfo{}, report(op, "", err)
	}
	return info, nil
}

// Open returns the key, for sealing and opening. It makes the file and its
// folder if they do not exist, since the file's ID is part of the key's; a key that does not
// exist is made when it first wraps. The caller closes the Key.
func (r *Keyring) Open(ctx context.Context, name string) (k *Key, err error) {
	if err = errors.Join(checkName(name), ctx.Err()); err == nil {
		k, err = r.open(name)
	}
	if errors.Is(err, errAbsent) {
		if err = r.store.update(ctx, true, func(*contents) error { return nil }); err == nil {
			k, err = r.open(name)
		}
	}
	if err != nil {
		return nil, report("open", "", err)
	}
	return k, nil
}

// open returns the key, which need not exist, of a file that does.
func (r *Keyring) open(name string) (*Key, error) {
	readAt := time.Now()
	c, info, err := r.store.load()
	if err != nil {
		return nil, err
	}
	defer c.wipe()
	k := &Key{store: r.store, id: c.keyID(name), name: name}
	loaded, err := newLoadedKey(c, name, info, readAt)
	switch {
	case errors.Is(err, errNoKey):
	case err != nil:
		return nil, err
	default:
		k.loaded.Store(loaded)
		k.seen.Store(true)
	}
	return k, nil
}
