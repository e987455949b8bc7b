package vaultkms

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"

	vault "github.com/hashicorp/vault/api"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/internal/driver"
)

// verify makes sure, once for each Key, that data keys may be sent: that the
// mount is a transit engine (a key-value engine would store them), that the key
// exists, that it binds what it encrypts, and by what: associated data or, where
// it is derived, a derivation context. A key that is not derived ignores the
// context, so this must be known before a data key is bound by one. Fail modes:
//
//   - Vault lets us read the key: its type decides. One request.
//   - It does not: 32 random bytes that encrypt nothing are wrapped under some
//     associated data, which only a fitting key can do, and which a derived key
//     refuses in words that give it away. One request more, or two. That a key has
//     256 bits is taken on trust then.
//   - Vault cannot be reached: the caller gets the error, and the next Wrap tries again.
func (k *Key) verify(ctx context.Context, op string) error {
	if k.verified.Load() {
		return nil
	}
	select {
	case k.gate <- struct{}{}:
		defer func() { <-k.gate }()
	case <-ctx.Done():
		return k.notSent(ctx, op, ctx.Err())
	}
	if k.verified.Load() {
		return nil
	}
	_, readable, err := k.readType(ctx, op)
	if err == nil && !readable {
		err = k.try(ctx, op)
	}
	if err != nil {
		return err
	}
	k.verified.Store(true)
	return nil
}

// readType reads the key and refuses a type that does not do. It reports false, without an
// error, if Vault does not let us read the key.
func (k *Key) readType(ctx context.Context, op string) (facts keyFacts, readable bool, err error) {
	r, a, err := k.ask(ctx, op, request{method: http.MethodGet, path: k.keyPath(), limit: maxAnswerKey})
	if err != nil {
		return facts, false, err
	}
	if r.status == http.StatusForbidden {
		a.wipe()
		return facts, false, nil
	}
	if facts, err = k.factsIn(op, k.keyPath(), "read", r, a); err != nil {
		return facts, false, err
	}
	switch facts.Type {
	case "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "managed_key":
		return facts, true, k.learn(op, facts.Derived)
	}
	return facts, false, k.fail(op, k.wrongType(typeIn(facts.Type)), nil)
}

// learn notes whether the key is derived, and refuses one that was declared to
// be and is not.
func (k *Key) learn(op string, derived bool) error {
	if k.declared && !derived {
		return k.fail(op, driver.Refuse(kms.Invalid, "it is not a derived key, and the configuration says it is",
			"leave ?"+paramDerived+"=true out of the key URI, or create another key with derived=true and name that one"), nil)
	}
	k.derived.Store(derived)
	return nil
}

// try wraps random bytes under the key.
func (k *Key) try(ctx context.Context, op string) error {
	probe := make([]byte, kms.DataKeySize)
	rand.Read(probe) // never fails: crypto/rand ends the process instead
	ec := kms.Context{"waxseal": "probe"}
	_, err := k.wrapBatch(ctx, op, [][]byte{probe}, bind(ec, false))
	var said *vault.ResponseError
	switch {
	case err == nil:
		return k.learn(op, false)
	case errors.As(err, &said) && wantsContext(strings.Join(said.Errors, "\n")):
		if _, err = k.wrapBatch(ctx, op, [][]byte{probe}, bind(ec, true)); err == nil {
			return k.learn(op, true)
		}
	}
	return err
}

// wantsContext reports whether Vault says that the key is a derived one.
func wantsContext(message string) bool { return strings.Contains(message, "key derivation") }
