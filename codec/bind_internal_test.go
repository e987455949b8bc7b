package codec

import (
	"testing"

	"github.com/waxseal/waxseal/envelope"
	"github.com/waxseal/waxseal/kms"
	"github.com/waxseal/waxseal/policy"
)

// A claim holds some workflow IDs in escaped form. They are compared in that form.
func TestBoundComparesWhatIsRecorded(t *testing.T) {
	p, err := policy.Parse("test.yaml", []byte(`{keys: {k: {uri: "x://k"}}, seal: [{match: {namespace: "n"}, keys: [k], bind: [workflowId]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot{policy: p}
	for _, id := range []string{"order-1", "100%", "a\nb", "bad\xff", "report-2026-12-01T03:00:00Z\n"} {
		claims, err := claimsFor(&p.Seal[0], policy.Facts{Namespace: "n", WorkflowID: id})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.bound("n", place{workflowID: fact{id, true}}, claims); err != nil {
			t.Errorf("%q is refused in its own workflow: %v", id, err)
		}
		for _, other := range []string{claims.Others[claimWorkflowID] + "x", "other"} {
			if err := s.bound("n", place{workflowID: fact{other, true}}, claims); kms.ClassOf(err) != kms.Denied {
				t.Errorf("%q opens in %q: %v", id, other, err)
			}
		}
	}
	literal := envelope.Claims{Namespace: "n", Others: map[string]string{claimWorkflowID: "100%25"}}
	if err := s.bound("n", place{workflowID: fact{"100%25", true}}, literal); err == nil {
		t.Error("the ID 100% stands for the ID 100%25")
	}
}
