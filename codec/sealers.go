package codec

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// maxSealers bounds how many Sealers are kept: one for each rule, or one for each rule and
// namespace if a key URI is a template.
const maxSealers = 4096

// unopenedPatience and unopenedFor apply if a rule seals without keys that cannot wrap, and one
// of them cannot be opened. Opening it may take as long as a wrap may. The Sealer made without
// it serves for as long as one of its data keys would without that recipient; then a new Sealer
// tries again.
const (
	unopenedPatience = time.Second
	unopenedFor      = 5 * time.Second
)

// madeSealer is a Sealer, and when to make it anew: never if until is zero.
type madeSealer struct {
	*envelope.Sealer
	until time.Time
}

func (m madeSealer) good() bool { return m.until.IsZero() || time.Now().Before(m.until) }

// unopenedKey stands for a KEK that could not be opened. It wraps nothing, so its ID is never
// recorded.
type unopenedKey struct {
	name string
	err  error
}

// ID implements kms.Key.
func (k unopenedKey) ID() string { return "unopened://" + k.name }

// Wrap implements kms.Key.
func (k unopenedKey) Wrap(context.Context, [][]byte, kms.Context) ([]kms.Wrapped, error) {
	return nil, k.err
}

// Unwrap implements kms.Key.
func (k unopenedKey) Unwrap(context.Context, []kms.Wrapped, kms.Context) ([]kms.Unwrapped, error) {
	return nil, k.err
}

type sealerID struct {
	rule      int
	namespace string
}

// sealers makes and keeps the Sealers of the policy's rules.
type sealers struct {
	policy   *policy.Policy
	keys     *keyset.Set
	opener   *envelope.Opener
	watchers *watchers

	mu     sync.Mutex
	byRule *simplelru.LRU[sealerID, madeSealer]
	closed bool
	// ending counts Sealers being closed. Closing one waits for its KMS, and must not happen
	// under mu: all others would wait too.
	ending sync.WaitGroup
}

func newSealers(p *policy.Policy, keys *keyset.Set, opener *envelope.Opener, w *watchers) *sealers {
	s := &sealers{policy: p, keys: keys, opener: opener, watchers: w}
	// It fails only for a size below one.
	s.byRule, _ = simplelru.NewLRU(maxSealers, func(_ sealerID, sealer madeSealer) { s.ending.Go(sealer.Close) })
	return s
}

// seal seals with the rule's Sealer. It makes a new one if the Sealer was evicted meanwhile.
func (s *sealers) seal(ctx context.Context, rule *policy.Rule, claims envelope.Claims, plaintexts [][]byte) ([]envelope.Sealed, error) {
	for {
		sealer, err := s.forRule(ctx, rule, claims.Namespace)
		if err != nil {
			return nil, err
		}
		sealed, err := sealer.Seal(ctx, claims, plaintexts...)
		if !errors.Is(err, envelope.ErrClosed) {
			return sealed, err
		}
	}
}

func (s *sealers) forRule(ctx context.Context, rule *policy.Rule, namespace string) (*envelope.Sealer, error) {
	id := sealerID{rule: rule.Index}
	for _, name := range rule.Keys {
		if s.policy.Keys[name].Templated() {
			id.namespace = namespace
		}
	}
	s.mu.Lock()
	sealer, ok := s.byRule.Get(id)
	s.mu.Unlock()
	if ok && sealer.good() {
		return sealer.Sealer, nil
	}
	keks, complete, err := s.keysFor(ctx, rule, namespace)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(keks))
	for i, kek := range keks {
		names[kek.ID()] = rule.Keys[i]
	}
	recipients := envelope.AllRecipients
	if rule.Recipients == policy.RecipientsPrimary {
		recipients = envelope.PrimaryRecipient
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, keyset.Closed("seal payload")
	}
	if sealer, ok := s.byRule.Get(id); ok && sealer.good() {
		return sealer.Sealer, nil
	}
	made := madeSealer{}
	if !complete {
		made.until = time.Now().Add(unopenedFor)
	}
	made.Sealer, err = envelope.NewSealer(envelope.SealerConfig{
		Keys: keks, Recipients: recipients,
		MissingRecipient: func(keyID string, class kms.Class, n int) { s.watchers.missingRecipient(names[keyID], class, n) },
		SealedInGrace:    func(keyID string, class kms.Class, n int) { s.watchers.sealedInGrace(names[keyID], class, n) },
		Limits: envelope.DataKeyLimits{
			MaxPayloads: rule.DataKey.MaxPayloads, MaxAge: rule.DataKey.MaxAge, MaxBytes: rule.DataKey.MaxBytes,
			SealGrace: rule.DataKey.SealGrace,
		},
		Compress:         rule.Compression == "zstd",
		NamedByContainer: true,
		Opener:           s.opener,
		WrapTimeout:      kmsTimeout(s.policy, envelope.DefaultWrapTimeout),
	})
	if err != nil {
		return nil, fmt.Errorf("codec: rule %d: %w", rule.Index+1, err)
	}
	s.byRule.Remove(id) // Add would replace one that is past its time without closing it
	s.byRule.Add(id, made)
	return made.Sealer, nil
}

// keysFor opens the KEKs of a rule, all at the same time, and returns them in order. If one
// cannot be opened, that is an error, unless the rule seals without keys that cannot wrap: then
// complete is false.
func (s *sealers) keysFor(ctx context.Context, rule *policy.Rule, namespace string) (keks []kms.Key, complete bool, err error) {
	keks = make([]kms.Key, len(rule.Keys))
	errs := make([]error, len(rule.Keys))
	required := func(i int) bool { return i == 0 || rule.Recipients != policy.RecipientsPrimary }
	needed, failed := context.WithCancel(ctx)
	defer failed()
	hurried, cancel := context.WithTimeout(needed, unopenedPatience)
	defer cancel()
	var wg sync.WaitGroup
	for i, name := range rule.Keys {
		wg.Go(func() {
			if !required(i) {
				keks[i], errs[i] = s.keys.Named(hurried, name, namespace)
				return
			}
			if keks[i], errs[i] = s.keys.Named(needed, name, namespace); errs[i] != nil {
				failed()
			}
		})
	}
	wg.Wait()
	complete = true
	for i, name := range rule.Keys {
		switch {
		case errs[i] == nil:
		case !required(i):
			if ctx.Err() == nil && kms.ClassOf(errs[i]) == kms.Canceled {
				errs[i] = keyset.NoAnswer(name, unopenedPatience, errs[i])
			}
			keks[i], complete = unopenedKey{name, errs[i]}, false
		case err == nil || kms.ClassOf(err) == kms.Canceled: // because another one failed
			err = errs[i]
		}
	}
	if err != nil {
		return nil, false, err
	}
	return keks, complete, nil
}

func (s *sealers) close() {
	s.mu.Lock()
	s.closed = true
	s.byRule.Purge()
	s.mu.Unlock()
	s.ending.Wait()
}

// drain drops the data keys of all Sealers.
func (s *sealers) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, made := range s.byRule.Values() {
		made.Drain()
	}
}

// kmsTimeout returns how long KMSs have for a wrap or an unwrap with all its attempts: usual,
// but always enough for one attempt to reach its own timeout. Otherwise the key's breaker would
// never learn that its KMS hangs.
func kmsTimeout(p *policy.Policy, usual time.Duration) time.Duration {
	for _, key := range p.Keys {
		usual = max(usual, key.Resilience.Timeout*3/2)
	}
	return usual
}
