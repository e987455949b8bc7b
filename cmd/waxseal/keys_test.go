package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/kms/localkms"
)

// A version that waits for its destruction shows when; no other has such a time.
func TestKeysListShowsPendingDestruction(t *testing.T) {
	ring, err := localkms.OpenKeyring(filepath.Join(t.TempDir(), "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { _, err := ring.Create("payments"); return err },
		func() error { _, err := ring.Rotate("payments"); return err },
		func() error { return ring.Disable("payments", "1") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	at, err := ring.Destroy("payments", "1", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ring.List()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(describeKey(ring, keys[0]))
	if err != nil {
		t.Fatal(err)
	}
	if want := `"destroyAt":"` + at.Format(time.RFC3339) + `"`; strings.Count(string(text), "destroyAt") != 1 || !strings.Contains(string(text), want) {
		t.Errorf("no %s, or more than that one, in %s", want, text)
	}
	if got := use(keys[0].Versions[0]); got != "none" {
		t.Errorf("a version that waits for its destruction is of use: %s", got)
	}
}
