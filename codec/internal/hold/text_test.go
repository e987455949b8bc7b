package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waxseal/waxseal/kms"
)

// The guard's failures of tasks and answers to queries are plaintext. Whatever the error, and
// whatever wraps it, the text holds only texts of the guard and of a kms.Error.
func TestTheGuardQuotesNothing(t *testing.T) {
	var number string
	quoting := json.Unmarshal([]byte("4711"), &number)
	canary := errors.New("CANARY")
	about := &kms.Error{Class: kms.Unavailable, Op: "unwrap", KeyID: "fake://a", Detail: "no answer", Advice: "check it", Err: canary}
	for name, tc := range map[string]struct {
		why  error
		want []string
	}{
		"an error of ours":              {about, []string{"fake://a", "unavailable", "no answer", "(check it)"}},
		"one that holds a task":         {&Error{Err: about}, []string{"workflow task held", "when the KMS answers again", "fake://a", "(check it)"}},
		"one that something wraps":      {fmt.Errorf("CANARY: %w", about), []string{"fake://a", "(check it)"}},
		"one that holds, wrapped":       {&Error{Err: fmt.Errorf("CANARY: %w", about)}, []string{"workflow task held", "fake://a"}},
		"one beside another":            {errors.Join(canary, about), []string{"fake://a"}},
		"what the guard writes":         {OwnText("waxseal: refused"), []string{"waxseal: refused"}},
		"the same, wrapped":             {fmt.Errorf("CANARY: %w", OwnText("waxseal: refused")), []string{"internal", "withheld", "waxseal doctor"}},
		"a converter's":                 {fmt.Errorf("unable to decode: %w", quoting), []string{"internal", "withheld", "waxseal doctor"}},
		"a status":                      {status.Error(codes.Unavailable, "CANARY"), []string{"internal", "withheld"}},
		"an error of no text, of class": {&kms.Error{Class: kms.Denied, Op: "seal"}, []string{"kms: seal: denied"}},
	} {
		for _, text := range []string{plainFailure(tc.why).GetMessage(), toldOfQuery(t, tc.why)} {
			if strings.Contains(text, "CANARY") || strings.Contains(text, "4711") || strings.Contains(text, "unable to decode") {
				t.Errorf("%s: %s", name, text)
			}
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s: %q, want %q in it", name, text, want)
				}
			}
		}
	}
}

// People and tools look for the type of the failure.
func TestTypeOfAPlainFailure(t *testing.T) {
	if got := plainFailure(errors.New("x")).GetApplicationFailureInfo().GetType(); got != "HeldError" {
		t.Errorf("the type is %q", got)
	}
}

func toldOfQuery(t *testing.T, why error) (text string) {
	t.Helper()
	send := func(_ context.Context, _ string, req, _ any) error {
		text = req.(*workflowservice.RespondQueryTaskCompletedRequest).GetErrorMessage()
		return nil
	}
	if err := reportQuery(t.Context(), "n", &workflowservice.PollWorkflowTaskQueueResponse{TaskToken: []byte("t")}, send)(why); err != nil {
		t.Fatal(err)
	}
	return text
}
