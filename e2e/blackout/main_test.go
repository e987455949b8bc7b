package blackout

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if code, was := IsWorker(); was {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}
