# The verbs of the project. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run build test lint bench clean

help: ## List the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: ## Install what is missing, build, and serve on https://localhost:8443
	@packaging/prerequisites run
	cargo run --release -- serve

build: ## Build the release binary
	@packaging/prerequisites run
	cargo build --release

test: ## Install what the tests need, and run them all
	@packaging/prerequisites test
	cargo test --no-fail-fast

lint: ## Check form, lints and the documentation of the code
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

bench: ## Measure the edge beside NGINX
	@packaging/prerequisites bench
	benches/edge.sh

clean: ## Remove what was built
	cargo clean
