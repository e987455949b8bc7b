package envelope

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/klauspost/compress/zstd"

	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

const (
	// maxPools bounds for how many encryption contexts a Sealer keeps data keys; the
	// least recently used pool is evicted.
	maxPools = 1024

	// DefaultWrapTimeout is that of SealerConfig.WrapTimeout.
	DefaultWrapTimeout = 10 * time.Second
)

// SealerConfig says how a Sealer seals. Keys is required.
type SealerConfig struct {
	// Keys become the recipients, in this order: any one of them opens what the
	// Sealer seals. 1 to 8, with distinct IDs.
	Keys []kms.Key
	// Recipients says which of them must wrap.
	Recipients Recipients
	// MissingRecipient, if set, is called after a Seal with the number of envelopes that lack the recipient of a KEK
	// (its ID, without version), and how that KEK failed; with PrimaryRecipient only. It must not block.
	MissingRecipient func(keyID string, class kms.Class, n int)
	// Limits says how far a data key is shared.
	Limits DataKeyLimits
	// SealedInGrace, if set, is called after a Seal with the number of envelopes sealed
	// under data keys past their age (DataKeyLimits.SealGrace), the KEK (its ID, without
	// version) that gave no new ones, and how it failed. It must not block.
	SealedInGrace func(keyID string, class kms.Class, n int)
	// Compress tries zstd before sealing and keeps the result if it is smaller. The length of a compressed envelope
	// reveals something about its content: leave it off where an attacker can choose part of a plaintext.
	Compress bool
	// NamedByContainer leaves the key IDs out of the envelopes; the caller keeps
	// Sealed.KeyIDs beside each envelope and passes them to Opener.Open.
	NamedByContainer bool
	// Opener, if set, caches each new data key, so that it opens what is sealed here without a KMS call.
	Opener *Opener
	// WrapTimeout bounds one wrap of a batch of data keys, all recipients together and
	// retries of the KMS key included; DefaultWrapTimeout if zero.
	WrapTimeout time.Duration
}

// Sealer seals plaintexts into envelopes. It is safe for concurrent use and never mutates or retains plaintexts.
type Sealer struct {
	cfg    SealerConfig
	keyIDs []string
	zstd   *zstd.Encoder // shared by the process; nil if cfg.Compress is off

	ctx    context.Context // of wrap calls; ends when the Sealer is closed
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	pools *simplelru.LRU[cacheKey, *pool]
}

// Sealed is one sealed plaintext.
type Sealed struct {
	// Envelope is the sealed form, in the format of package format.
	Envelope []byte
	// KeyIDs are the recipients' KEKs in order without the missing ones, each with "@version" where the KMS reports it.
	KeyIDs []string
}

// NewSealer returns a Sealer, or an error that lists everything wrong with cfg.
// Close it to wipe the data keys it holds.
func NewSealer(cfg SealerConfig) (*Sealer, error) {
	cfg.Limits = cfg.Limits.withDefaults()
	cfg.WrapTimeout = cmp.Or(cfg.WrapTimeout, DefaultWrapTimeout)
	var problems []error
	if len(cfg.Keys) == 0 || len(cfg.Keys) > format.MaxRecipients {
		problems = append(problems, fmt.Errorf("1 to %d keys are needed, got %d", format.MaxRecipients, len(cfg.Keys)))
	}
	seen := make(map[string]bool, len(cfg.Keys))
	var ids []string
	for _, k := range cfg.Keys {
		if err := kms.CheckID(k.ID()); err != nil {
			problems = append(problems, err)
		}
		if seen[k.ID()] {
			problems = append(problems, fmt.Errorf("key %s is named twice", k.ID()))
		}
		seen[k.ID()] = true
		ids = append(ids, k.ID())
	}
	if cfg.Recipients > PrimaryRecipient {
		problems = append(problems, fmt.Errorf("unknown Recipients %d", cfg.Recipients))
	}
	problems = append(problems, cfg.Limits.validate())
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("envelope: new sealer: %w", err)
	}
	s := &Sealer{cfg: cfg, keyIDs: ids}
	if cfg.Compress {
		var err error
		if s.zstd, err = encoder(); err != nil {
			return nil, err
		}
	}
	s.pools, _ = simplelru.NewLRU(maxPools, func(_ cacheKey, p *pool) { p.evict() }) // it fails only for a size below one
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// KeyIDs returns the IDs of its KEKs, in recipient order, without versions.
func (s *Sealer) KeyIDs() []string { return slices.Clone(s.keyIDs) }

// Seal seals each plaintext (at most format.MaxPlaintext bytes) under claims, in order. It is all or nothing: any error
// means that nothing was sealed. The error's Class is that of the KMS, Canceled if ctx ended first, and Internal for
// claims or sizes out of bounds.
func (s *Sealer) Seal(ctx context.Context, claims Claims, plaintexts ...[]byte) ([]Sealed, error) {
	header, err := claims.header(format.CompressionNone)
	if err != nil {
		return nil, err
	}
	sizes := make([]int, len(plaintexts))
	for i, p := range plaintexts {
		if len(p) > format.MaxPlaintext {
			return nil, &kms.Error{
				Op: "seal", Detail: fmt.Sprintf("a plaintext of %d bytes is over the limit of %d", len(p), format.MaxPlaintext),
				Advice: "split it, or store it elsewhere and seal a reference",
			}
		}
		sizes[i] = len(p)
	}
	if len(plaintexts) == 0 {
		return []Sealed{}, ctx.Err()
	}
	p, got, err := s.take(ctx, claims, sizes)
	if err != nil {
		return nil, err
	}
	keys := got.keys
	defer p.release(keys)
	out := make([]Sealed, len(plaintexts))
	for i, plaintext := range plaintexts {
		h := header
		if s.zstd != nil {
			plaintext, h.Compression = squeeze(s.zstd, plaintext)
		}
		b, err := format.Seal(keys[i].key.b[:], keys[i].recipients, h, plaintext)
		if err != nil {
			return nil, fmt.Errorf("envelope: seal: %w", err)
		}
		out[i] = Sealed{Envelope: b, KeyIDs: keys[i].keyIDs}
	}
	s.reportMissing(keys)
	if got.aged > 0 && s.cfg.SealedInGrace != nil {
		s.cfg.SealedInGrace(got.cause.keyID, got.cause.class, got.aged)
	}
	return out, nil
}

// reportMissing reports the recipients that envelopes sealed under keys lack.
func (s *Sealer) reportMissing(keys []*sealingKey) {
	if s.cfg.MissingRecipient == nil || s.cfg.Recipients == AllRecipients {
		return
	}
	var envelopes map[failure]int
	for _, k := range keys {
		for _, m := range k.missing {
			if envelopes == nil {
				envelopes = make(map[failure]int)
			}
			envelopes[m]++
		}
	}
	for m, n := range envelopes {
		s.cfg.MissingRecipient(m.keyID, m.class, n)
	}
}

func (s *Sealer) take(ctx context.Context, claims Claims, sizes []int) (*pool, grant, error) {
	for {
		p, err := s.poolFor(claims.EncryptionContext())
		if err != nil {
			return nil, grant{}, err
		}
		got, err := p.take(ctx, sizes)
		if errors.Is(err, ErrClosed) && s.ctx.Err() == nil {
			continue // the pool was evicted just now
		}
		return p, got, err
	}
}

func (s *Sealer) poolFor(ec kms.Context) (*pool, error) {
	id := cacheKeyOf(kek{}, nil, ec.AssociatedData())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, &kms.Error{Op: "seal", Detail: "the sealer is closed", Err: ErrClosed}
	}
	if p, ok := s.pools.Get(id); ok {
		return p, nil
	}
	p := &pool{
		stock:      stock{limits: s.cfg.Limits},
		wrap:       func(n int, first *pending) ([]*sealingKey, error) { return s.wrap(n, ec, first) },
		background: func(f func()) { s.work.Go(f) },
	}
	s.pools.Add(id, p)
	return p, nil
}

// Drain drops every data key, so that all that is sealed from now on is sealed
// under new ones, wrapped by the KEKs' current versions.
func (s *Sealer) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools.Values() {
		p.drain()
	}
}

// Close waits for wrap calls under way and wipes the data keys. Seal fails with ErrClosed afterwards.
func (s *Sealer) Close() {
	s.mu.Lock()
	s.cancel()
	for _, p := range s.pools.Values() {
		p.close()
	}
	s.pools.Purge()
	s.mu.Unlock()
	s.work.Wait()
}
