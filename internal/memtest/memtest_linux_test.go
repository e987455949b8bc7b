package memtest

import (
	"crypto/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestScan finds a secret in all places, by halves, and neither after it is cleared nor one
// that the child does not have.
func TestScan(t *testing.T) {
	other := make([]byte, 32)
	rand.Read(other)
	for _, role := range []string{"heap", "stack", "global"} {
		t.Run(role, func(t *testing.T) {
			p := Start(t, role)
			var told []byte
			p.Await(t, &told)
			secret := p.Unmask(told)
			needles := []Needle{
				{"first half", secret[:16]},
				{"second half", secret[16:]},
				{"shifted", secret[8:24]},
				{"other", other},
				{"zeros", make([]byte, 32)},
			}
			got := p.Scan(t, needles)
			for _, shape := range []string{"first half", "second half", "shifted"} {
				if got.Pieces[shape] == 0 {
					t.Errorf("not found: %s", shape)
				}
			}
			if got.Pieces["other"] != 0 || got.Pieces["zeros"] != 0 || got.Bytes < 1<<20 {
				t.Errorf("found %s in %d bytes", got, got.Bytes)
			}
			p.GoOn(t)
			p.Await(t, &told)
			if got := p.Scan(t, needles[:3]); len(got.Pieces) != 0 {
				t.Errorf("found after it was cleared: %s", got)
			}
			p.GoOn(t)
			p.End(t)
		})
	}
}

// TestSearch finds what begins in one part and ends in the next, and what begins
// where another one does.
func TestSearch(t *testing.T) {
	b := make([]byte, 100)
	for i := range b {
		b[i] = byte(i)
	}
	found := Found{Pieces: map[string]int{}}
	newHaystack([]Needle{{"a", b[3:35]}, {"a", b[3:18]}, {"b", b[84:]}, {"c", []byte("0123456789abcdef")}}).search(b, &found)
	if diff := cmp.Diff(map[string]int{"a": 2, "b": 1}, found.Pieces); diff != "" {
		t.Error(diff)
	}
	if got, want := found.String(), "a: 2, b: 1"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

func TestChildFails(t *testing.T) {
	for _, role := range []string{"fails", "unknown"} {
		t.Run(role, func(t *testing.T) {
			p := Start(t, role)
			if err := p.cmd.Wait(); err == nil {
				t.Error("it ended without an error")
			}
		})
	}
}
