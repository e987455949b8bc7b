package cache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waxseal/waxseal/cache"
)

// The model is the cache as its documentation describes it, for one caller at a
// time: no locks, no flights, no reference counts. After each operation of a random
// sequence both must have given the same answers and wiped the same values.

const (
	modelEntries  = 3
	modelFresh    = 10 * time.Second
	modelStale    = 20 * time.Second
	modelNegative = 4 * time.Second
)

// operation is one step; which fields count depends on kind.
type operation struct {
	kind   string
	keys   []string
	errs   map[string]error // what loading each key gives
	wait   time.Duration
	choice int // which of the held Refs
}

var modelKeys = []string{"a", "b", "c", "d", "e"}

func operations() *rapid.Generator[[]operation] {
	kinds := []string{"get", "get", "many", "many", "many", "put", "remove", "wait", "wait", "release", "release", "release", "close"}
	outcome := rapid.SampledFrom([]error{nil, nil, nil, errDown, errDown, errDenied, errOther})
	one := rapid.Custom(func(t *rapid.T) operation {
		op := operation{
			kind:   rapid.SampledFrom(kinds).Draw(t, "kind"),
			keys:   rapid.SliceOfN(rapid.SampledFrom(modelKeys), 1, 6).Draw(t, "keys"),
			errs:   make(map[string]error),
			wait:   time.Duration(rapid.IntRange(1, 12).Draw(t, "wait")) * time.Second,
			choice: rapid.IntRange(0, 1000).Draw(t, "choice"),
		}
		for _, key := range modelKeys {
			op.errs[key] = outcome.Draw(t, "outcome")
		}
		if op.kind == "close" && op.choice > 100 { // most sequences are longer
			op.kind = "wait"
		}
		return op
	})
	return rapid.SliceOfN(one, 1, 60)
}

// recent is a list of keys, most recently used first.
type recent []string

func (r *recent) touch(key string) { r.forget(key); *r = slices.Insert(*r, 0, key) }
func (r *recent) forget(key string) {
	*r = slices.DeleteFunc(*r, func(k string) bool { return k == key })
}

type modelValue struct {
	id   int
	born time.Time
}

type modelFailure struct {
	err   error
	until time.Time
}

type model struct {
	closed   bool
	values   map[string]modelValue
	order    recent
	failures map[string]modelFailure
	forder   recent
	made     int
	held     map[int]int
	asked    []string // by the last call
}

func (m *model) drop(key string) { delete(m.values, key); m.order.forget(key) }

func (m *model) sweep(now time.Time) {
	for key, v := range m.values {
		if now.Sub(v.born) >= modelFresh+modelStale {
			m.drop(key)
		}
	}
}

func (m *model) store(key string, id int, now time.Time) {
	delete(m.failures, key)
	m.forder.forget(key)
	m.values[key] = modelValue{id, now}
	m.order.touch(key)
	if len(m.order) > modelEntries {
		m.drop(m.order[modelEntries])
	}
}

func (m *model) remember(key string, err error, now time.Time) {
	m.failures[key] = modelFailure{err, now.Add(modelNegative)}
	m.forder.touch(key)
	if len(m.forder) > modelEntries {
		delete(m.failures, m.forder[modelEntries])
		m.forder = m.forder[:modelEntries]
	}
}

// get returns the answer for each key as text: a value's id or an error.
func (m *model) get(keys []string, errs map[string]error, now time.Time) []string {
	answers := make(map[string]string)
	m.asked = nil
	for _, key := range keys {
		if m.closed {
			answers[key] = cache.ErrClosed.Error()
			continue
		}
		v, there := m.values[key]
		if there {
			m.order.touch(key)
			if now.Sub(v.born) < modelFresh {
				answers[key] = fmt.Sprint(v.id)
				continue
			}
		}
		if slices.Contains(m.asked, key) {
			continue
		}
		if f, ok := m.failures[key]; ok && now.Before(f.until) {
			m.forder.touch(key)
			answers[key] = f.err.Error()
			if there {
				answers[key] = fmt.Sprint(v.id)
			}
			continue
		}
		delete(m.failures, key)
		m.forder.forget(key)
		m.asked = append(m.asked, key)
	}
	for _, key := range m.asked {
		v, there := m.values[key]
		switch err := errs[key]; {
		case err == nil:
			m.store(key, m.made, now)
			answers[key] = fmt.Sprint(m.made)
			m.made++
			continue
		case there:
			m.order.touch(key)
		}
		answers[key] = errs[key].Error()
		if errors.Is(errs[key], errDown) {
			m.remember(key, errDown, now)
			if there {
				answers[key] = fmt.Sprint(v.id)
			}
		}
		if errors.Is(errs[key], errDenied) {
			m.remember(key, errDenied, now)
			m.drop(key)
		}
	}
	list := make([]string, len(keys))
	for i, key := range keys {
		list[i] = answers[key]
	}
	return list
}

// wiped is what the model expects to have been wiped: all that is neither held
// nor in the cache.
func (m *model) wiped() []int32 {
	times := make([]int32, m.made)
	for id := range times {
		times[id] = 1
		if m.held[id] > 0 {
			times[id] = 0
		}
	}
	for _, v := range m.values {
		times[v.id] = 0
	}
	return times
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ops := operations().Draw(rt, "operations")
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = compare(t, ops) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// compare runs ops on a cache and on the model and describes the first difference.
func compare(t *testing.T, ops []operation) string {
	k := newKit(t, func(c *cache.Config[*secret]) {
		c.MaxEntries, c.Fresh, c.Stale, c.NegativeFor = modelEntries, modelFresh, modelStale, modelNegative
	})
	m := &model{values: map[string]modelValue{}, failures: map[string]modelFailure{}, held: map[int]int{}}
	var refs []*cache.Ref[*secret]
	hold := func(ref *cache.Ref[*secret]) {
		if ref != nil {
			refs = append(refs, ref)
			m.held[ref.Value().id]++
		}
	}
	say := func(ref *cache.Ref[*secret], err error) string {
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(ref.Value().id)
	}
	for i, op := range ops {
		var want, got, asked []string
		now := time.Now()
		m.sweep(now)
		switch op.kind {
		case "get":
			key := op.keys[0]
			want = m.get(op.keys[:1], op.errs, now)
			ref, err := k.Get(t.Context(), key, func(ctx context.Context) (*secret, error) {
				asked = append(asked, key)
				return k.load(key, op.errs[key])(ctx)
			})
			got = []string{say(ref, err)}
			hold(ref)
		case "many":
			want = m.get(op.keys, op.errs, now)
			outcomes := k.GetMany(t.Context(), op.keys, func(ctx context.Context, missing []string) []cache.Result[*secret] {
				asked = append(asked, missing...)
				return k.loadMany(op.errs)(ctx, slices.Clone(missing))
			})
			for _, o := range outcomes {
				got = append(got, say(o.Ref, o.Err))
				hold(o.Ref)
			}
		case "put":
			if m.asked = nil; !m.closed {
				m.store(op.keys[0], m.made, now)
			}
			m.made++
			hold(k.Put(op.keys[0], k.make(op.keys[0])))
		case "remove":
			m.asked = nil
			m.drop(op.keys[0])
			delete(m.failures, op.keys[0])
			m.forder.forget(op.keys[0])
			k.Remove(op.keys[0])
		case "wait":
			m.asked = nil
			advance(op.wait)
			m.sweep(time.Now())
		case "release":
			m.asked = nil
			if len(refs) > 0 {
				n := op.choice % len(refs)
				m.held[refs[n].Value().id]--
				refs[n].Release()
				refs[n].Release()
				refs = slices.Delete(refs, n, n+1)
			}
		case "close":
			m.asked, m.closed = nil, true
			clear(m.values)
			m.order = nil
			k.Close()
		}
		synctest.Wait()
		var wiped []int32
		for _, s := range k.secrets {
			wiped = append(wiped, s.wiped.Load())
		}
		type state struct {
			Answers, Asked []string
			Wiped          []int32
			Len            int
		}
		diff := cmp.Diff(state{want, m.asked, m.wiped(), len(m.values)}, state{got, asked, wiped, k.Len()}, equateEmpty)
		if diff != "" {
			return fmt.Sprintf("operation %d, %s %v: (-model +cache):\n%s", i, op.kind, op.keys, diff)
		}
	}
	k.Close()
	for _, ref := range refs {
		ref.Release()
	}
	for _, s := range k.secrets {
		if n := s.wiped.Load(); n != 1 {
			return fmt.Sprintf("in the end value %d was wiped %d times", s.id, n)
		}
	}
	return ""
}

// equateEmpty takes nil and empty slices for the same.
var equateEmpty = cmp.FilterValues(func(x, y []int32) bool { return len(x) == 0 && len(y) == 0 },
	cmp.Comparer(func(_, _ []int32) bool { return true }))
