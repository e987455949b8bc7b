#!/usr/bin/env bash
# Installs or builds what the tests need, into a cache outside the repository, keyed by version. Only what is missing is
# built; concurrent runs wait for each other; a build that fails or is interrupted leaves nothing behind.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage:
  install.sh [NAME...]    installs what is missing (default: all)
  install.sh path NAME    prints where NAME's program is, installed or not

NAME:
  all            everything that `make test` needs: vault vault-kubernetes temporal temporal-cli chromium
  lint           everything that `make check` needs: golangci-lint gofumpt
  vault          Vault server (about 5 minutes to build the first time)
  vault-kubernetes
                 Vault's login for Kubernetes, which that server leaves out (a minute or two)
  temporal       Temporal server and Web UI in one process (about 5 minutes)
  temporal-cli   the temporal command (about 4 minutes)
  chromium       a Chromium or Chrome, from the system's package manager when there is none
  golangci-lint, gofumpt, govulncheck

Environment:
  WAXSEAL_CACHE     the cache (default: $XDG_CACHE_HOME/waxseal, that is ~/.cache/waxseal)
  WAXSEAL_CHROMIUM  the browser to use
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WAXSEAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/waxseal}

# required MODULE GO.MOD prints the version that GO.MOD requires, without its v.
required() { awk -v m="$1" '$1 == m { sub(/^v/, "", $2); print $2; exit }' "$2"; }

vault_version=$(required github.com/hashicorp/vault "$here/vault/go.mod")
temporal_version=$(required go.temporal.io/server "$here/temporal/go.mod")
vault_kubernetes_version=0.23.1 # the one that Vault 1.21.4 ships; internal/vaulttest names it too
cli_version=1.5.1
golangci_version=2.15.0
gofumpt_version=0.12.0
govulncheck_version=1.9.0

export GOWORK=off LC_ALL=C # LC_ALL: file names sort the same everywhere
unset GOOS GOARCH GOBIN

say() { printf '%s\n' "$*" >&2; }
fail() { # MESSAGE HINT
  say "install.sh: error: $1"
  say "install.sh: hint: $2"
  exit 1
}

# temporal_key changes whenever the server's own sources do.
temporal_key() {
  local f
  for f in "$here"/temporal/go.{mod,sum} "$here"/temporal/*.go; do
    case $f in *_test.go) ;; *) cat "$f" ;; esac
  done | git hash-object --stdin | cut -c1-12
}

# find_browser prints the first browser that runs. (Ubuntu's chromium-browser can be a stub that only asks for a snap.)
find_browser() {
  local b
  for b in "${WAXSEAL_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
    '/Applications/Chromium.app/Contents/MacOS/Chromium' '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'; do
    [ -n "$b" ] || continue
    if b=$(command -v "$b") && "$b" --version >/dev/null 2>&1 </dev/null; then
      printf '%s\n' "$b"
      return
    fi
  done
  return 1
}

# program NAME prints where NAME's program belongs.
program() {
  case $1 in
  vault) echo "$cache/vault-$vault_version/vault" ;;
  vault-kubernetes) echo "$cache/vault-plugin-auth-kubernetes-$vault_kubernetes_version/vault-plugin-auth-kubernetes" ;;
  temporal) echo "$cache/temporal-$temporal_version-$(temporal_key)/temporal-server" ;;
  temporal-cli) echo "$cache/temporal-cli-$cli_version/temporal" ;;
  golangci-lint) echo "$cache/golangci-lint-$golangci_version/golangci-lint" ;;
  gofumpt) echo "$cache/gofumpt-$gofumpt_version/gofumpt" ;;
  govulncheck) echo "$cache/govulncheck-$govulncheck_version/govulncheck" ;;
  chromium) find_browser || echo /usr/bin/chromium ;;
  *) usage >&2; fail "no program is called '$1'" "use one of the names above" ;;
  esac
}

# build NAME WORKDIR OUTFILE makes NAME's program.
build() {
  case $1 in
  vault) bash "$here/vault/build.sh" "$2" "$3" ;;
  vault-kubernetes) go_install "$3" github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes@v"$vault_kubernetes_version" ;;
  temporal) cd "$here/temporal" && go build -v -buildvcs=false -ldflags='-s -w' -o "$3" . ;;
  temporal-cli) go_install "$3" github.com/temporalio/cli/cmd/temporal@v"$cli_version" ;;
  golangci-lint) go_install "$3" github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v"$golangci_version" ;;
  gofumpt) go_install "$3" mvdan.cc/gofumpt@v"$gofumpt_version" ;;
  govulncheck) go_install "$3" golang.org/x/vuln/cmd/govulncheck@v"$govulncheck_version" ;;
  esac
}

go_install() { # OUTFILE PACKAGE@VERSION
  GOBIN=$(dirname "$1") go install -v -ldflags='-s -w' "$2"
}

# watched TITLE LOG COMMAND... runs COMMAND with its output in LOG and shows that it lives: a running clock on a terminal,
# a line every 15 seconds elsewhere.
watched() {
  local title=$1 log=$2 began=$SECONDS shown=0 child t
  shift 2
  set -m # a process group of its own, so that an interrupt ends the compilers too
  "$@" >"$log" 2>&1 </dev/null &
  child=$!
  set +m
  # shellcheck disable=SC2064 # the child as it is now
  trap "kill -- -$child 2>/dev/null; exit 130" INT TERM
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    t=$((SECONDS - began))
    if [ -t 2 ]; then
      printf '\r\033[K  %s: %dm%02ds  %.50s' "$title" $((t / 60)) $((t % 60)) "$(tail -n 1 "$log" | tr -d '\r')" >&2
    elif [ $((t - shown)) -ge 15 ]; then
      shown=$t
      say "  $title: still at it after ${t}s ($(wc -l <"$log" | tr -d ' ') steps)"
    fi
  done
  [ -t 2 ] && printf '\r\033[K' >&2
  trap - INT TERM
  wait "$child"
}

# install NAME TITLE DURATION builds NAME's program unless it is there. It runs in a subshell: lock, temporary folder and
# traps end with it.
install() (
  name=$1 title=$2 duration=$3
  path=$(program "$name")
  [ -x "$path" ] && return
  command -v go >/dev/null || fail "Go is missing" "install Go 1.26 or newer: https://go.dev/doc/install"
  mkdir -p "$cache"
  if command -v flock >/dev/null; then # without it (macOS) two runs may build the same thing; the last one wins
    exec 9>"$cache/.$name.lock"
    flock -n 9 || { say "Waiting for another build of $title"; flock 9; }
    [ -x "$path" ] && return
  fi
  work=$(mktemp -d "$cache/.build-$name.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  log=$cache/$name.log
  say "Building $title (takes $duration; log: $log)"
  began=$SECONDS
  if ! watched "$title" "$log" build "$name" "$work/src" "$work/$(basename "$path")"; then
    tail -n 30 "$log" >&2
    fail "building $title failed; the end of $log is above" "it needs the Go module proxy: check GOPROXY and the network, then run this again"
  fi
  mkdir -p "$(dirname "$path")"
  mv -f "$work/$(basename "$path")" "$path"
  say "Built $title in $((SECONDS - began)) s: $path"
)

install_chromium() {
  [ -z "${WAXSEAL_CHROMIUM:-}" ] || command -v "$WAXSEAL_CHROMIUM" >/dev/null ||
    fail "WAXSEAL_CHROMIUM is '$WAXSEAL_CHROMIUM', which is no program" "set it to a Chromium or Chrome, or unset it"
  find_browser >/dev/null && return
  local sudo=() log=$cache/chromium.log
  command -v apt-get >/dev/null ||
    fail "no Chromium or Chrome was found" "install one (macOS: brew install --cask chromium; Fedora: dnf install chromium), or set WAXSEAL_CHROMIUM"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "no Chromium was found and installing it needs root" "run as root: apt-get install chromium"
    sudo -v || fail "installing Chromium needs root" "run: sudo apt-get install chromium"
    sudo=(sudo)
  fi
  mkdir -p "$cache"
  say "Installing chromium with apt-get (takes a minute or two; log: $log)"
  local aptget=(${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
  apt() { "${aptget[@]}" update && "${aptget[@]}" install -y --no-install-recommends chromium; }
  if ! watched chromium "$log" apt || ! find_browser >/dev/null; then
    tail -n 30 "$log" >&2
    fail "apt-get could not install a chromium that runs; the end of $log is above" "install Chromium or Chrome by hand, or set WAXSEAL_CHROMIUM"
  fi
}

get() {
  case $1 in
  all) for n in vault vault-kubernetes temporal temporal-cli chromium; do get $n; done ;;
  lint) for n in golangci-lint gofumpt; do get $n; done ;;
  vault) install vault "Vault $vault_version" "about 5 minutes" ;;
  vault-kubernetes) install vault-kubernetes "Vault's Kubernetes login $vault_kubernetes_version" "a minute or two" ;;
  temporal) install temporal "the Temporal server $temporal_version with its Web UI" "about 5 minutes" ;;
  temporal-cli) install temporal-cli "the temporal command $cli_version" "about 4 minutes" ;;
  golangci-lint) install golangci-lint "golangci-lint $golangci_version" "about 5 minutes" ;;
  gofumpt) install gofumpt "gofumpt $gofumpt_version" "a few seconds" ;;
  govulncheck) install govulncheck "govulncheck $govulncheck_version" "under a minute" ;;
  chromium) install_chromium ;;
  *) usage >&2; fail "nothing is called '$1'" "use one of the names above" ;;
  esac
}

main() {
  case ${1:-all} in
  -h | --help | help) usage ;;
  path)
    [ $# = 2 ] || { usage >&2; fail "path takes one name" "install.sh path temporal"; }
    program "$2"
    ;;
  *)
    for n in "${@:-all}"; do get "$n"; done
    ;;
  esac
}

# One line, so that bash has read all of this file before a build begins: it may change underneath (git pull).
main "$@"; exit
