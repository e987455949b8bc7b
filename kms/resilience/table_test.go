package resilience

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxseal/waxseal/kms"
)

func TestTableNamesEveryClass(t *testing.T) {
	if len(rules) != len(kms.Classes()) {
		t.Fatalf("the table has %d rows for %d classes", len(rules), len(kms.Classes()))
	}
	for _, c := range kms.Classes() {
		r := ruleFor(&kms.Error{Class: c})
		if r.retry != c.Transient() {
			t.Errorf("%s is retried: %v; kms says that the same call may succeed later: %v", c, r.retry, c.Transient())
		}
		if r.retry != (r.backoff > 0) {
			t.Errorf("%s: retry %v and backoff %s", c, r.retry, r.backoff)
		}
	}
	unknown := ruleFor(&kms.Error{Class: 200})
	if diff := cmp.Diff(rules[kms.Internal], unknown, cmp.AllowUnexported(rule{})); diff != "" {
		t.Errorf("an unknown class is not taken for Internal (-want +got):\n%s", diff)
	}
}
