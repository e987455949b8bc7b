package vaulttest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Version of Vault that the tests run against; the install script builds it.
const Version = "1.21.4"

// Where the binary is: BinEnv names it outright, else it is in the cache that
// `make servers` fills, below CacheEnv, XDG_CACHE_HOME or ~/.cache.
const (
	BinEnv   = "WAXSEAL_TEST_VAULT_BIN"
	CacheEnv = "WAXSEAL_CACHE"
)

// Binary returns the path of the Vault binary, which also is Vault's command
// line. It fails the test if there is none.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := findBinary(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// KubernetesPlugin is the version of Vault's Kubernetes auth method that Vault
// Version ships, and the test build of Vault leaves out; the install script
// builds it.
const KubernetesPlugin = "0.23.1"

// KubernetesPluginDir returns the folder with that plugin and nothing else, for
// Plugins. It fails the test if there is none.
func KubernetesPluginDir(t testing.TB) string {
	t.Helper()
	dir, err := findPlugin(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func findPlugin(getenv func(string) string) (string, error) {
	const name = "vault-plugin-auth-kubernetes"
	dir := filepath.Join(cache(getenv), name+"-"+KubernetesPlugin)
	if !isProgram(filepath.Join(dir, name)) {
		return "", fmt.Errorf("vaulttest: no Kubernetes plugin in %s: run `make servers`", dir)
	}
	return dir, nil
}

func findBinary(getenv func(string) string) (string, error) {
	path := getenv(BinEnv)
	if path == "" {
		path = filepath.Join(cache(getenv), "vault-"+Version, "vault")
	}
	if !isProgram(path) {
		return "", fmt.Errorf("vaulttest: no Vault server at %s: run `make servers`, or set %s", path, BinEnv)
	}
	return path, nil
}

// cache returns the folder that `make servers` fills.
func cache(getenv func(string) string) string {
	if root := getenv(CacheEnv); root != "" {
		return root
	}
	root := getenv("XDG_CACHE_HOME")
	if root == "" {
		root = filepath.Join(getenv("HOME"), ".cache")
	}
	return filepath.Join(root, "waxseal")
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}
