package hostile

import (
	"testing"

	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Each task brings its whole history, so each marker in it is read again.
	worker.SetStickyWorkflowCacheSize(0)
	goleak.VerifyTestMain(m)
}
