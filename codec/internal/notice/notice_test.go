package notice

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/log"

	"github.com/waxseal/waxseal/kms"
)

func TestOneLineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := new(Log)
		l.To(nil)
		l.To(log.NewStructuredLogger(slog.New(slog.NewTextHandler(&out, nil))))
		l.To(log.NewStructuredLogger(slog.New(slog.DiscardHandler))) // the first one stays
		denied := fmt.Errorf("CANARY: %w", &kms.Error{Class: kms.Denied, Op: "wrap", KeyID: "fake://a", Advice: "renew the token"})
		lines := func() int { return strings.Count(out.String(), "\n") }
		for range 100 {
			l.Write(denied, true)
		}
		if lines() != 1 {
			t.Errorf("%d lines for one refusal", lines())
		}
		l.Write(denied, false)
		l.Write(&kms.Error{Class: kms.Denied, Op: "wrap", KeyID: "fake://b"}, true)
		l.Write(&kms.Error{Class: kms.NotFound, Op: "wrap", KeyID: "fake://a"}, true)
		l.Write(errors.New("CANARY"), false)
		if lines() != 5 {
			t.Errorf("%d lines for five refusals", lines())
		}
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is the test's
		l.Write(denied, true)
		if lines() != 6 {
			t.Errorf("%d lines a minute later", lines())
		}
		for _, want := range []string{"level=WARN", "level=ERROR", "class=denied", "key=fake://a", "renew the token"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, out.String())
			}
		}
		if strings.Contains(out.String(), "CANARY") {
			t.Errorf("the log quotes an error of the program:\n%s", out.String())
		}
	})
}

func TestKindsAreBounded(t *testing.T) {
	l := new(Log)
	l.To(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	for i := range 2 * maxKinds {
		l.Write(&kms.Error{Class: kms.Denied, KeyID: fmt.Sprint(i)}, false)
	}
	if l.logged.Len() != maxKinds {
		t.Errorf("%d are remembered", l.logged.Len())
	}
}
