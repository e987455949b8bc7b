package codec

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// maxSealers bounds how many Sealers are kept: one for each rule, and one for
// each rule and namespace where a key URI is a template.
const maxSealers = 4096

type sealerID struct {
	rule      int
	namespace string
}

// sealers makes and keeps the Sealers that rules ask for.
type sealers struct {
	keys   *keyring
	opener *envelope.Opener

	mu     sync.Mutex
	byRule *simplelru.LRU[sealerID, *envelope.Sealer]
	closed bool
	// ending counts Sealers being closed. Closing one waits for its KMS, which
	// must not happen under mu: all the others would wait with it.
	ending sync.WaitGroup
}

func newSealers(keys *keyring, opener *envelope.Opener) *sealers {
	s := &sealers{keys: keys, opener: opener}
	var err error
	s.byRule, err = simplelru.NewLRU(maxSealers, func(_ sealerID, sealer *envelope.Sealer) { s.ending.Go(sealer.Close) })
	if err != nil {
		panic("codec: " + err.Error()) //nolint:forbidigo // cannot be: only a size below one is an error
	}
	return s
}

// seal seals with the rule's Sealer. One that was put out for being the least
// recently used is made anew.
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
		if s.keys.policy.Keys[name].Templated() {
			id.namespace = namespace
		}
	}
	s.mu.Lock()
	sealer, ok := s.byRule.Get(id)
	s.mu.Unlock()
	if ok {
		return sealer, nil
	}
	keks := make([]kms.Key, len(rule.Keys))
	for i, name := range rule.Keys {
		var err error
		if keks[i], err = s.keys.named(ctx, name, namespace); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed("seal payload")
	}
	if sealer, ok := s.byRule.Get(id); ok {
		return sealer, nil
	}
	sealer, err := envelope.NewSealer(envelope.SealerConfig{
		Keys: keks,
		Limits: envelope.DataKeyLimits{
			MaxPayloads: rule.DataKey.MaxPayloads, MaxAge: rule.DataKey.MaxAge, MaxBytes: rule.DataKey.MaxBytes,
		},
		Compress:         rule.Compression == "zstd",
		NamedByContainer: true,
		Opener:           s.opener,
	})
	if err != nil {
		return nil, fmt.Errorf("codec: rule %d: %w", rule.Index+1, err)
	}
	s.byRule.Add(id, sealer)
	return sealer, nil
}

func (s *sealers) close() {
	s.mu.Lock()
	s.closed = true
	s.byRule.Purge()
	s.mu.Unlock()
	s.ending.Wait()
}
