package codec

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/internal/keyset"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// snapshot is a policy with its opened keys and Sealers. A call uses one snapshot from
// beginning to end. Reload replaces the snapshot as a whole; its keys close after the last
// call.
type snapshot struct {
	policy  *policy.Policy
	keys    *keyset.Set
	sealers *sealers
	// users counts the calls under way, plus one while the snapshot is current.
	users atomic.Int64
	// unused is called when users reaches zero.
	unused func()
}

// newSnapshot opens the keys of a policy.
func (c *Codec) newSnapshot(ctx context.Context, p *policy.Policy) (*snapshot, error) {
	keys, err := keyset.New(ctx, p, c.registry, c.watchers)
	if err != nil {
		return nil, err
	}
	s := &snapshot{policy: p, keys: keys, sealers: newSealers(p, keys, c.opener, c.watchers)}
	s.users.Store(1)
	return s, nil
}

// enter begins a call; false if the snapshot was replaced and its last call has ended.
func (s *snapshot) enter() bool {
	for {
		n := s.users.Load()
		if n == 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave ends a call.
func (s *snapshot) leave() {
	if s.users.Add(-1) == 0 {
		s.unused()
	}
}

// close waits for wraps under way, and wipes the data keys that wait for use.
func (s *snapshot) close() {
	s.sealers.close()
	s.keys.Close()
}

type snapshotKey struct{}

// use returns the current snapshot for a call, and a context in which the Opener finds the keys
// of the same snapshot. The caller calls leave.
func (c *Codec) use(ctx context.Context) (*snapshot, context.Context) {
	if s, ok := ctx.Value(snapshotKey{}).(*snapshot); ok && s.enter() {
		return s, ctx // a call within a call
	}
	for {
		if s := c.now.Load(); s.enter() {
			return s, context.WithValue(ctx, snapshotKey{}, s)
		}
	}
}

// find is the Keys function of the Opener.
func (c *Codec) find(ctx context.Context, wanted []envelope.Wanted) []envelope.Found {
	s, ok := ctx.Value(snapshotKey{}).(*snapshot)
	if !ok {
		s = c.now.Load()
	}
	return s.keys.Find(ctx, wanted)
}

// policy is the current policy.
func (c *Codec) policy() *policy.Policy { return c.now.Load().policy }

// Reload replaces the policy, for calls that begin after it. It opens the keys of the new
// policy first: on an error, which New would also return, nothing has changed. Calls under way
// end under the policy that they began with. After the last of them, keys that only the old
// policy names are closed, and data keys that wait to seal are wiped. Cached data keys remain
// in use for envelopes that the KEK may open under the new policy.
//
// The bound of an unwrap stays that of New: 10 s, or one and a half times the longest
// resilience.timeout of its policy. Reload is safe for concurrent use.
func (c *Codec) Reload(ctx context.Context, p *policy.Policy) error {
	if p == nil {
		return &kms.Error{Op: "reload", Detail: "there is no policy", Advice: "pass what policy.Load returns without an error"}
	}
	s, err := c.newSnapshot(ctx, p)
	if err != nil {
		return fmt.Errorf("codec: reload: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.close()
		return keyset.Closed("reload")
	}
	before := c.now.Load()
	c.retired.Add(1)
	before.unused = func() {
		go func() { // it may wait for a KMS
			defer c.retired.Done()
			before.close()
		}()
	}
	before.keys.ReplacedBy(s.keys)
	c.now.Store(s)
	before.leave()
	return nil
}

// Drain drops the data keys that wait to seal: later payloads get new ones, wrapped by the
// current versions of the KEKs. A KEK's rotation ends with it.
func (c *Codec) Drain() {
	s, _ := c.use(context.Background())
	defer s.leave()
	s.sealers.drain()
}
