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

func findBinary(getenv func(string) string) (string, error) {
	path := getenv(BinEnv)
	if path == "" {
		root := getenv(CacheEnv)
		if root == "" {
			cache := getenv("XDG_CACHE_HOME")
			if cache == "" {
				cache = filepath.Join(getenv("HOME"), ".cache")
			}
			root = filepath.Join(cache, "waxseal")
		}
		path = filepath.Join(root, "vault-"+Version, "vault")
	}
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("vaulttest: no Vault server at %s: run `make servers`, or set %s", path, BinEnv)
	}
	return path, nil
}
