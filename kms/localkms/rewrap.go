package localkms

import (
	"context"

	"github.com/waxseal/waxseal/kms"
)

// RewrapsFrom implements kms.Rewrapper: keys of local keyrings take from each
// other, since this process is the KMS of them all.
func (k *Key) RewrapsFrom(source kms.Key) bool {
	_, ok := kms.As[*Key](source)
	return ok
}

// Rewrap implements kms.Rewrapper. The data keys are in the memory of this
// process for a moment, and wiped before it returns.
func (k *Key) Rewrap(ctx context.Context, source kms.Key, wrapped []kms.Wrapped, ec kms.Context) (_ []kms.Rewrapped, err error) {
	defer k.report("rewrap", &err)
	from, ok := kms.As[*Key](source)
	if !ok {
		return nil, problem(kms.Internal, "what another KMS wrapped cannot be rewrapped by a local keyring", "unwrap with the one key and wrap with the other", nil)
	}
	opened, err := from.Unwrap(ctx, wrapped, ec)
	if err != nil {
		return nil, err
	}
	var dataKeys [][]byte
	defer func() {
		for _, d := range dataKeys {
			clear(d)
		}
	}()
	for _, u := range opened {
		if u.Err == nil {
			dataKeys = append(dataKeys, u.DataKey)
		}
	}
	var anew []kms.Wrapped
	if len(dataKeys) > 0 {
		if anew, err = k.Wrap(ctx, dataKeys, ec); err != nil {
			return nil, err
		}
	}
	out := make([]kms.Rewrapped, len(wrapped))
	for i, u := range opened {
		if u.Err == nil {
			out[i].Wrapped, anew = anew[0], anew[1:]
		}
		out[i].Err = u.Err
		k.report("rewrap", &out[i].Err)
	}
	return out, nil
}
