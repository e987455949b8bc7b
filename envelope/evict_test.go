package envelope

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
)

// An evicted pool wipes its data keys when the last waiter is gone, also if that one was
// refused: no later event would wipe them.
func TestEvictWipesWhenTheLastIsRefused(t *testing.T) {
	for _, class := range kms.Classes() {
		t.Run(class.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var made []*sealingKey
				p := &pool{stock: stock{limits: DataKeyLimits{SealGrace: time.Hour}.withDefaults()}, background: func(f func()) { go f() }}
				p.wrap = func(n int, _ *pending) ([]*sealingKey, error) {
					<-time.After(time.Second)
					if len(made) > 0 {
						return nil, kmstest.Err(class)
					}
					for range n {
						until := time.Now().Add(time.Minute)
						made = append(made, &sealingKey{key: newDataKey(), until: until, graceUntil: until.Add(time.Hour)})
					}
					return made, nil
				}
				first, cancel := context.WithCancel(t.Context())
				for _, one := range []struct {
					ctx   context.Context
					sizes []int
				}{{first, []int{1}}, {t.Context(), []int{1, 1}}} {
					go func() {
						if _, err := p.take(one.ctx, one.sizes); err == nil {
							t.Errorf("%d payloads were served", len(one.sizes))
						}
					}()
					synctest.Wait()
				}
				p.evict()
				cancel()
				<-time.After(time.Minute)
				synctest.Wait()
				if _, err := p.take(t.Context(), []int{1}); !errors.Is(err, ErrClosed) {
					t.Errorf("an evicted pool: %v", err)
				}
				if n := countWiped(made); len(made) == 0 || n != len(made) {
					t.Errorf("%d of %d data keys were wiped", n, len(made))
				}
			})
		})
	}
}
