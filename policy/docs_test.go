package policy

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const docsFile = "../docs/policy.md"

func readDocs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every YAML block in the reference is a whole file that is accepted, or says
// "invalid" and is followed by exactly what is printed about it.
func TestDocsBlocks(t *testing.T) {
	text := readDocs(t)
	block := regexp.MustCompile("(?ms)^```(\\w+)( invalid)?\n(.*?)^```$")
	var valid, invalid int
	blocks := block.FindAllStringSubmatchIndex(text, -1)
	for i, at := range blocks {
		part := func(n int) string {
			if at[2*n] < 0 {
				return ""
			}
			return text[at[2*n]:at[2*n+1]]
		}
		if part(1) != "yaml" {
			continue
		}
		line := 1 + strings.Count(text[:at[0]], "\n")
		t.Run(fmt.Sprintf("line %d", line), func(t *testing.T) {
			_, err := Parse("waxseal.yaml", []byte(part(3)))
			if part(2) == "" {
				valid++
				if err != nil {
					t.Error(err)
				}
				return
			}
			invalid++
			if i+1 == len(blocks) {
				t.Fatal("no text follows")
			}
			next := blocks[i+1]
			if diff := cmp.Diff(text[next[6]:next[7]], spoken(t, err)); diff != "" {
				t.Errorf("(-docs +said):\n%s", diff)
			}
		})
	}
	if valid < 5 || invalid < 4 {
		t.Errorf("found %d valid and %d invalid files", valid, invalid)
	}
}

// The reference has a row for each field, and only for these.
func TestDocsFields(t *testing.T) {
	var want []string
	for _, s := range schemas() {
		_, known := s.names()
		want = append(want, known...)
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(readDocs(t), -1) {
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-code +docs):\n%s", diff)
	}
}

// The reference has the numbers that the code has.
func TestDocsLimits(t *testing.T) {
	text := readDocs(t)
	for _, want := range []string{
		fmt.Sprintf("| file size | %d KiB |", MaxFileSize>>10),
		fmt.Sprintf("| YAML tokens | %d |", maxTokens),
		fmt.Sprintf("| keys | %d |", maxKeys),
		fmt.Sprintf("| key name | %d bytes |", maxKeyName),
		fmt.Sprintf("| key URI, before and after `{namespace}` is filled in | %d bytes |", maxURI),
		fmt.Sprintf("| namespace filled in for `{namespace}` | %d bytes |", maxNamespace),
		fmt.Sprintf("| rules | %d |", maxRules),
		fmt.Sprintf("| keys of one rule | %d |", maxRuleKeys),
		fmt.Sprintf("| pattern | %d bytes |", maxPattern),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not hold %q", docsFile, want)
		}
	}
	if short(90*time.Second) != "1m30s" || short(24*time.Hour) != "24h" || short(10*time.Second) != "10s" {
		t.Error("short writes durations wrongly")
	}
}
