package e2e

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The SDK's replayer leaves behind the coroutine of a workflow after a failed replay.
		goleak.IgnoreTopFunction("go.temporal.io/sdk/internal.(*coroutineState).initialYield"),
	)
}
