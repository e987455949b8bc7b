package servers

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// CLI returns the temporal command with these arguments, ready to be run. It
// ends with the test, and neither the user's configuration nor TEMPORAL_*
// variables reach it: all it knows is in args.
func CLI(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	path, err := CLIPath(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	home := tb.TempDir()
	cmd := exec.CommandContext(tb.Context(), path, args...) //nolint:gosec // our own program
	cmd.Env = append(environWithout("TEMPORAL_"), "HOME="+home, "XDG_CONFIG_HOME="+home)
	return cmd
}

// CLIPath returns the path of the temporal command, or a *NotInstalledError.
func CLIPath(ctx context.Context) (string, error) { return find(ctx, programCLI) }

// Chromium returns the path of a Chromium or Chrome.
func Chromium(tb testing.TB) string {
	tb.Helper()
	path, err := find(tb.Context(), programChromium)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// environWithout is this process's environment without the variables that
// would point a program somewhere else than the test means.
func environWithout(prefix string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, prefix) {
			env = append(env, kv)
		}
	}
	return env
}
