# make demo    the main job on a real local cluster; ends by itself
# make test    all tests, two files at a time: much of it is waiting for processes
# make check   format, lint, types, Rust lints
# Each makes .venv itself when something that it installs has changed. Needed: Python 3.11 or newer, make, cargo.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SETUP := .venv/.complete
INSTALLED := requirements-dev.txt constraints.txt pyproject.toml $(wildcard plugins/*/pyproject.toml) \
	$(wildcard frost-ed25519-py/*.toml) frost-ed25519-py/Cargo.lock $(wildcard frost-ed25519-py/src/*.rs)
RUST := cd frost-ed25519-py && cargo
ORIGINAL := tests/fixtures/rust
ORIGINAL_BUILT := $(ORIGINAL)/target/.complete

.PHONY: demo test check format openapi load micro bench bench-quick soak fuzz clean

demo: $(SETUP)
	@$(BIN)/frost-sidecar demo

test: $(SETUP) $(ORIGINAL_BUILT)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(SETUP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(RUST) fmt --check
	$(RUST) clippy --quiet --all-targets -- -D warnings
	$(RUST) clippy --quiet --all-targets --all-features -- -D warnings
	for version in 1 2 3; do (cd $(ORIGINAL)/crate-$$version && cargo fmt --check && \
		cargo clippy --quiet --locked --target-dir ../target -- -D warnings) || exit 1; done

# 10,000 signatures through the Unix socket while a signer is killed and restarted
load: $(SETUP)
	$(BIN)/python benchmarks/load.py

# all figures of docs/performance.md, with charts: about twelve minutes; run it where nothing else runs
bench: $(SETUP)
	$(BIN)/python -m benchmarks.bench --charts

# the same figures within two minutes, less firm; prints them and writes nothing
bench-quick: $(SETUP)
	$(BIN)/python -m benchmarks.bench --quick

# the hot pieces one by one (pytest-benchmark), in processor time: for comparing before and after a change
micro: $(SETUP)
	$(BIN)/python -m pytest benchmarks/micro --benchmark-timer time.thread_time

# a million signatures while signers and sidecar are killed and restarted, and then everything checked: a quarter of an hour
soak: $(SETUP)
	$(BIN)/python -m benchmarks.soak

# docs/openapi.json, after a change of the HTTP contract
openapi: $(SETUP)
	$(BIN)/python -c 'import msgspec; from frost_sidecar.openapi import DOCUMENT as d; print(msgspec.json.format(d).decode())' > docs/openapi.json

# every decoder of outside bytes, fed with damaged ones for 10 minutes (docs/fuzzing.md); exits with 1 on a finding
fuzz: $(SETUP)
	$(BIN)/python -m tests.fuzz.run --seconds 600

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(RUST) fmt

clean:
	rm -rf .venv frost-ed25519-py/target $(ORIGINAL)/target

$(SETUP): $(INSTALLED)
	@echo "Setting up .venv (the first time builds the Rust binding: about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@

$(ORIGINAL_BUILT): $(ORIGINAL)/main.rs $(wildcard $(ORIGINAL)/crate-*/Cargo.*)
	@echo "Building what reads group.json as the original does, with three versions of its crate (half a minute) ..."
	@for version in 1 2 3; do \
		cargo build --quiet --locked --manifest-path $(ORIGINAL)/crate-$$version/Cargo.toml --target-dir $(ORIGINAL)/target || exit 1; \
	done
	@touch $@
