# `make serve` needs Python >= 3.11, make and a package index; `make test` uses Node >= 20 too where it is there.
# Every environment is made from a lock file with hashes, once: the stamps below remember what has been installed.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first interpreter that is new enough; `make serve PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$candidate"; break; }; done)

# `make serve` is for trying it out, also from another machine or from outside a container.
HOST := 0.0.0.0

VENV := .venv
CLIENT_VENV := .venv-client
LOCK_VENV := .venv-lock
NODE_TESTS := tests
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
INSTALL_LOCKED := requirements/install.sh

# Test processes run in parallel; a module's tests stay together, so that they share its server. There is one process
# more than cores, for the tests that wait for a server.
PYTEST_WORKERS ?= $(shell expr 1 + "$$(getconf _NPROCESSORS_ONLN)")
PYTEST_ARGS ?=
# What the tools remember between runs stands outside the checkout.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/durable-streams-server/$(notdir $(CURDIR))
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export COVERAGE_FILE := $(CACHE)/coverage/data
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
# Tests start some hundred Python processes: without saved bytecode each compiles for another second.
export PYTHONPYCACHEPREFIX := $(CACHE)/bytecode
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/python -m pytest -o cache_dir=$(CACHE)/pytest -n $(PYTEST_WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

.PHONY: serve
serve: $(VENV)/run.stamp ## Install what is missing and serve on port 4437 (HOST=127.0.0.1: for this machine alone)
	@DS_SERVER__HOST="$${DS_SERVER__HOST:-$(HOST)}" exec $(BIN)/gunicorn -c gunicorn.conf.py wsgi:app

.PHONY: test-fast
test-fast: $(VENV)/dev.stamp ## Run what needs no server process: protocol, streams, storage, web, configuration (a minute on two cores)
	$(PYTEST) -m fast $(PYTEST_ARGS)

.PHONY: test
test: $(VENV)/dev.stamp $(CLIENT_VENV)/client.stamp node-packages ## Run that, every storage's contract, the official suite and clients (5 to 7 minutes on two cores)
	$(PYTEST) -m "not long" $(PYTEST_ARGS)

.PHONY: test-long
test-long: $(VENV)/dev.stamp $(CLIENT_VENV)/client.stamp node-packages ## Run the rest: every mode and worker, power cuts, crashes, coverage (an hour)
	$(PYTEST) -m long $(PYTEST_ARGS)
	$(MAKE) --no-print-directory coverage

.PHONY: coverage
coverage: $(VENV)/dev.stamp ## Check that the tests reach 95 % of protocol/ and streams/
	@mkdir -p $(dir $(COVERAGE_FILE))
	$(PYTEST) -m "measured and not long" -q --cov --cov-report=
	$(BIN)/python -m coverage report --skip-covered --show-missing --fail-under=95 \
		--include='durable_streams/protocol/*,durable_streams/streams/*'

.PHONY: check
check: lint format-check types ## Lint, format check and types: what a change must pass beside the tests

.PHONY: lint
lint: $(VENV)/dev.stamp ## Look for mistakes with ruff
	$(BIN)/ruff check .

.PHONY: format-check
format-check: $(VENV)/dev.stamp ## Say which files ruff would format in another way
	$(BIN)/ruff format --check .

.PHONY: format
format: $(VENV)/dev.stamp ## Format the sources and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: types
types: $(VENV)/dev.stamp ## Check the types with mypy --strict
	$(BIN)/mypy

.PHONY: bench-storage
bench-storage: $(VENV)/dev.stamp ## Measure every storage mode on this machine; BENCH_FOLDER names the disk that is meant
	@$(BIN)/python -m benchmarks.storage --folder "$(or $(BENCH_FOLDER),.)" $(BENCH_ARGS)

.PHONY: lock
lock: $(LOCK_VENV)/lock.stamp ## Pin requirements/*.txt and the npm lock to pyproject.toml and package.json
	cd requirements && for group in run dev client; do ./compile.sh "../$(LOCK_VENV)/bin/uv" "$$group" || exit 1; done
	cd $(NODE_TESTS) && npm install --package-lock-only --no-audit --no-fund

.PHONY: clean
clean: ## Remove what these commands have installed and built
	rm -rf $(VENV) $(CLIENT_VENV) $(LOCK_VENV) $(NODE_TESTS)/node_modules $(CACHE) build dist *.egg-info

# --- environments -------------------------------------------------------------------------------------------------

.PHONY: python
python:
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Python 3.11 or newer is needed and '$(or $(PYTHON),python3)' is not: install one, or name it with 'make PYTHON=/path/to/python3'." >&2; \
		exit 1; fi
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "'$(PYTHON)' lacks its venv module: on Debian and Ubuntu install the package python3-venv." >&2; exit 1; fi

# The interpreter is checked only when something is to be installed: a second start asks nobody anything.
$(VENV)/run.stamp: requirements/run.txt pyproject.toml requirements/install.sh
	@$(MAKE) --no-print-directory python
	@echo "Installing the locked dependencies into $(VENV) (first start, or the lock has changed) ..."
	@"$(PYTHON)" -m venv $(VENV)
	@$(INSTALL_LOCKED) $(BIN)/python requirements/run.txt
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@echo "Installing the locked development tools into $(VENV) ..."
	@$(INSTALL_LOCKED) $(BIN)/python requirements/dev.txt
	@touch $@

$(CLIENT_VENV)/client.stamp: requirements/client.txt
	@$(MAKE) --no-print-directory python
	@echo "Installing the official Python client into $(CLIENT_VENV) ..."
	@"$(PYTHON)" -m venv $(CLIENT_VENV)
	@$(INSTALL_LOCKED) $(CLIENT_VENV)/bin/python requirements/client.txt
	@touch $@

$(LOCK_VENV)/lock.stamp:
	@$(MAKE) --no-print-directory python
	@"$(PYTHON)" -m venv $(LOCK_VENV)
	@$(LOCK_VENV)/bin/python $(PIP_INSTALL) uv
	@touch $@

# Without Node the tests that need it skip and say so (and fail where CI=true), so this is no error here.
.PHONY: node-packages
node-packages:
	@if node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then \
		$(MAKE) --no-print-directory $(NODE_TESTS)/node_modules/.stamp; \
	else echo "Node >= 20 is not installed: the conformance suite and the JavaScript client will not run."; fi

$(NODE_TESTS)/node_modules/.stamp: $(NODE_TESTS)/package.json $(NODE_TESTS)/package-lock.json
	@echo "Installing the locked npm packages into $(NODE_TESTS) ..."
	@cd $(NODE_TESTS) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# --- this server against its peers ----------------------------------------------------------------------------------

.PHONY: bench-subscriptions
bench-subscriptions: $(VENV)/dev.stamp ## Measure what 10,000 subscriptions add to an append
	$(BIN)/python -m benchmarks.subscriptions $(BENCH_ARGS)

.PHONY: bench-postgres
bench-postgres: $(VENV)/dev.stamp ## Measure what the postgres mode costs, against what it should reach
	$(BIN)/python -m benchmarks.scale $(BENCH_ARGS)

.PHONY: simulate-scale
simulate-scale: $(VENV)/dev.stamp ## Simulate up to 64 workers and 8 databases from the costs that bench-postgres has measured
	$(BIN)/python -m benchmarks.scale.publish

.PHONY: bench-webhooks
bench-webhooks: $(VENV)/dev.stamp ## Measure small POSTs while 1,000 webhook subscriptions are kept busy
	$(BIN)/python -m benchmarks.webhooks $(BENCH_ARGS)

.PHONY: bench-bombs
bench-bombs: $(VENV)/dev.stamp ## Measure what the worst requests of one client cost the worker, the table of docs/security.md
	$(BIN)/python -m benchmarks.bombs $(BENCH_ARGS)

.PHONY: bench
bench: $(VENV)/dev.stamp ## Measure this server against every peer that can be installed, one at a time on one core
	$(BIN)/python -m benchmarks.peers $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: $(VENV)/dev.stamp ## The same in two minutes, with Node alone
	$(BIN)/python -m benchmarks.peers --rows quick --rounds 2 $(BENCH_ARGS)
