# Everything a person or a machine runs here. `make test` is the gate; `make verify` is the same with the long things.
# Every step says in one line what it does.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := test
.NOTPARALLEL:
.PHONY: demo demo-check test verify bench instructions figures lint unit doctest release sdk peers replicas fuzz deny long vault tools services valgrind sbom fuzz-coverage

# The tools that cargo does not bring, in the versions the gate was tried with.
CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
# Only `make sbom` needs it.
CARGO_CYCLONEDX := 0.5.9

FUZZ_SECONDS ?= 10
SBOM ?= $(or $(CARGO_TARGET_DIR),target)/mcp-oauth-gateway.cdx.json
GATEWAY_BIN ?= $(or $(CARGO_TARGET_DIR),target)/release/mcp-oauth-gateway

demo: ## the gateway and an upstream in one process, for a client of yours
	@echo '== demo: the gateway in front of a stand-in upstream'
	cargo run --profile demo -p mcp-gateway-demo

demo-check: ## the same, with a scripted browser and client
	@echo '== demo-check: one whole sign-in and a tool call'
	cargo run --profile demo -p mcp-gateway-demo -- --self-check

test: lint unit doctest release demo-check sdk peers fuzz deny
	@echo '== test: everything passed'

verify: test long replicas vault
	@echo '== verify: fuzz, 120 s per target'
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=120
	@echo '== verify: everything passed'

bench:
	@echo '== bench: benches'
	cargo bench --bench hot_path

instructions: valgrind
	@echo '== instructions: CPU instructions of one proxied request'
	cargo bench --profile long --bench instructions

figures:
	@echo '== figures: sizes, cycles and exceptions of the code in src'
	@cargo test --quiet --test plan figures -- --exact --nocapture

lint:
	@echo '== lint: formatting, then clippy with every warning an error'
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --lib --bins --test contract --test features --features raw,vault -- -D warnings
	cargo clippy --no-default-features --lib --bins -- -D warnings

# Tests that need a redis-server say so and pass without this; here they run.
unit long: export GATEWAY_REDIS := 1

unit: services
	@echo '== unit: the tests of the workspace'
	@if cargo nextest --version >/dev/null 2>&1; then set -x; cargo nextest run --workspace; else set -x; cargo test --workspace --all-targets; fi
	@echo '== unit: the one story of the feature raw, and the store of the feature vault'
	cargo test --features raw,vault --lib --test contract --test features -- raw vault

doctest:
	@echo '== doctest: the examples in the documentation'
	cargo test --workspace --doc

release:
	@echo '== release: the binary as shipped'
	cargo build --release --locked
	@echo '== release: how fast it is ready, and how much memory it holds idle'
	tests/budget.sh $(GATEWAY_BIN)

sdk:
	@echo '== sdk: the Python and TypeScript packages for MCP servers'
	tests/peers/setup.sh
	sdk/test.sh

peers: release services
	@echo '== peers: real clients and servers against the binary'
	tests/peers/setup.sh
	cargo build --quiet -p mcp-gateway-standin --bin vendor
	GATEWAY_BIN=$(GATEWAY_BIN) tests/peers/run.sh

replicas: release services
	@echo '== replicas: 200 sign-ins over instances that are killed in turn, on one Redis and on no store'
	tests/peers/setup.sh
	GATEWAY_LONG=1 GATEWAY_BIN=$(GATEWAY_BIN) tests/peers/run.sh replicas replicas-none

fuzz: tools
	@echo '== fuzz: $(FUZZ_SECONDS) s per target'
	fuzz/run.sh $(FUZZ_SECONDS)

fuzz-coverage:
	@echo '== fuzz-coverage: what the seeds and the corpus of the fuzz targets reach'
	fuzz/coverage.sh

sbom:
	@cargo cyclonedx --version >/dev/null 2>&1 || { echo '== sbom: cargo-cyclonedx $(CARGO_CYCLONEDX) (built once)'; cargo install --quiet --locked cargo-cyclonedx@$(CARGO_CYCLONEDX); }
	@echo '== sbom: the bill of materials of the binary, CycloneDX'
	cargo cyclonedx --quiet --format json --spec-version 1.5 --target all --override-filename mcp-oauth-gateway.cdx
	@mkdir -p $(dir $(SBOM))
	@sed 's|$(CURDIR)|/mcp-oauth-gateway|g' mcp-oauth-gateway.cdx.json >$(SBOM)
	@rm mcp-oauth-gateway.cdx.json standin/mcp-oauth-gateway.cdx.json demo/mcp-oauth-gateway.cdx.json
	@echo '== sbom: $(SBOM)'

deny: tools
	@echo '== deny: what the dependencies are, their licences and where they come from'
	cargo deny --workspace check bans licenses sources

long: services
	@echo '== long: the tests that take minutes'
	GATEWAY_LONG=1 cargo test --profile long --workspace -- long

vault:
	@echo '== vault: signing in at RustyVault, a real server (built once, some minutes)'
	tests/rvault.sh

services:
	@tests/services.sh

valgrind:
	@tests/valgrind.sh

tools:
	@cargo deny --version >/dev/null 2>&1 || { echo '== tools: cargo-deny $(CARGO_DENY) (built once)'; cargo install --quiet --locked cargo-deny@$(CARGO_DENY); }
	@cargo fuzz --version >/dev/null 2>&1 || { echo '== tools: cargo-fuzz $(CARGO_FUZZ) (built once)'; cargo install --quiet --locked cargo-fuzz@$(CARGO_FUZZ); }
