package kms_test

import (
	"testing"

	"github.com/waxseal/waxseal/kms"
)

type decorated struct {
	kms.Key
	behind kms.Key
}

func (d decorated) Decorated() kms.Key { return d.behind }

type rotatingKey struct {
	kms.Key
	kms.Rotator
}

func TestAs(t *testing.T) {
	rotating := rotatingKey{Key: plainKey{id: "x://k"}}
	for _, tt := range []struct {
		name string
		key  kms.Key
		want bool
	}{
		{"itself", rotating, true},
		{"behind one", decorated{behind: rotating}, true},
		{"behind two", decorated{behind: decorated{behind: rotating}}, true},
		{"nowhere", plainKey{}, false},
		{"nowhere behind one", decorated{behind: plainKey{}}, false},
		{"nil", nil, false},
		{"nil behind one", decorated{}, false},
	} {
		got, ok := kms.As[kms.Rotator](tt.key)
		if ok != tt.want || ok && got != kms.Rotator(rotating) {
			t.Errorf("%s: As = %v, %v", tt.name, got, ok)
		}
	}
}

func TestVersionState(t *testing.T) {
	for s, want := range map[kms.VersionState]string{
		kms.VersionEnabled: "enabled", kms.VersionDisabled: "disabled", kms.VersionPendingDestruction: "pending destruction",
		kms.VersionDestroyed: "destroyed", kms.VersionUnavailable: "unavailable", 200: "unknown",
	} {
		if s.String() != want {
			t.Errorf("%d is %q, want %q", s, s, want)
		}
	}
}
