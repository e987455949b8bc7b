package envelope

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/erase"
	"github.com/waxseal/waxseal/kms"
)

// Recipients says which of a Sealer's KEKs must wrap a data key before it seals.
type Recipients uint8

const (
	// AllRecipients seals under every KEK or not at all: a missing recipient would
	// show only in the disaster that it is there for.
	AllRecipients Recipients = iota
	// PrimaryRecipient seals once the first KEK wraps, without KEKs that fail or do not answer a second later.
	// Envelopes show which recipient they lack, and SealerConfig.MissingRecipient reports it.
	PrimaryRecipient
)

const (
	// primaryGrace is how long after the first KEK the others may answer. Distant
	// regions take some 300 ms; callers have seconds in all.
	primaryGrace = time.Second
	// failureGrace is how long after a transient failure of one KEK the others may fail in
	// a worse way, where all must wrap. Only the error depends on it.
	failureGrace = time.Second
	// incompleteAge bounds how long a data key seals that lacks a recipient: a KEK that
	// fails for a moment should not be missing for minutes.
	incompleteAge = 5 * time.Second
)

// answer is the outcome of one KEK for a batch of data keys.
type answer struct {
	kek     int // its index
	wrapped []kms.Wrapped
	err     error
}

// pending is the first of the KEKs that a wrap waits for.
type pending struct{ keyID atomic.Pointer[string] }

func (p *pending) set(keyID string) { p.keyID.Store(&keyID) }

// first returns the ID of that KEK, empty if there is none.
func (p *pending) first() string {
	if id := p.keyID.Load(); id != nil {
		return *id
	}
	return ""
}

// wrap makes n data keys and wraps them under the KEKs, all KEKs at the same time.
func (s *Sealer) wrap(n int, ec kms.Context, first *pending) ([]*sealingKey, error) {
	keys := make([]*sealingKey, n)
	for i := range keys {
		keys[i] = &sealingKey{key: newDataKey()}
	}
	answers := make(chan answer, len(s.cfg.Keys))
	for i := range s.cfg.Keys {
		s.startWrap(i, keys, ec, answers)
	}
	first.set(s.keyIDs[0])
	defer first.set("")
	got, err := s.collect(answers, first)
	if err != nil {
		for _, k := range keys {
			k.key.wipe()
		}
		return nil, fmt.Errorf("envelope: wrap data key: %w", err)
	}
	// Age counts from here: if a slow KMS returned keys past their age, the pool would
	// discard them and request new ones for ever.
	life, grace, missing := s.cfg.Limits.MaxAge, s.cfg.Limits.SealGrace, s.missing(got)
	if missing != nil {
		// No grace: it would add to what is lost if the KEK that fails never comes back.
		life, grace = min(life, incompleteAge), 0
	}
	until := time.Now().Add(life)
	for i, k := range keys {
		k.until, k.graceUntil, k.missing = until, until.Add(grace), missing
		s.addRecipients(k, i, got)
	}
	if s.cfg.Opener != nil {
		for _, k := range keys {
			s.cfg.Opener.remember(kekOf(s.cfg.Keys[0]), k.recipients[0].WrappedKey, ec, k.key)
		}
	}
	return keys, nil
}

// startWrap lets one KEK wrap keys, in a goroutine that Close waits for. The goroutine
// works on copies, because collect may return, and the pool wipe the keys, before it ends.
func (s *Sealer) startWrap(i int, keys []*sealingKey, ec kms.Context, answers chan<- answer) {
	secret := make([]byte, len(keys)*kms.DataKeySize)
	plain := make([][]byte, len(keys))
	erase.Do(func() {
		for n, k := range keys {
			plain[n] = secret[n*kms.DataKeySize:][:kms.DataKeySize:kms.DataKeySize]
			copy(plain[n], k.key.b[:])
		}
	})
	key := s.cfg.Keys[i]
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.WrapTimeout)
		defer cancel()
		a := answer{kek: i, err: &kms.Error{Op: "wrap", KeyID: key.ID(), Detail: "the backend ended its goroutine"}}
		defer func() {
			clear(secret)
			answers <- a
		}()
		a.wrapped, a.err = callWrap(ctx, key, plain, ec)
		if a.err != nil && s.ctx.Err() != nil {
			a.err = &kms.Error{Op: "wrap", Detail: "the sealer is closed", Err: ErrClosed}
		}
		a.err = noAnswer(ctx, "wrap", key.ID(), s.cfg.WrapTimeout, a.err)
	})
}

// collect waits for as many answers as it needs. It returns one for each KEK, nil for a missing one.
func (s *Sealer) collect(answers <-chan answer, first *pending) ([]*answer, error) {
	got := make([]*answer, len(s.cfg.Keys))
	optional := s.cfg.Recipients == PrimaryRecipient
	var failed error // of a KEK that must wrap
	var graceOver <-chan time.Time
	for waiting := len(got); waiting > 0; {
		select {
		case a := <-answers:
			waiting--
			got[a.kek] = &a
			if i := slices.Index(got, nil); i >= 0 {
				first.set(s.keyIDs[i])
			}
			grace := primaryGrace
			switch {
			case optional && a.kek > 0:
				continue
			case a.err != nil && (optional || !kms.ClassOf(a.err).Transient()):
				return nil, a.err // the other answers cannot change it
			case a.err != nil && failed == nil:
				failed, grace = a.err, failureGrace
			case !optional:
				continue
			}
			timer := time.NewTimer(grace)
			defer timer.Stop()
			graceOver = timer.C
		case <-graceOver:
			waiting = 0
		}
	}
	if failed != nil {
		return nil, failed
	}
	return got, nil
}

// missing returns the KEKs that did not wrap; nil if all did.
func (s *Sealer) missing(got []*answer) []failure {
	var out []failure
	for i, a := range got {
		switch {
		case a == nil:
			out = append(out, failure{keyID: s.keyIDs[i], class: kms.Unavailable})
		case a.err != nil:
			out = append(out, failure{keyID: s.keyIDs[i], class: kms.ClassOf(a.err)})
		}
	}
	return out
}

// addRecipients adds the recipients of k, the i-th of its batch, in the order of the KEKs.
func (s *Sealer) addRecipients(k *sealingKey, i int, got []*answer) {
	for n, a := range got {
		if a == nil || a.err != nil {
			continue
		}
		versioned := kms.VersionedID(s.keyIDs[n], a.wrapped[i].Version)
		recipient := format.Recipient{WrappedKey: a.wrapped[i].Blob}
		if !s.cfg.NamedByContainer {
			recipient.KeyID = versioned
		}
		k.keyIDs = append(k.keyIDs, versioned)
		k.recipients = append(k.recipients, recipient)
	}
}

// callWrap calls the KMS and checks that the format can carry its answers.
func callWrap(ctx context.Context, key kms.Key, plain [][]byte, ec kms.Context) (wrapped []kms.Wrapped, err error) {
	defer kms.Recover("wrap", key.ID(), &err)
	erase.Call(func() { wrapped, err = key.Wrap(ctx, plain, ec) })
	if err != nil {
		return nil, err
	}
	if len(wrapped) != len(plain) {
		return nil, &kms.Error{Op: "wrap", KeyID: key.ID(), Detail: fmt.Sprintf("%d wrapped keys for %d data keys", len(wrapped), len(plain))}
	}
	for _, w := range wrapped {
		r := format.Recipient{KeyID: kms.VersionedID(key.ID(), w.Version), WrappedKey: w.Blob}
		if format.ValidateRecipients([]format.Recipient{r}) != nil || strings.Contains(w.Version, "@") {
			return nil, &kms.Error{
				Op: "wrap", KeyID: key.ID(), Detail: "a wrapped key of a size or version that cannot be recorded",
				Advice: "this is a bug in the backend: please report it",
			}
		}
	}
	return wrapped, nil
}
