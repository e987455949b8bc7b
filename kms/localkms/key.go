package localkms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// Key is one key of a keyring, a kms.Key. It is safe for concurrent use. Errors
// and their classes are listed in the package comment.
type Key struct {
	store *store
	id    string
	name  string

	mu     sync.Mutex // held while the file is read again
	loaded atomic.Pointer[loadedKey]
	closed atomic.Bool
	// seen is set once the key was in the file: one that was removed is not made anew.
	seen atomic.Bool
}

var (
	_ kms.Key       = (*Key)(nil)
	_ kms.Closer    = (*Key)(nil)
	_ kms.Rewrapper = (*Key)(nil)
	_ kms.Rotator   = (*Key)(nil)
	_ kms.Retirer   = (*Key)(nil)
	_ kms.Prober    = (*Key)(nil)
	_ kms.Locator   = (*Key)(nil)
)

// ID implements kms.Key.
func (k *Key) ID() string { return k.id }

// Location implements kms.Locator with the path of the keyring file. A copy of a
// keyring has the same ID, and after the next rotation other keys.
func (k *Key) Location() string { return k.store.path }

// Wrap implements kms.Key with the primary version.
func (k *Key) Wrap(ctx context.Context, dataKeys [][]byte, ec kms.Context) (_ []kms.Wrapped, err error) {
	defer k.report("wrap", &err)
	if err := driver.Ready(ctx, "wrap", k.id, dataKeys, ec); err != nil {
		return nil, err
	}
	now, err := k.current()
	if errors.Is(err, errNoKey) && !k.seen.Load() {
		now, err = k.create(ctx)
	}
	if err != nil {
		return nil, err
	}
	primary := now.versions[now.primary]
	if err := primary.usable(now.primary); err != nil {
		return nil, err
	}
	header := blobHeader(now.primary)
	ad := associatedData(k.id, header, ec)
	out := make([]kms.Wrapped, len(dataKeys))
	for i, d := range dataKeys {
		blob := append(make([]byte, 0, blobSize), header...)
		out[i] = kms.Wrapped{Version: versionName(now.primary), Blob: primary.aead.Seal(blob, nil, d, ad)} //nolint:gosec // the cipher draws its own random nonce
	}
	return out, nil
}

// create makes the key on its first use, unless another process just did.
func (k *Key) create(ctx context.Context) (*loadedKey, error) {
	r := &Keyring{store: k.store}
	if _, err := r.ensure(ctx, k.name); err != nil {
		return nil, err
	}
	return k.reload()
}

// Unwrap implements kms.Key.
func (k *Key) Unwrap(ctx context.Context, wrapped []kms.Wrapped, ec kms.Context) (_ []kms.Unwrapped, err error) {
	defer k.report("unwrap", &err)
	if err := driver.Ready(ctx, "unwrap", k.id, nil, ec); err != nil {
		return nil, err
	}
	now, err := k.current()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(wrapped, now.lacks) {
		// Some network file systems show a file's new time late: read the file itself.
		if now, err = k.reload(); err != nil {
			return nil, err
		}
	}
	out := make([]kms.Unwrapped, len(wrapped))
	for i, w := range wrapped {
		out[i].DataKey, out[i].Err = k.unwrapOne(now, w.Blob, ec)
		k.report("unwrap", &out[i].Err)
	}
	return out, nil
}

func (k *Key) unwrapOne(now *loadedKey, blob []byte, ec kms.Context) ([]byte, error) {
	number, ok := blobVersion(blob)
	if !ok {
		return nil, problem(kms.Corrupt, "these bytes are not a data key wrapped by a local keyring", "restore the payload from where it came from", nil)
	}
	v, known := now.versions[number]
	if !known {
		return nil, problem(kms.NotFound, "the keyring has no version "+versionName(number)+" of the key",
			"restore a keyring file that has this version, or the payload if it was altered", nil)
	}
	if err := v.usable(number); err != nil {
		return nil, err
	}
	d, err := v.aead.Open(nil, nil, blob[headerSize:], associatedData(k.id, blob[:headerSize], ec))
	if err != nil {
		return nil, problem(kms.Corrupt, "the wrapped data key was altered, or belongs to another key or context", "restore the payload from where it came from", nil)
	}
	return d, nil
}

// lacks reports whether l has no version that w names.
func (l *loadedKey) lacks(w kms.Wrapped) bool {
	number, ok := blobVersion(w.Blob)
	_, known := l.versions[number]
	return ok && !known
}

// report gives an error of an operation its name and the key's, if there is one.
func (k *Key) report(op string, err *error) {
	if *err != nil {
		*err = report(op, k.id, *err)
	}
}

func noSuchKey(name string) error {
	return problem(kms.NotFound, fmt.Sprintf("the keyring has no key %q", name), "list the keyring's keys, or create this one", errNoKey)
}

var errNoKey = errors.New("localkms: no such key")

var errKeyClosed = errors.New("localkms: key is closed")

func errClosed() error {
	return problem(kms.Internal, "the key is closed", "this is a bug in the calling program: it uses a key after Close", errKeyClosed)
}

// Close drops the key's ciphers. Calls under way end normally, later ones fail with
// Class Internal. It may be called again and never fails.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed.Store(true)
	k.loaded.Store(nil)
	return nil
}
