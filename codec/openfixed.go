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
	failed := make(map[string]error)
	patience := time.NewTimer(keyPatience)
	defer patience.Stop()
	for len(waiting) > 0 {
		var enough <-chan time.Time
		if len(k.fixed) > 0 {
			enough = patience.C
		}
		select {
		case o := <-outcomes:
			delete(waiting, o.name)
			if o.err != nil {
				failed[o.name] = o.err
				continue
			}
			k.fixed[o.name] = o.key
		case <-enough:
			late := len(waiting)
			for name := range waiting {
				err := &kms.Error{
					Class: kms.Unavailable, Op: "open key", Detail: fmt.Sprintf("key %q: no answer within %s", name, keyPatience),
					Advice: "check that the KMS is up and reachable from here",
				}
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
	var out []error
	for _, name := range k.names {
		err := failed[name]
		switch {
		case k.fixed[name] != nil:
			k.flat = append(k.flat, k.fixed[name])
		case err == nil:
		case kms.ClassOf(err).Transient():
			out = append(out, fmt.Errorf("key %q: %w", name, err))
		default:
			problems = append(problems, fmt.Errorf("key %q: %w", name, err))
		}
	}
	if len(k.flat) == 0 {
		problems = append(problems, out...)
	}
	return problems
}
