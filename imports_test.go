package waxseal

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies checks the imports of each package, direct and indirect. The linter's
// depguard rules hold the direct imports. This test holds their purpose: a program that uses no
// backend links no cloud SDK, and one without Temporal links no Temporal package.
func TestDependencies(t *testing.T) {
	const module = "github.com/waxseal/waxseal/"
	cloud := []string{"github.com/aws/", "cloud.google.com/", "google.golang.org/api/", "github.com/hashicorp/vault/", module + "kms/"}
	below := append([]string{"go.temporal.io/", "testing", module + "codec", module + "httpapi", module + "cmd"}, cloud...)
	leaf := append([]string{module + "envelope"}, below...)
	for _, tc := range []struct {
		pkg string
		not []string // prefixes of import paths
	}{
		{"cache", append([]string{module + "kms", module + "policy"}, leaf...)},
		{"policy", append([]string{module + "kms", module + "cache"}, leaf...)},
		{"kms", append([]string{module + "kms/resilience", module + "cache", module + "policy"}, leaf...)},
		{"kms/resilience", append([]string{module + "cache", module + "policy"}, leaf...)},
		{"envelope/format", append([]string{module + "kms", module + "cache", module + "policy", "net", "os/exec"}, below...)},
		{"envelope", append([]string{module + "kms/resilience", module + "policy"}, below...)},
		{"codec", append([]string{module + "httpapi", module + "cmd"}, cloud...)},
		{"codec/codecmetrics", append([]string{module + "httpapi", module + "cmd"}, cloud...)},
		{"httpapi", append([]string{module + "rotation", module + "cmd"}, cloud...)},
	} {
		t.Run(tc.pkg, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+tc.pkg).Output()
			if err != nil {
				t.Fatal(err)
			}
			deps := strings.Fields(string(out))
			if len(deps) < 2 {
				t.Fatalf("go list names %d packages", len(deps))
			}
			for _, dep := range deps {
				if dep == module+"kms/resilience" && !slices.Contains(tc.not, dep) {
					continue // it is in kms/ but no backend
				}
				for _, prefix := range tc.not {
					if strings.HasPrefix(dep, prefix) && dep != module+tc.pkg {
						t.Errorf("%s pulls in %s", tc.pkg, dep)
					}
				}
			}
		})
	}
}
