# Every command of the project; `make help` lists them. Nothing needs to be prepared: what a target needs, it makes.
#
# Stamps under .venv and build/ remember what is installed, so a second call is quick. They are older than
# pyproject.toml, constraints.txt or a .proto file when one of these was changed, and then the step runs again.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 …` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find proto/tunesmith -name '*.proto')
VALIDATE_PROTO := proto/.third_party/buf/validate/validate.proto
NODE := build/node
BUF := $(NODE)/node_modules/.bin/buf
TESTS ?= tests

# Two threads that spin while they wait cost more than they save on a small machine; nothing asks a hub for anything.
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 0
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# ---- what people type ----------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/stubs ## Play, rate, train and listen: the whole loop, in about three minutes after installation
	$(BIN)/tunesmith demo

.PHONY: test
test: $(VENV)/stubs audiocraft-check $(if $(shell command -v npm),proto-tools) ## Run the whole test suite (TESTS=tests/store runs a part)
	$(BIN)/python -m pytest $(TESTS)

.PHONY: check
check: format lint types imports proto-check scripts-check test ## Everything that CI runs

.PHONY: bench
bench: $(VENV)/stubs ## Measure this machine: ratios, each measured in one run
	$(BIN)/python -m tests.bench

.PHONY: docs
docs: $(VENV)/stubs ## Write the generated reference pages anew
	$(BIN)/python docs/generate.py

.PHONY: site
site: $(VENV)/stubs ## Draw the documentation as a site in build/site; a warning fails it
	$(BIN)/python docs/build_site.py

.PHONY: fix
fix: $(VENV)/stubs proto-tools ## Format everything, and fix what can be fixed by machine
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	$(BUF) format --write proto

.PHONY: clean
clean: ## Remove everything that was built or installed here
	rm -rf $(VENV) build dist proto/.third_party proto/buf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find proto \( -name '*_pb2*.py' -o -name '*_pb2*.pyi' \) -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the parts of `check` ------------------------------------------------------------------------------------------

.PHONY: format
format: $(VENV)/stubs ## Check the formatting of Python
	$(BIN)/ruff format --check .

.PHONY: lint
lint: $(VENV)/stubs ## Lint Python
	$(BIN)/ruff check .

.PHONY: types
types: $(VENV)/stubs ## Check types, strictly
	$(BIN)/mypy

.PHONY: imports
imports: $(VENV)/stubs ## Check which package may import which
	$(BIN)/lint-imports

.PHONY: proto-check
proto-check: proto-tools ## Lint the contract, and compare it with the last release
	$(BUF) lint proto
	$(BUF) format --diff --exit-code proto
	@release=$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true); \
	if [ -z "$$release" ]; then \
	    echo "buf breaking: there is no release tag yet, so there is nothing to compare the contract with"; \
	else \
	    rm -rf build/released && mkdir -p build/released && \
	    git archive "$$release" proto | tar -x -C build/released && \
	    cp -r proto/.third_party build/released/proto/ && \
	    echo "buf breaking: against $$release" && $(BUF) breaking proto --against build/released/proto; \
	fi

.PHONY: audiocraft-check
audiocraft-check: $(VENV)/audiocraft ## Check that audiocraft is there, by which the tests judge what is exported
	@$(BIN)/python -m tests.support.audiocraft || \
	    { echo "audiocraft cannot be imported; install it again: rm $(VENV)/audiocraft && make install"; exit 1; }

.PHONY: scripts-check
scripts-check: ## Check the syntax of shell scripts and systemd units
	@for script in .ci/run deploy/systemd/verify; do bash -n $$script; done
	@if command -v systemd-analyze >/dev/null; then bash deploy/systemd/verify; \
	else echo "systemd-analyze is not installed: the units were not verified"; fi

# ---- installation --------------------------------------------------------------------------------------------------

.PHONY: install
install: $(VENV)/stubs $(VENV)/audiocraft ## Create .venv and install everything into it

# torch comes first and by itself: asked for by another package, a range takes the newest build with its CUDA libraries.
$(VENV)/installed: pyproject.toml constraints.txt proto/hatch_build.py
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; install it, or name it: make PYTHON=…"; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); this takes about a minute where the network is quick."
	$(BIN)/python -m pip install -qq --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@

# For the tests only, and without what it requires: it pins releases of PyTorch and its family that are years old.
$(VENV)/audiocraft: $(VENV)/installed tests/requirements-audiocraft.txt
	$(BIN)/python -m pip install -qq --no-deps --requirement tests/requirements-audiocraft.txt
	@touch $@

# The installation has generated the stubs already; later changes of a .proto file need only this.
$(VENV)/stubs: $(VENV)/installed $(PROTOS)
	$(BIN)/python proto/hatch_build.py
	@touch $@

# ---- tools that are not Python: buf, and the Node client of tests/clients --------------------------------------------

.PHONY: proto
proto: $(VENV)/stubs proto-tools ## Generate the Python stubs and fetch what buf needs

.PHONY: proto-tools
proto-tools: $(NODE)/installed $(VALIDATE_PROTO)

$(NODE)/installed: tests/clients/node/package.json tests/clients/node/package-lock.json
	@command -v npm >/dev/null || { echo "Node.js and npm are needed for buf; on Debian: apt-get install nodejs npm"; exit 1; }
	mkdir -p $(NODE)
	cp tests/clients/node/package.json tests/clients/node/package-lock.json $(NODE)/
	npm install --prefix $(NODE) --ignore-scripts --no-save --no-audit --no-fund --loglevel=error
	@touch $@

# Another project's file (Apache-2.0): taken from its package, not committed.
$(VALIDATE_PROTO): $(VENV)/installed
	rm -rf build/protovalidate
	mkdir -p build/protovalidate $(@D)
	$(BIN)/python -m pip download -qq --no-deps --no-binary protovalidate --dest build/protovalidate protovalidate==1.2.0
	tar -xzf build/protovalidate/protovalidate-1.2.0.tar.gz -C build/protovalidate
	cp build/protovalidate/protovalidate-1.2.0/upstream/proto/buf/validate/validate.proto $@
	@touch $@
