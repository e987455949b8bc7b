package envelope

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

const (
	// DefaultStale is that of OpenerConfig.Stale.
	DefaultStale = time.Hour
	// DefaultUnwrapTimeout is that of OpenerConfig.UnwrapTimeout.
	DefaultUnwrapTimeout = 10 * time.Second

	defaultCacheEntries = 10_000
	defaultFresh        = 5 * time.Minute
	// defaultFailoverAfter is many times what a healthy KMS takes.
	defaultFailoverAfter = time.Second
	// negativeFor is how long a failed unwrap is remembered, for bursts of readers.
	negativeFor = 5 * time.Second
	// cacheJitter spreads the refreshes of data keys that were cached together.
	cacheJitter = 0.1
)

// OpenerConfig says how an Opener opens.
type OpenerConfig struct {
	// Keys is required. It returns the KEKs that may be called for each envelope, in order. Open calls it once, with
	// all envelopes that may need one. Keys must answer from configuration alone, since a Wanted may be forged.
	// StaticKeys returns one for programs with the same KEKs for all envelopes.
	Keys func(ctx context.Context, wanted []Wanted) []Found
	// CacheEntries is how many unwrapped data keys are kept; 10,000 if zero.
	CacheEntries int
	// Fresh is how long a data key serves without another KMS call, ±10 %; 5 min if
	// zero. Revoking a KEK takes effect within this time.
	Fresh time.Duration
	// Stale is how much longer it serves while the KMS is unavailable or throttles;
	// DefaultStale if zero, off if negative.
	Stale time.Duration
	// UnwrapTimeout bounds one unwrap of a batch; DefaultUnwrapTimeout if zero.
	UnwrapTimeout time.Duration
	// FailoverAfter is how long one recipient's KEK may take before the next one is called as well; 1 s if zero, and no
	// more than half of what is left until the caller's deadline. After a failure the next one is called at once.
	FailoverAfter time.Duration
	// MaxPlaintext bounds a plaintext in bytes after decompression, format.MaxPlaintext if zero.
	MaxPlaintext int
	// Observer counts what the data-key cache does, for metrics; optional. It must not block.
	Observer cache.Observer
}

// Opener opens envelopes through a cache of unwrapped data keys, which Close wipes. It is safe for concurrent use.
type Opener struct {
	cfg      OpenerConfig
	expander *expander
	cache    *cache.Cache[cacheKey, *dataKey]
}

// Item is one envelope to open.
type Item struct {
	// Envelope is what Sealer.Seal returned.
	Envelope []byte
	// KeyIDs name the recipients' keys, in order, if the container and not the envelope names them; nil otherwise.
	KeyIDs []string
	// Reader is the namespace that the envelope is opened in, empty if unknown. Only OpenerConfig.Keys uses it.
	Reader string
	// Accept, if set, is called once the envelope is parsed and before any KEK is looked for: an error refuses the
	// envelope. The claims are not proven at that point; an envelope with altered claims fails later.
	Accept func(Claims) error
	// Room, if set, reports whether the caller has room for a plaintext of size bytes. After one refusal Open
	// decompresses no further item that has a Room: each fails with ErrNoRoom. An envelope of a kilobyte can hold
	// format.MaxPlaintext bytes, so a caller that opens what strangers send gives all items one Room that adds up. One
	// Open never calls it concurrently.
	Room func(size int) bool
}

// Opened is the outcome for one Item: the plaintext, or an error.
type Opened struct {
	Plaintext []byte
	// Claims and KeyIDs are what the envelope says, as far as it could be parsed; proven only when Err is nil.
	Claims Claims
	KeyIDs []string
	Err    error
}

// NewOpener returns an Opener, or an error that lists everything wrong with cfg.
func NewOpener(cfg OpenerConfig) (*Opener, error) {
	if cfg.Keys == nil {
		return nil, errors.New("envelope: new opener: Keys is required")
	}
	cfg.CacheEntries = cmp.Or(cfg.CacheEntries, defaultCacheEntries)
	cfg.Fresh = cmp.Or(cfg.Fresh, defaultFresh)
	cfg.Stale = max(cmp.Or(cfg.Stale, DefaultStale), 0)
	cfg.UnwrapTimeout = cmp.Or(cfg.UnwrapTimeout, DefaultUnwrapTimeout)
	cfg.MaxPlaintext = cmp.Or(cfg.MaxPlaintext, format.MaxPlaintext)
	cfg.FailoverAfter = cmp.Or(cfg.FailoverAfter, defaultFailoverAfter)
	if cfg.FailoverAfter < 0 {
		return nil, errors.New("envelope: new opener: FailoverAfter must not be negative")
	}
	if cfg.MaxPlaintext < 0 || cfg.MaxPlaintext > format.MaxPlaintext {
		return nil, fmt.Errorf("envelope: new opener: MaxPlaintext must be up to %d", format.MaxPlaintext)
	}
	c, err := cache.New[cacheKey](cache.Config[*dataKey]{
		MaxEntries: cfg.CacheEntries, Fresh: cfg.Fresh, Stale: cfg.Stale, Jitter: cacheJitter,
		NegativeFor: negativeFor, LoadTimeout: cfg.UnwrapTimeout,
		Classify: verdict, Wipe: (*dataKey).wipe, Observer: cfg.Observer,
	})
	if err != nil {
		return nil, fmt.Errorf("envelope: new opener: %w", err)
	}
	x, err := newExpander(cfg.MaxPlaintext)
	if err != nil {
		return nil, err
	}
	return &Opener{cfg: cfg, expander: x, cache: c}, nil
}

// verdict is the table of what a failed unwrap means for a data key in the cache.
func verdict(err error) cache.Verdict {
	switch kms.ClassOf(err) {
	case kms.Unavailable, kms.Throttled:
		if errors.Is(err, kms.ErrNotAsked) {
			return cache.ServeStaleOnce
		}
		return cache.ServeStale
	case kms.Denied, kms.Disabled, kms.NotFound, kms.Corrupt:
		return cache.Evict
	case kms.Canceled, kms.Internal, kms.Invalid:
		return cache.Fail
	default:
		return cache.Fail
	}
}

// remember puts a data key that was just wrapped into the cache.
func (o *Opener) remember(of kek, blob []byte, ec kms.Context, key *dataKey) {
	own := key.clone()
	own.proven.Store(true)
	o.cache.Put(cacheKeyOf(of, blob, ec.AssociatedData()), own).Release()
}

// Close cancels unwraps under way, waits for them, and wipes the cache.
func (o *Opener) Close() { o.cache.Close() }

// Open opens each item and returns one Opened for each, in order. It unwraps data
// keys that are not cached together, with one call for each KEK and encryption context.
//
// An envelope opens without a KMS if the data key of any recipient is fresh in the cache. Otherwise Open tries the
// recipients in order, but last those with a kms.Availability and not available. It tries the next one when one fails,
// and also when one has not answered within FailoverAfter. The first that opens the envelope wins. A stale data key
// serves only if no other recipient has opened the envelope within FailoverAfter, so that a revoked key opens no longer
// than necessary, or if ctx ends before a KEK that was called has answered.
//
// Of several recipients with one KEK only the first counts. No Sealer makes such
// envelopes, and a forger must not multiply the calls of a KEK.
//
// Classes: Corrupt for an envelope that is malformed, altered or cut short; Denied, with ErrNotConfigured in the chain,
// for one under keys that are not configured, or the error of OpenerConfig.Keys; Canceled if ctx ended; otherwise that
// of a KMS, of several recipients a transient one if there is any.
func (o *Opener) Open(ctx context.Context, items ...Item) []Opened {
	return o.open(ctx, items, false)
}

// open opens each item, or with keyOnly only gets its data key into the cache.
func (o *Opener) open(ctx context.Context, items []Item, keyOnly bool) []Opened {
	out := make([]Opened, len(items))
	parsed := make([]*opening, 0, len(items))
	full := new(bool)
	for i := range items {
		if p := prepare(&items[i], &out[i]); p != nil {
			p.keyOnly, p.full = keyOnly, full
			parsed = append(parsed, p)
		}
	}
	o.findKeys(ctx, parsed)
	var rest []*opening
	for _, p := range parsed {
		if !p.done && !o.fromCache(p) {
			rest = append(rest, p)
		}
	}
	if len(rest) > 0 {
		newRace(ctx, o).run(rest)
	}
	return out
}

// prepare does what needs no key. It returns nil if the item is done then.
func prepare(item *Item, out *Opened) *opening {
	env, err := format.Parse(item.Envelope)
	if err != nil {
		out.Err = corrupt(err.Error(), err)
		return nil
	}
	out.Claims = ClaimsOf(env.Header)
	if out.KeyIDs, err = env.KeyIDs(item.KeyIDs); err != nil {
		out.Err = corrupt(err.Error(), err)
		return nil
	}
	if item.Accept != nil {
		if out.Err = item.Accept(out.Claims); out.Err != nil {
			return nil
		}
	}
	p := &opening{out: out, env: env, room: item.Room, ec: out.Claims.EncryptionContext(), wanted: Wanted{Namespace: out.Claims.Namespace, Reader: item.Reader}}
	for _, id := range out.KeyIDs {
		id, _ = kms.SplitVersionedID(id)
		p.wanted.KEKs = append(p.wanted.KEKs, id)
	}
	return p
}

// findKeys finds the candidates of each item, and ends those that have none.
func (o *Opener) findKeys(ctx context.Context, items []*opening) {
	if len(items) == 0 {
		return
	}
	wanted := make([]Wanted, len(items))
	for i, p := range items {
		wanted[i] = p.wanted
	}
	found := o.cfg.Keys(ctx, wanted)
	for i, p := range items {
		if len(found) != len(items) {
			p.finish(nil, openError(kms.Internal, "", fmt.Sprintf("Keys answered %d times for %d envelopes", len(found), len(items)),
				"this is a bug in the calling program", nil))
			continue
		}
		p.addCandidates(found[i])
	}
}

// decompress turns what was decrypted into the plaintext.
func (o *Opener) decompress(p *opening, decrypted []byte, err error) ([]byte, error) {
	compression := p.env.Header.Compression
	switch {
	case err != nil:
		return nil, corrupt(err.Error(), err)
	case compression == format.CompressionNone && len(decrypted) > o.cfg.MaxPlaintext:
		return nil, corrupt("the plaintext is larger than allowed", nil)
	case p.room != nil && *p.full:
		clear(decrypted)
		return nil, errNoRoom()
	}
	plaintext, err := o.expander.expand(decrypted, compression)
	if err == nil && p.room != nil && !p.room(len(plaintext)) {
		*p.full = true
		clear(plaintext)
		return nil, errNoRoom()
	}
	return plaintext, err
}
