package servers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/vaulttest"
)

func TestFind(t *testing.T) {
	for _, program := range []string{programTemporal, programCLI, programChromium} {
		t.Run(program, func(t *testing.T) {
			path, err := find(t.Context(), program)
			if err != nil {
				t.Fatal(err)
			}
			if !filepath.IsAbs(path) {
				t.Errorf("%s is not absolute", path)
			}
		})
	}
}

func TestFindSaysWhatToDo(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("WAXSEAL_CACHE", cache)
	for _, program := range []string{programTemporal, programCLI} {
		t.Run(program, func(t *testing.T) {
			_, err := find(t.Context(), program)
			missing, ok := errors.AsType[*NotInstalledError](err)
			if !ok {
				t.Fatalf("got %v, want a NotInstalledError", err)
			}
			if missing.Program != program || !strings.HasPrefix(missing.Path, cache) {
				t.Errorf("got %+v", missing)
			}
			if !strings.Contains(err.Error(), "make servers") {
				t.Errorf("%q does not say how to install it", err)
			}
		})
	}
	t.Run("RunTemporal", func(t *testing.T) {
		if _, err := RunTemporal(t.Context(), TemporalOptions{}); !errors.As(err, new(*NotInstalledError)) {
			t.Errorf("got %v", err)
		}
	})
}

// TestVaultIsWhereItIsLookedFor checks that install.sh and package vaulttest, which does
// not call it, agree on one version and one path.
func TestVaultIsWhereItIsLookedFor(t *testing.T) {
	t.Setenv(vaulttest.BinEnv, "")
	path, err := find(t.Context(), "vault")
	if err != nil {
		t.Fatal(err)
	}
	if got := vaulttest.Binary(t); got != path {
		t.Errorf("vaulttest looks at %s, install.sh puts it at %s", got, path)
	}
}

func TestFindWithoutTheScript(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := find(t.Context(), programCLI); err == nil || !strings.Contains(err.Error(), "no e2e/servers/install.sh") {
		t.Errorf("got %v", err)
	}
}

func TestFindWithABrokenScript(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("servers", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("servers/install.sh", []byte("exit 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t.Context(), programCLI); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}
