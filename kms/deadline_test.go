package kms_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxseal/waxseal/kms"
)

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited, cancel := kms.WithLimit(t.Context(), time.Second)
		defer cancel()
		if kms.Late(limited) != nil {
			t.Error("late before its limit")
		}
		<-limited.Done()
		if late := kms.Late(limited); late == nil || late.Limit != time.Second || late.Error() != "no answer within 1s" {
			t.Errorf("got %v", late)
		}
		caller, giveUp := context.WithCancel(t.Context())
		giveUp()
		limited, cancel = kms.WithLimit(caller, time.Second)
		defer cancel()
		if kms.Late(limited) != nil {
			t.Error("the caller's end passes for that of the limit")
		}
	})
	cause := errors.New("x")
	err := kms.NoAnswer("wrap", "fake://a", 2*time.Second, cause)
	if err.Error() != "kms: wrap with fake://a: unavailable: no answer within 2s" || !errors.Is(err, cause) || err.Hint() == "" {
		t.Errorf("got %v", err)
	}
}
