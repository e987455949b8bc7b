package vaultkms

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/waxseal/waxseal/kms"
)

// maxParallel is how many requests one call has in flight at most, when its
// items do not fit into one.
const maxParallel = 4

// Key is a key of a transit engine: a kms.Key that is safe for concurrent use.
// It prints as its ID.
type Key struct {
	id, mount, name, namespace string

	client  *client
	release func() // gives up our part of client
	closing sync.Once

	// derived says that the key is derived from a context for each use; declared,
	// that the configuration says so.
	derived  atomic.Bool
	declared bool

	verified atomic.Bool
	gate     chan struct{} // held while a call verifies
}

var (
	_ kms.Key     = (*Key)(nil)
	_ kms.Closer  = (*Key)(nil)
	_ kms.Locator = (*Key)(nil)
)

// ID implements kms.Key: "hashivault://mount/key", and "?namespace=NS" where the
// key is in a Vault namespace other than root. Vault's address is not part of it,
// so two clusters must not have the same mount and key in one configuration.
func (k *Key) ID() string { return k.id }

// Location implements kms.Locator with Vault's address.
func (k *Key) Location() string { return strings.TrimSuffix(k.client.address, "/") }

// String returns the ID.
func (k *Key) String() string { return k.id }

// GoString returns the ID.
func (k *Key) GoString() string { return k.id }

// Close ends what runs in the background and closes idle connections, unless
// other keys of the same Shared backend still use them. The key is not used
// afterwards. A token that we got is not revoked: it ends with its lease.
func (k *Key) Close() error {
	k.closing.Do(k.release)
	return nil
}

// ask sends one request of op, in the key's namespace, and returns the answer with any
// status. It wipes the request's body. The caller wipes the answer.
func (k *Key) ask(ctx context.Context, op string, req request) (*reply, *answer, error) {
	req.namespace = k.namespace
	r, err := k.client.send(ctx, req)
	if err != nil {
		return nil, nil, k.notSent(ctx, op, err)
	}
	defer clear(r.body)
	a, err := parseAnswer(r.body)
	if err == nil && a.isVaults(r.status) {
		return r, a, nil
	}
	// Vault answers JSON of its own. What does not comes from something on the way, and must
	// not pass for Vault's word that a key is gone or forbidden, which is final.
	a = new(answer)
	switch {
	case req.silent && r.status == http.StatusNoContent:
		return r, a, nil
	case r.status < http.StatusMultipleChoices && len(r.body) == 0: // as other engines answer a write
		return nil, nil, k.notUnderstood(op)
	case bytes.Contains(r.body, []byte(tlsOnly)):
		a.Errors = []string{tlsOnly}
	case !meansTheSameFromAnyone(r.status):
		return nil, nil, k.fail(op, k.client.notVault(), errAnswer)
	}
	return r, a, nil
}
