package hostile

import (
	"os"
	"runtime"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Scenes of cached workflows need theirs for two tasks; those that an altered task leaves
	// unfinished are to be evicted soon.
	worker.SetStickyWorkflowCacheSize(200)
	// The lanes would take all processors from the packages that go test runs beside this
	// one, some of which look at time and memory. A soak runs nothing beside it.
	if os.Getenv("WAXSEAL_SOAK") == "" {
		runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	}
	goleak.VerifyTestMain(m)
}
