#!/usr/bin/env bash
# Builds the real Vault server from Go modules alone. Usage: build.sh WORKDIR OUTFILE
#
# Vault is licensed under the BUSL; this build is for tests on the machine it is made on.
#
# Vault 1.21.4 is developed against the sdk in its own repository. The sdk that is published beside it, v0.21.0, differs
# in two places, so a copy of that module in WORKDIR is edited and go.mod points at the copy. The tag "minimal" leaves
# out the plugins for databases and clouds; transit, which the tests use, stays.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$1 out=$2
sdk=github.com/hashicorp/vault/sdk@v0.21.0

mkdir -p "$work"
cp "$here/go.mod" "$here/go.sum" "$here/tools.go" "$work/"
cd "$work"
src=$(GOFLAGS=-mod=mod go mod download -json "$sdk" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
[ -d "$src" ] || { echo "vault/build.sh: $sdk was not downloaded" >&2; exit 1; }
rm -rf vaultsdk
cp -R "$src" vaultsdk
chmod -R u+w vaultsdk

# edit FILE OLD NEW: replaces text that must be there (sed -i is not the same everywhere).
edit() {
  grep -qF -- "$2" "$1" || { echo "vault/build.sh: $1 no longer has: $2" >&2; exit 1; }
  OLD=$2 NEW=$3 awk 'BEGIN { old = ENVIRON["OLD"]; new = ENVIRON["NEW"] }
    { while (i = index($0, old)) { printf "%s%s", substr($0, 1, i - 1), new; $0 = substr($0, i + length(old)) } print }' "$1" >"$1.new"
  mv "$1.new" "$1"
}
edit vaultsdk/framework/backend.go \
  'ActivationFunc func(context.Context, *logical.Request, string) error' \
  'ActivationFunc func(context.Context, *logical.Request) error'
edit vaultsdk/helper/keysutil/lock_manager.go 'func (lm *LockManager) RestorePolicy(' 'func (lm *LockManager) restorePolicy('
cat >>vaultsdk/helper/keysutil/lock_manager.go <<'GO'

// RestorePolicy has the signature that Vault 1.21.4 calls.
func (lm *LockManager) RestorePolicy(ctx context.Context, storage logical.Storage, name, backup string, force bool) (string, error) {
	return name, lm.restorePolicy(ctx, storage, name, backup, force)
}
GO
go build -v -mod=mod -buildvcs=false -tags minimal -ldflags='-s -w' -o "$out" github.com/hashicorp/vault
