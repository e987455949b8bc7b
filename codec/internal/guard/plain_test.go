package guard

import (
	"os"
	"strings"
	"testing"
)

// The document for users gives the reasons why payloads may be plaintext.
func TestReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/what-is-encrypted.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range []string{plainAttributes, plainReferences} {
		if !strings.Contains(string(doc), why) {
			t.Errorf("docs/what-is-encrypted.md does not contain %q", why)
		}
	}
}
