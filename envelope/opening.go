package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/cache"
	"github.com/waxseal/waxseal/envelope/format"
	"github.com/waxseal/waxseal/kms"
)

// candidate is one recipient with a configured KEK.
type candidate struct {
	key  kms.Key
	kek  kek
	blob []byte
	id   cacheKey
}

// opening is an item in progress.
type opening struct {
	out     *Opened
	env     *format.Envelope
	ec      kms.Context
	wanted  Wanted
	left    []candidate // not tried yet, in order
	pending []kek       // lookups that have not arrived, in the order of their start
	errs    []error
	done    bool
	keyOnly bool // Warm wants the data key and no plaintext
	// room is that of the Item. full, shared by the openings of one Open, is set once any
	// Room refused a plaintext; only the caller's goroutine uses both.
	room func(size int) bool
	full *bool

	// stale is a data key past its fresh lifetime, in case no recipient opens p.
	stale     *cache.Ref[*dataKey]
	staleFrom candidate
}

// addCandidates makes candidates of the keys that were found, one for each KEK, and ends p if there are none.
func (p *opening) addCandidates(found Found) {
	if found.Err != nil {
		p.errs = append(p.errs, found.Err)
	}
	ad := p.ec.AssociatedData()
	for i, id := range p.wanted.KEKs {
		for _, key := range found.Keys {
			if key.ID() != id {
				continue
			}
			of := kekOf(key)
			if slices.ContainsFunc(p.left, func(c candidate) bool { return c.kek == of }) {
				continue
			}
			blob := bytes.Clone(p.env.Recipients[i].WrappedKey) // an unwrap outlives its caller, and the envelope is the caller's
			p.left = append(p.left, candidate{key: key, kek: of, blob: blob, id: cacheKeyOf(of, blob, ad)})
		}
	}
	switch {
	case len(p.left) > 0:
	case found.Err != nil:
		p.fail()
	default:
		p.finish(nil, openError(kms.Denied, p.wanted.KEKs[0], "the envelope is sealed under a key that is not configured here",
			"if that key may open it, add it to keys in the configuration; no KMS was asked", ErrNotConfigured))
	}
}

// fromCache opens p with a data key of any recipient that is fresh in the cache, and reports whether p is done.
func (o *Opener) fromCache(p *opening) bool {
	all := p.left
	p.left = nil
	for i, c := range all {
		ref := o.cache.Fresh(c.id)
		if ref == nil {
			p.left = append(p.left, c)
			continue
		}
		if o.use(p, c, ref) {
			return true
		}
		if i == len(all)-1 && len(p.left) == 0 {
			p.fail()
			return true
		}
	}
	p.left = availableFirst(p.left)
	return false
}

// availableFirst moves candidates of a KMS that is known to be out behind the others.
func availableFirst(all []candidate) []candidate {
	if len(all) < 2 {
		return all
	}
	var first, last []candidate
	for _, c := range all {
		if a, ok := kms.As[kms.Availability](c.key); ok && !a.Available() {
			last = append(last, c)
		} else {
			first = append(first, c)
		}
	}
	return append(first, last...)
}

// use tries a data key on p, releases it, and reports whether p is done. It is not if
// the envelope does not commit to that key.
func (o *Opener) use(p *opening, c candidate, ref *cache.Ref[*dataKey]) bool {
	defer ref.Release()
	key := ref.Value()
	if p.keyOnly && p.env.CommitsTo(key.b[:]) {
		key.proven.Store(true)
		p.finish(nil, nil)
		return true
	}
	plaintext, err := p.env.Open(key.b[:])
	if !errors.Is(err, format.ErrCommitment) {
		key.proven.Store(true)
		plaintext, err = o.decompress(p, plaintext, err)
		p.finish(plaintext, err)
		return true
	}
	// Either the envelope is forged or the KMS answered with another key. A proven key
	// stays, so that a forged envelope evicts no good key; any other goes.
	if !key.proven.Load() {
		o.cache.Remove(c.id)
	}
	p.errs = append(p.errs, openError(kms.Corrupt, c.key.ID(), "the data key is not the one that the envelope commits to",
		"the envelope was altered, or the KMS answered wrongly; fetch the envelope again from where it is stored", nil))
	return false
}

// finish is the end of p.
func (p *opening) finish(plaintext []byte, err error) {
	p.out.Plaintext, p.out.Err, p.done = plaintext, err, true
	p.stale.Release()
}

// fail ends p when no recipient is left.
func (p *opening) fail() {
	p.finish(nil, fmt.Errorf("envelope: open: %w", preferTransient(p.errs)))
}

// preferTransient returns a transient error if there is one: the envelope may open later.
func preferTransient(errs []error) error {
	for _, err := range errs {
		if kms.ClassOf(err).Transient() {
			return err
		}
	}
	return errs[0]
}
