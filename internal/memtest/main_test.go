package memtest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if Run(testRoles) {
		return
	}
	goleak.VerifyTestMain(m)
}
