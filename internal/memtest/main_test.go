package memtest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if Run(roles) {
		return
	}
	goleak.VerifyTestMain(m)
}
