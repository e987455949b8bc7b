package hostile

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Scenes of cached workflows need a cache entry for two tasks. Entries of unfinished tasks
	// should be evicted soon.
	worker.SetStickyWorkflowCacheSize(200)
	// The lanes would take all processors from the packages that go test runs at the same time,
	// some of which measure time and memory. A soak runs alone.
	if os.Getenv("WAXSEAL_SOAK") == "" {
		runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	}
	debug.SetGCPercent(400) // most of what it allocates is garbage at once
	goleak.VerifyTestMain(m)
}
