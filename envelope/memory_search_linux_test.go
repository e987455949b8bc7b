package envelope_test

import (
	"crypto/rand"
	"errors"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// secretInGlobal is a secret on no heap and no stack.
var secretInGlobal [32]byte

// Roles that make a secret, report it masked, keep it for a scan, and clear it for the next.

func secretOnHeap(c *child) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	defer runtime.KeepAlive(secret)
	return keepThenClear(c, secret)
}

func secretOnStack(c *child) error {
	var secret [32]byte
	rand.Read(secret[:])
	err := c.Stop(c.Masked(secret[:]))
	clear(secret[:])
	return errors.Join(err, c.Stop(nil))
}

func secretGlobal(c *child) error {
	rand.Read(secretInGlobal[:])
	return keepThenClear(c, secretInGlobal[:])
}

func keepThenClear(c *child, secret []byte) error {
	err := c.Stop(c.Masked(secret))
	clear(secret)
	return errors.Join(err, c.Stop(nil))
}

func failOnPurpose(*child) error { return errors.New("on purpose") }

// TestScanFinds finds a secret in all places, by halves. It finds neither a cleared secret nor one
// that the child does not have.
func TestScanFinds(t *testing.T) {
	other := make([]byte, 32)
	rand.Read(other)
	for _, role := range []string{"secret on heap", "secret on stack", "secret in global"} {
		t.Run(role, func(t *testing.T) {
			p := startChild(t, role)
			var reported []byte
			p.Await(t, &reported)
			secret := p.Unmask(reported)
			needles := []needle{
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
			p.Await(t, &reported)
			if got := p.Scan(t, needles[:3]); len(got.Pieces) != 0 {
				t.Errorf("found after it was cleared: %s", got)
			}
			p.GoOn(t)
			p.End(t)
		})
	}
}

// TestScanSearch finds a piece at any offset, and two pieces that begin alike.
func TestScanSearch(t *testing.T) {
	b := make([]byte, 100)
	for i := range b {
		b[i] = byte(i)
	}
	found := tally{Pieces: map[string]int{}}
	newHaystack([]needle{{"a", b[3:35]}, {"a", b[3:18]}, {"b", b[84:]}, {"c", []byte("0123456789abcdef")}}).search(b, &found)
	if diff := cmp.Diff(map[string]int{"a": 2, "b": 1}, found.Pieces); diff != "" {
		t.Error(diff)
	}
	if got, want := found.String(), "a: 2, b: 1"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

func TestChildFails(t *testing.T) {
	for _, role := range []string{"fails on purpose", "unknown"} {
		t.Run(role, func(t *testing.T) {
			p := startChild(t, role)
			if err := p.cmd.Wait(); err == nil {
				t.Error("it ended without an error")
			}
		})
	}
}
