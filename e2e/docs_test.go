package e2e

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the tables of docs/what-is-encrypted.md anew")

const inventoryDoc = "../docs/what-is-encrypted.md"

// TestDocumentation compares the tables that people read with those that
// TestCanaries goes by.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile(inventoryDoc)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for name, want := range map[string]string{"sealed": sealedTable(), "plain": plainTable()} {
		begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
		before, rest, ok := strings.Cut(doc, begin)
		table, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("%s has no table between %q and %q", inventoryDoc, begin, end)
		}
		if diff := cmp.Diff(want, table); diff != "" && !*update {
			t.Errorf("%s differs from inventory_test.go; go test ./e2e -run %s -update writes it anew:\n%s", inventoryDoc, t.Name(), diff)
		}
		doc = before + begin + want + end + after
	}
	if *update {
		if err := os.WriteFile(inventoryDoc, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func sealedTable() string {
	var b strings.Builder
	b.WriteString("| what | sealed? | by what | how to check |\n|---|---|---|---|\n")
	for _, r := range sealedRows() {
		fmt.Fprintf(&b, "| %s | yes | %s | %s |\n", r.what, r.by, r.check)
	}
	return b.String()
}

func plainTable() string {
	var b strings.Builder
	b.WriteString("| what | sealed? | why not | what to do |\n|---|---|---|---|\n")
	for _, r := range plainRows() {
		fmt.Fprintf(&b, "| %s | no | %s | %s |\n", r.what, r.why, r.check)
	}
	return b.String()
}
