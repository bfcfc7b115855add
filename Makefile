# The verbs of the project. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run build deb test lint bench clean

help: ## List the verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: ## Install what is missing, build, and serve on https://localhost:8443
	@packaging/prerequisites run
	cargo run --release -- serve

build: ## Build the release binary
	@packaging/prerequisites run
	cargo build --release

deb: ## Build the Debian package into target/debian, and let lintian judge it
	@packaging/prerequisites deb
	package=$$(packaging/deb) && lintian --fail-on error "$$package" && echo "$$package"

test: ## Install what the tests need, and run them all
	@packaging/prerequisites test
	cargo test --no-fail-fast

lint: ## Check form, lints and the documentation of the code
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

bench: ## Measure the edge beside NGINX, the API beside its peers, and tasks beside Celery
	@packaging/prerequisites bench
	benches/edge.sh
	benches/api.sh
	benches/tasks.sh

clean: ## Remove what was built
	cargo clean

# Of the host that ENV names: a Host of ~/.ssh/config, or config/environments/ENV.toml. assets/docs/operate/deploying.md
# says what else may be set: DRY_RUN, FORCE, DEB, V and more.
.PHONY: configure deploy status logs rollback env-diff backup

configure: ## ENV=prod: prepare a host, once: package, .env file, doctor
deploy: ## ENV=prod: build, check, install, verify; go back by itself if it fails
status: ## ENV=prod: what serves
logs: ## ENV=prod: the journal (LINES=100, FOLLOW=1)
rollback: ## ENV=prod: go back to the version before, or to V=VERSION
env-diff: ## ENV=prod: compare the .env file here with the one on the host
backup: ## ENV=prod: fetch a backup (FILE=PATH)

configure deploy status logs rollback env-diff backup:
	@packaging/deploy/run $@
