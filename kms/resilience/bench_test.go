package resilience_test

import (
	"testing"

	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/kms/kmstest"
	"github.com/waxseal/waxseal/kms/resilience"
)

// BenchmarkUnwrap compares a bare Fake, which has no network, with a decorated
// one: the difference is what the decorator costs.
func BenchmarkUnwrap(b *testing.B) {
	for _, n := range []struct {
		name  string
		items int
	}{{"1", 1}, {"100", 100}} {
		fake := kmstest.NewFake("k")
		_, wrapped := wrapOn(b, fake, n.items)
		for name, key := range map[string]kms.Key{
			"bare": fake, "decorated": decorate(b, fake, resilience.Config{}),
		} {
			b.Run(name+"/"+n.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := key.Unwrap(b.Context(), wrapped, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
