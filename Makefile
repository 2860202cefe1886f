# Roadstead. `make help` lists what there is to do.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dev-installed
PYTEST := $(BIN)/pytest -q --timeout 120
export PYTHONWARNINGS := default

.DEFAULT_GOAL := help
.PHONY: help demo up down test test-unit test-flows test-docker lint contracts contracts-check bench venv system \
	lock wheels packages image clean

help:  ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z][a-z-]*:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST); echo

##@ Use it
demo: system venv  ## the whole story: a shop pushed, scanned, deployed, served over HTTPS, killed, scaled, traced
	@$(BIN)/python examples/demo.py

up: system venv  ## start the platform in the background (stop it with make down)
	@$(BIN)/roadstead up --detach

down: venv  ## stop the platform
	@$(BIN)/roadstead down

##@ Test it
test: system venv lint contracts-check  ## everything that needs no Docker: units, contracts, integration, flows
	$(BIN)/python tools/run_tests.py

test-unit: venv  ## the unit tests alone (seconds)
	$(PYTEST) tests/unit tests/contract

test-flows: system venv  ## the flows: real clients, real containers
	$(PYTEST) tests/flows tests/conformance tests/chaos

test-docker: system venv  ## the Docker suites; starts an engine of the distribution where none runs
	@tests/docker/run

bench: system venv  ## all benchmarks, or one: make bench NAME=…; a table, and build/bench.json
	@$(BIN)/python -m tests.bench $(NAME)

##@ Work on it
lint: venv  ## ruff, and import-linter for the direction of imports
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@mkdir -p build; $(BIN)/lint-imports >build/lint-imports.log 2>&1 || { cat build/lint-imports.log; exit 1; }

contracts: venv  ## generate contracts/aws from the AWS models, and the schemas and samples of our own
	$(BIN)/python tools/generate_contracts.py
	$(BIN)/python -m tools.contract_documents

contracts-check: venv  ## fail when generated contracts are stale
	@$(BIN)/python tools/generate_contracts.py --check
	@$(BIN)/python -m tools.contract_documents --check

lock: venv  ## write the lock files anew (versions and hashes)
	PATH=$(CURDIR)/$(BIN):$$PATH tools/lock.sh

wheels: venv  ## the wheels that the container image is built of
	@tools/wheels.sh

packages:  ## the Debian packages that the base image lacks (BASE_IMAGE=…): haproxy, fetched by its own apt
	@tools/packages.sh $(BASE_IMAGE)

image: wheels packages  ## the container image of all services (BASE_IMAGE=… for another base)
	docker build --network none --file deploy/Dockerfile $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
		--tag roadstead:local .

clean:  ## remove what was built, not the virtual environment
	rm -rf build .pytest_cache .ruff_cache .hypothesis .import_linter_cache

##@ Set it up (the targets above do this by themselves)
venv: $(STAMP)  ## the virtual environment with the pinned dependencies

$(STAMP): deploy/requirements/dev.lock pyproject.toml
	@tools/venv.sh $(PYTHON) $(VENV)
	@touch $(STAMP)

system:  ## what is needed of the system: says what and why, then installs it where it may
	@PYTHON=$(PYTHON) tools/system.sh
