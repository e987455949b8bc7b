# Everything a developer or a CI job runs. `make` alone lists it.

SHELL := bash
.DEFAULT_GOAL := help

# Where the codec server of `make run` keeps its keyring.
DATA_DIR ?= $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/waxseal
# How long each fuzz target runs.
FUZZTIME ?= 30s
# Flags for the soak: make soak SOAKFLAGS='-short'
SOAKFLAGS ?=
# More flags for go test: make test TESTFLAGS='-run TestOpen -v'
TESTFLAGS ?=
# Tests wait for servers and for time more than they compute: more at a time than there may be cores.
GOTEST := go test -timeout 20m -parallel 4

# The packages that erase keys: make check tests them again in a build in which the runtime erases them too.
# A test of internal/erase holds the list.
ERASING := ./envelope/... ./internal/erase

INSTALL := e2e/servers/install.sh
GOFUMPT = "$$($(INSTALL) path gofumpt)"

# The Go modules of this repository. (e2e/servers/vault only pins what Vault is built from.)
MODULES := . e2e e2e/servers/temporal $(patsubst %/go.mod,%,$(wildcard bench/go.mod examples/go.mod))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## build bin/waxseal
	go build -o bin/waxseal ./cmd/waxseal

run: build ## start the codec server on 127.0.0.1:8081, with a local keyring in DATA_DIR
	exec bin/waxseal serve --listen 127.0.0.1:8081 --data-dir "$(DATA_DIR)"

demo: build ## start Temporal, its Web UI, the codec server and a worker; says what URL to open
	@$(INSTALL) temporal
	cd e2e && go build -o ../bin/demo ./cmd/demo && exec ../bin/demo

servers: ## install or build what the tests run against, once
	@$(INSTALL) all

# Each module is compiled before its tests run (-exec true runs none of them): a compiler
# beside them takes the processors from tests that wait for a server. The packages of e2e run
# one after the other for the same reason: each starts servers of its own.
test: servers ## run all tests of all modules; installs and builds what they need
	@set -uo pipefail; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; failed=; began=$$SECONDS; \
	for m in $(MODULES); do \
	  printf '\n== %s: go test ./...\n' "$$m"; \
	  (cd "$$m" && go test -exec true ./... >/dev/null 2>&1); \
	  (cd "$$m" && $(GOTEST) $$(case "$$m" in e2e) echo -p 1;; esac) $(TESTFLAGS) ./...) 2>&1 | tee -a "$$log" || failed="$$failed $$m"; \
	done; \
	printf '\n== Summary: %d packages passed, %d failed, in %d s\n' \
	  "$$(grep -c '^ok  *	' "$$log")" "$$(grep -c '^FAIL	' "$$log")" $$((SECONDS - began)); \
	grep -E '^(FAIL	| *--- FAIL)' "$$log"; \
	if [ -n "$$failed" ]; then echo "make test: FAILED in:$$failed"; exit 1; fi; \
	echo "make test: all passed"

check: lint ## formatting, linters, vet, and the tests with the race detector
	@$(INSTALL) vault vault-kubernetes
	$(GOTEST) -race $(TESTFLAGS) ./...
	@echo '== GOEXPERIMENT=runtimesecret: the packages that erase keys'
	GOEXPERIMENT=runtimesecret go test -short $(ERASING)

race: servers ## the tests of e2e with the race detector; on a machine that does nothing else
	cd e2e && go test -race -short -timeout 30m -p 1 -parallel 2 $(TESTFLAGS) ./...

lint: ## formatting, golangci-lint and go vet, in all modules
	@$(INSTALL) lint
	@unformatted=$$($(GOFUMPT) -l .); \
	if [ -n "$$unformatted" ]; then echo "Not formatted (make fmt does it):"; echo "$$unformatted"; exit 1; fi
	@linter=$$($(INSTALL) path golangci-lint); failed=; \
	for m in $(MODULES); do \
	  echo "== $$m: golangci-lint, go vet"; \
	  (cd "$$m" && "$$linter" run ./... && go vet ./...) || failed="$$failed $$m"; \
	done; \
	if [ -n "$$failed" ]; then echo "make lint: FAILED in:$$failed"; exit 1; fi

fmt: ## format all Go files
	@$(INSTALL) gofumpt
	$(GOFUMPT) -w .

vuln: ## look for known vulnerabilities in what is linked in (asks vuln.go.dev)
	@$(INSTALL) govulncheck
	"$$($(INSTALL) path govulncheck)" ./...

fuzz: ## run each fuzz target for FUZZTIME (30s)
	@set -uo pipefail; failed=; n=0; \
	while IFS=: read -r file name; do \
	  n=$$((n + 1)); echo "== $$file: $$name for $(FUZZTIME)"; \
	  go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null || failed="$$failed $$name"; \
	done < <(grep -rHoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' --exclude-dir=e2e --exclude-dir=bench . | sed 's/:func /:/'); \
	if [ "$$n" = 0 ]; then echo "make fuzz: found no fuzz target"; exit 1; fi; \
	if [ -n "$$failed" ]; then echo "make fuzz: FAILED:$$failed"; exit 1; fi; \
	echo "make fuzz: $$n targets found nothing"

soak: ## run the long tests, about two hours and a half; SOAKFLAGS=-short rehearses them, SOAKFLAGS=-help says more
	@$(INSTALL) vault temporal
	cd e2e && go build -o ../bin/soak ./cmd/soak && exec ../bin/soak $(SOAKFLAGS)

bench: ## run the benchmarks of all modules
	@for m in $(MODULES); do (cd "$$m" && go test -run '^$$' -bench . -benchmem $(TESTFLAGS) ./...) || exit 1; done

clean: ## remove what was built in this folder (the servers stay in their cache)
	rm -rf bin build e2e/artifacts

.PHONY: help build run demo servers test check race lint fmt vuln fuzz soak bench clean
