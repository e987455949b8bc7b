package keyset

import (
	"context"
	"fmt"

	"github.com/waxseal/waxseal/kms"
)

// openFixed opens the keys with fixed URIs, all at once, and returns why the codec cannot start. A start does not
// depend on all KMSs: one that is out, or that has not answered within keyPatience, is no problem as long as another
// key is open. Its key is opened when it is needed.
func (k *Set) openFixed(ctx context.Context) (problems []error) {
	type outcome struct {
		name string
		key  *Key
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome, len(k.names))
	waiting := make(map[string]bool)
	for _, name := range k.names {
		if k.policy.Keys[name].Templated() {
			continue
		}
		waiting[name] = true
		k.work.Go(func() {
			key, err := k.openURI(ctx, name, k.policy.Keys[name].URI)
			outcomes <- outcome{name, key, err}
		})
	}
	opened, failed := make(map[string]*Key), make(map[string]error)
	haveKey := false
	collect(outcomes, len(waiting), &haveKey, func(o outcome) {
		delete(waiting, o.name)
		if o.err != nil {
			failed[o.name] = o.err
			return
		}
		opened[o.name], haveKey = o.key, true
	})
	for name := range waiting {
		failed[name] = NoAnswer(name, keyPatience, nil)
		k.remember(k.policy.Keys[name].URI, failed[name])
		k.work.Go(func() {
			if o := <-outcomes; o.err == nil {
				closeKey(o.key)
			}
		})
	}
	return k.settle(opened, failed)
}

// settle keeps the keys that were opened at the start, and returns why the codec cannot start.
func (k *Set) settle(opened map[string]*Key, failed map[string]error) (problems []error) {
	var out []error
	for _, name := range k.names {
		key, err := opened[name], failed[name]
		if key != nil {
			k.fixed[name] = key
			key.reopen = func(context.Context) (kms.Key, error) { return k.successor("call KMS", key.ID()) }
			if err := k.checkPlace(key); err != nil {
				problems = append(problems, err)
			}
			k.byID[key.ID()] = append(k.byID[key.ID()], key)
			continue
		}
		k.late = append(k.late, name)
		switch {
		case err == nil:
		case kms.ClassOf(err).Transient():
			out = append(out, fmt.Errorf("key %q: %w", name, err))
		default:
			problems = append(problems, fmt.Errorf("key %q: %w", name, err))
		}
	}
	if len(k.fixed) == 0 {
		problems = append(problems, out...)
	}
	return problems
}
