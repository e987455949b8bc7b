//go:build tools

// Package vault pins the modules that the Vault server for tests is built
// from. build.sh in this folder builds it; nothing imports this package.
package vault

import _ "github.com/hashicorp/vault"
