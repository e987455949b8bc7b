package envelope

import "context"

// Warm has the data key of each item in the cache, so that Open finds it there a
// little later: one error for each, in order, nil where it has. It asks the same
// KEKs in the same order as Open and fails with the same errors, but decrypts no
// envelope: whether a ciphertext is intact is left to Open. Nothing is asked of
// anyone for a data key that is fresh in the cache.
//
// More items than OpenerConfig.CacheEntries push each other out again.
func (o *Opener) Warm(ctx context.Context, items ...Item) []error {
	out := make([]error, len(items))
	for i, opened := range o.open(ctx, items, true) {
		out[i] = opened.Err
	}
	return out
}
