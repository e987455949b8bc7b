package kms_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/kms"
)

func TestClassOf(t *testing.T) {
	denied := &kms.Error{Class: kms.Denied, Op: "unwrap"}
	for _, tt := range []struct {
		name string
		err  error
		want kms.Class
	}{
		{"nil", nil, kms.Internal},
		{"some error", errors.New("x"), kms.Internal},
		{"error", denied, kms.Denied},
		{"wrapped", fmt.Errorf("envelope: open: %w", denied), kms.Denied},
		{"joined", errors.Join(errors.New("x"), denied), kms.Denied},
		{"first of two", fmt.Errorf("x: %w", &kms.Error{Class: kms.Unavailable, Err: denied}), kms.Unavailable},
		{"canceled", context.Canceled, kms.Canceled},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), kms.Canceled},
		{"class before cause", &kms.Error{Class: kms.Unavailable, Err: context.DeadlineExceeded}, kms.Unavailable},
		{"zero Error", &kms.Error{}, kms.Internal},
	} {
		if got := kms.ClassOf(tt.err); got != tt.want {
			t.Errorf("%s: ClassOf = %v, want %v", tt.name, got, tt.want)
		}
	}
	for _, c := range kms.Classes() {
		if got := kms.ClassOf(&kms.Error{Class: c}); got != c {
			t.Errorf("ClassOf = %v, want %v", got, c)
		}
	}
}

func TestClasses(t *testing.T) {
	want := []struct {
		class     kms.Class
		text      string
		transient bool
	}{
		{kms.Internal, "internal", false},
		{kms.Unavailable, "unavailable", true},
		{kms.Throttled, "throttled", true},
		{kms.Denied, "denied", false},
		{kms.NotFound, "not found", false},
		{kms.Disabled, "disabled", false},
		{kms.Corrupt, "corrupt", false},
		{kms.Canceled, "canceled", false},
		{kms.Invalid, "invalid", false},
	}
	all := kms.Classes()
	if len(all) != len(want) {
		t.Fatalf("%d classes, want %d", len(all), len(want))
	}
	for i, w := range want {
		if all[i] != w.class || w.class.String() != w.text || w.class.Transient() != w.transient {
			t.Errorf("class %d: %v, transient %v; want %+v", i, all[i], all[i].Transient(), w)
		}
	}
	if got := kms.Class(200).String(); got != "unknown" {
		t.Errorf("class 200 is %q", got)
	}
	if kms.Class(200).Transient() {
		t.Error("class 200 is transient")
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("400: invalid ciphertext dmF1bHQ6djE6U0VDUkVU")
	for _, tt := range []struct {
		err  *kms.Error
		want string
	}{
		{&kms.Error{Class: kms.Corrupt, Op: "unwrap", KeyID: "hashivault://transit/k", Detail: "altered", Advice: "restore it", Err: cause}, "kms: unwrap with hashivault://transit/k: corrupt: altered"},
		{&kms.Error{Class: kms.Unavailable, Op: "wrap", Err: cause}, "kms: wrap: unavailable"},
		{&kms.Error{Op: "parse key URI", Detail: "it is empty"}, "kms: parse key URI: internal: it is empty"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q, want %q", got, tt.want)
		}
		wrapped := fmt.Errorf("envelope: open: %w", tt.err)
		printed := fmt.Sprintf("%v %s %q %+v %#v %v %#v", tt.err, tt.err, tt.err, tt.err, tt.err, wrapped, wrapped)
		if strings.Contains(printed, "ciphertext") || strings.Contains(printed, "U0VDUkVU") {
			t.Errorf("the cause's text shows in %s", printed)
		}
		if tt.err.Err != nil && !errors.Is(wrapped, cause) {
			t.Error("the cause is lost to errors.Is")
		}
		if tt.err.Hint() != tt.err.Advice {
			t.Errorf("Hint() = %q", tt.err.Hint())
		}
	}
}
