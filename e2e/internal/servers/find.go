package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The programs, as e2e/servers/install.sh names them.
const (
	programTemporal = "temporal"
	programVault    = "vault"
	programCLI      = "temporal-cli"
	programChromium = "chromium"
)

// NotInstalledError says that a program the tests need is not there.
type NotInstalledError struct {
	Program string // as install.sh names it
	Path    string // where it should be
}

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("servers: %s is not installed at %s (%s)", e.Program, e.Path, e.Hint())
}

// Hint says how to install what is missing.
func (e *NotInstalledError) Hint() string {
	return "run `make servers` in the repository's root"
}

// find returns the path of a program. install.sh decides where programs are, so
// that there is one place that knows versions and the cache.
func find(ctx context.Context, program string) (string, error) {
	script, err := installScript()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "bash", script, "path", program).Output() //nolint:gosec // our own script
	if err != nil {
		return "", fmt.Errorf("servers: ask install.sh for %s: %w", program, err)
	}
	path := strings.TrimSpace(string(out))
	if _, err := os.Stat(path); err != nil {
		return "", &NotInstalledError{Program: program, Path: path}
	}
	return path, nil
}

// installScript looks for e2e/servers/install.sh from the working directory
// upwards: tests run in their package's folder, the demo in e2e or the root.
func installScript() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("servers: find install.sh: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		for _, rel := range []string{"servers/install.sh", "e2e/servers/install.sh"} {
			path := filepath.Join(dir, rel)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				return path, nil
			} else if err != nil && !errors.Is(err, os.ErrNotExist) {
				return "", fmt.Errorf("servers: find install.sh: %w", err)
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("servers: find install.sh: there is no e2e/servers/install.sh in %s or above it", wd)
		}
	}
}
