package hostile

import (
	"runtime"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Each task brings its whole history, so each marker in it is read again.
	worker.SetStickyWorkflowCacheSize(0)
	// The lanes would take all processors from the packages that go test runs beside this
	// one, some of which look at time and memory.
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	goleak.VerifyTestMain(m)
}
