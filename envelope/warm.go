package envelope

import "context"

// Warm gets the data key of each item into the cache, where Open finds it later, and returns one error for each, in
// order. It calls the same KEKs in the same order as Open and fails with the same errors, but decrypts nothing: Open
// finds an altered ciphertext. A data key that is fresh in the cache costs no call.
//
// More items than OpenerConfig.CacheEntries evict one another.
func (o *Opener) Warm(ctx context.Context, items ...Item) []error {
	out := make([]error, len(items))
	for i, opened := range o.open(ctx, items, true) {
		out[i] = opened.Err
	}
	return out
}
