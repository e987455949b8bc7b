package envelope

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/internal/erase"
	"github.com/waxseal/waxseal/kms"
)

// Recipients says which of a Sealer's KEKs must wrap a data key before it seals.
type Recipients uint8

const (
	// AllRecipients seals under every KEK or not at all: an envelope that misses a
	// recipient would be found out only in the disaster that the recipient is
	// there for.
	AllRecipients Recipients = iota
	// PrimaryRecipient seals as soon as the first KEK wraps, without those that
	// fail or that have not answered primaryGrace later. Envelopes show by what
	// they lack that it happened, and SealerConfig.MissingRecipient is told.
	PrimaryRecipient
)

const (
	// primaryGrace is how long after the first KEK the others may answer. Farther
	// regions take some 300 ms; callers have seconds in all.
	primaryGrace = time.Second
	// tellingGrace is how long after a KEK's failure that waiting may cure the others
	// may fail in a worse way, where all must wrap. There is nothing else to wait for.
	tellingGrace = time.Second
	// incompleteAge is how long a data key seals that lacks a recipient. However far
	// its sharing is meant to go, a KEK that fails for a moment should not be
	// missing from all that follows in the next minutes; and while it is out, one
	// wrap in so many seconds costs the others little.
	incompleteAge = 5 * time.Second
)

// answer is what one KEK made of a batch of data keys.
type answer struct {
	kek     int // which one
	wrapped []kms.Wrapped
	err     error
}

// pending is which KEKs a wrap waits for.
type pending struct {
	mu     sync.Mutex
	keyIDs []string
}

func (p *pending) set(keyIDs []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keyIDs = slices.Clone(keyIDs)
}

func (p *pending) remove(keyID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keyIDs = slices.DeleteFunc(p.keyIDs, func(id string) bool { return id == keyID })
}

// first returns the first KEK that is waited for, empty if there is none.
func (p *pending) first() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keyIDs) == 0 {
		return ""
	}
	return p.keyIDs[0]
}

// wrap makes n data keys and wraps them under the KEKs, all KEKs at the same time.
func (s *Sealer) wrap(n int, ec kms.Context, pending *pending) ([]*sealingKey, error) {
	keys := make([]*sealingKey, n)
	for i := range keys {
		keys[i] = &sealingKey{key: newDataKey()}
	}
	answers := make(chan answer, len(s.cfg.Keys))
	for i := range s.cfg.Keys {
		s.ask(i, keys, ec, answers)
	}
	pending.set(s.keyIDs)
	defer pending.set(nil)
	got, err := s.collect(answers, pending)
	if err != nil {
		for _, k := range keys {
			k.key.wipe()
		}
		return nil, fmt.Errorf("envelope: wrap data key: %w", err)
	}
	// Age counts from here: keys that a slow KMS returns past their age would be
	// thrown away unused, and asked for again, for ever.
	life, grace, missing := s.cfg.Limits.MaxAge, s.cfg.Limits.SealGrace, s.missing(got)
	if missing != nil {
		// What is sealed under the one KEK that is out, and would be lost with it, is
		// what the missing recipient was named to prevent.
		life, grace = min(life, incompleteAge), 0
	}
	until := time.Now().Add(life)
	for i, k := range keys {
		k.until, k.graceUntil, k.missing = until, until.Add(grace), missing
		s.record(k, i, got)
	}
	if s.cfg.Opener != nil {
		for _, k := range keys {
			s.cfg.Opener.learn(kekOf(s.cfg.Keys[0]), k.recipients[0].WrappedKey, ec, k.key)
		}
	}
	return keys, nil
}

// ask has one KEK wrap keys, in a goroutine that Close waits for. It works on
// copies of its own: nobody may be waiting for the answer any more when it comes,
// and the keys be wiped. It is not cut short then either: what the KMS is like is
// for the key's own timeout and breaker to find out.
func (s *Sealer) ask(kek int, keys []*sealingKey, ec kms.Context, answers chan<- answer) {
	secret := make([]byte, len(keys)*kms.DataKeySize)
	plain := make([][]byte, len(keys))
	erase.Do(func() {
		for i, k := range keys {
			plain[i] = secret[i*kms.DataKeySize:][:kms.DataKeySize:kms.DataKeySize]
			copy(plain[i], k.key.b[:])
		}
	})
	key := s.cfg.Keys[kek]
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.WrapTimeout)
		defer cancel()
		a := answer{kek: kek, err: &kms.Error{Op: "wrap", KeyID: key.ID(), Detail: "the backend ended its goroutine"}}
		defer func() {
			clear(secret)
			answers <- a
		}()
		a.wrapped, a.err = callWrap(ctx, key, plain, ec)
		if a.err != nil {
			a.err = s.explain(ctx, key.ID(), a.err)
		}
	})
}

// collect waits for as many answers as are needed. It returns one for each KEK,
// nil for one that is missing.
func (s *Sealer) collect(answers <-chan answer, pending *pending) ([]*answer, error) {
	got := make([]*answer, len(s.cfg.Keys))
	optional := s.cfg.Recipients == PrimaryRecipient
	var failed error // of a KEK that must wrap
	var graceOver <-chan time.Time
	for waiting := len(got); waiting > 0; {
		select {
		case a := <-answers:
			waiting--
			got[a.kek] = &a
			pending.remove(s.keyIDs[a.kek])
			grace := primaryGrace
			switch {
			case optional && a.kek > 0:
				continue
			case a.err != nil && (optional || !kms.ClassOf(a.err).Transient()):
				return nil, a.err // whatever the others say
			case a.err != nil && failed == nil:
				failed, grace = a.err, tellingGrace
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

// record makes the recipients of k, the i-th of its batch, in the order of the KEKs.
func (s *Sealer) record(k *sealingKey, i int, got []*answer) {
	for kek, a := range got {
		if a == nil || a.err != nil {
			continue
		}
		versioned := kms.VersionedID(s.keyIDs[kek], a.wrapped[i].Version)
		recipient := format.Recipient{WrappedKey: a.wrapped[i].Blob}
		if !s.cfg.NamedByContainer {
			recipient.KeyID = versioned
		}
		k.keyIDs = append(k.keyIDs, versioned)
		k.recipients = append(k.recipients, recipient)
	}
}

// callWrap calls the KMS and checks that its answers can be recorded.
func callWrap(ctx context.Context, kek kms.Key, plain [][]byte, ec kms.Context) (wrapped []kms.Wrapped, err error) {
	defer recovered("wrap", kek, &err)
	erase.Call(func() { wrapped, err = kek.Wrap(ctx, plain, ec) })
	if err != nil {
		return nil, err
	}
	if len(wrapped) != len(plain) {
		return nil, &kms.Error{Op: "wrap", KeyID: kek.ID(), Detail: fmt.Sprintf("%d wrapped keys for %d data keys", len(wrapped), len(plain))}
	}
	for _, w := range wrapped {
		r := format.Recipient{KeyID: kms.VersionedID(kek.ID(), w.Version), WrappedKey: w.Blob}
		if format.ValidateRecipients([]format.Recipient{r}) != nil || strings.Contains(w.Version, "@") {
			return nil, &kms.Error{
				Op: "wrap", KeyID: kek.ID(), Detail: "a wrapped key of a size or version that cannot be recorded",
				Advice: "this is a bug in the backend: please report it",
			}
		}
	}
	return wrapped, nil
}

// explain turns the end of our own timeout, which no caller asked for, into
// what it means: the KMS did not answer.
func (s *Sealer) explain(ctx context.Context, keyID string, err error) error {
	if s.ctx.Err() != nil {
		return &kms.Error{Op: "wrap", Detail: "the sealer is closed", Err: ErrClosed}
	}
	if kms.ClassOf(err) == kms.Canceled && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &kms.Error{
			Class: kms.Unavailable, Op: "wrap", KeyID: keyID, Detail: fmt.Sprintf("no answer within %s", s.cfg.WrapTimeout),
			Advice: "check that the KMS is up and reachable from here", Err: err,
		}
	}
	return err
}
