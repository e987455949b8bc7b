package codec

import (
	"context"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/kms"
)

// openFixed opens the keys whose URIs are no templates, all at once, and returns
// why the codec cannot start. A start must not depend on all KMSs, that is what
// several are for: one that is out, or that has not answered within keyPatience,
// is no problem as long as another key is open. Its key is opened when it is asked for.
func (k *keyring) openFixed(ctx context.Context) (problems []error) {
	type outcome struct {
		name string
		key  *guardedKey
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
	opened, failed := make(map[string]*guardedKey), make(map[string]error)
	patience := time.NewTimer(keyPatience)
	defer patience.Stop()
	for len(waiting) > 0 {
		var enough <-chan time.Time
		if len(opened) > 0 {
			enough = patience.C
		}
		select {
		case o := <-outcomes:
			delete(waiting, o.name)
			if o.err != nil {
				failed[o.name] = o.err
				continue
			}
			opened[o.name] = o.key
		case <-enough:
			late := len(waiting)
			for name := range waiting {
				err := noAnswerWithin(name, keyPatience)
				failed[name] = err
				k.remember(k.policy.Keys[name].URI, err)
			}
			clear(waiting)
			k.work.Go(func() {
				for range late {
					if o := <-outcomes; o.err == nil {
						closeKey(o.key)
					}
				}
			})
		}
	}
	return k.settle(opened, failed)
}

// settle keeps the keys that were opened at the start, and returns why the codec cannot
// start.
func (k *keyring) settle(opened map[string]*guardedKey, failed map[string]error) (problems []error) {
	var out []error
	for _, name := range k.names {
		key, err := opened[name], failed[name]
		if key != nil {
			k.fixed[name] = key
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
