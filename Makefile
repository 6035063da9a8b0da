# Everything that is done with this project. `make` lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test check lint evaluate format generate lock official conformance clients hosts windows package image manifests bundle bench faults soak mutants clean thorough release
.PHONY: handed-out judged

PYTHON ?= python3
BIN := .venv/bin
# The machine's own pip installs into .venv: not every Python carries the one that `venv` would put there.
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
READY := .venv/.ready
PACKAGING := .venv/package/.ready
CLIENTS := $(patsubst tests/judges/clients/%.lock,.venv/judges/%/.ready,$(wildcard tests/judges/clients/*.lock))

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## See it work: a picture in, a picture out, no key and no network
	@$(BIN)/inferencesh-mcp demo

test: $(READY) ## Run the tests (Python alone, five minutes on two cores)
	@$(BIN)/python -m pytest -q -m "not thorough and not timing and not programs"

thorough: $(READY) ## Run the tests that `make test` leaves out: each transport with each protocol version, random histories, the sandbox's own
	@$(BIN)/python -m pytest -q -m "thorough and not timing and not programs"
	@$(BIN)/python -m tests.programs nginx redis-server mkfs.exfat mount.exfat-fuse
	@$(BIN)/python -m pytest -q -n 0 -m "programs and not timing"  # replicas, a proxy, a load and a disk: they have the machine to themselves

check: lint test thorough ## All that CI runs (CONTRIBUTING.md says which programs it needs)
	@$(MAKE) --no-print-directory -j 2 handed-out judged  # each waits, for the network or for the other side
	@PYTHON=$(PYTHON) $(BIN)/python -m tests.judges.windows --if-possible  # its processes have the machine to themselves

handed-out: $(READY)
	@$(MAKE) --no-print-directory package && $(MAKE) --no-print-directory image && $(MAKE) --no-print-directory manifests

judged: $(READY)
	@$(MAKE) --no-print-directory official && $(MAKE) --no-print-directory conformance && $(MAKE) --no-print-directory clients

lint: $(READY) ## Check style, types and pages
	@echo "Checking style, types and pages" >&2
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@for system in linux win32 darwin; do $(BIN)/mypy --platform $$system || exit 1; done
	@for system in Linux Windows Darwin; do $(BIN)/pyright --pythonplatform $$system || exit 1; done
	@$(BIN)/codespell
	@$(BIN)/python -m tests.pages

format: $(READY) ## Put the code in its usual form
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

evaluate: $(READY) ## Do the everyday jobs with the fewest calls, and write the answers to tests/evaluation/working_day.md
	@$(BIN)/python -m tests.evaluation --write

official: $(READY) ## Let the official SDKs, the official MCP client for Node and the MCP Inspector judge, unmodified (needs Node 20 or newer)
	@$(BIN)/python tests/judges/official/run.py
	@$(BIN)/python tests/judges/inspector/run.py

conformance: $(READY) ## Let the official MCP conformance suite judge the server over HTTP, in both eras
	@$(BIN)/python -m tests.judges.conformance

clients: $(READY) $(CLIENTS) ## Let clients and agent kits that nobody here wrote judge the server (needs Node 20)
	@$(BIN)/python -m tests.judges.clients

hosts: $(READY) ## Let Claude Code, Codex, Gemini CLI, opencode, Copilot CLI and Qwen Code judge it, with a scripted model (needs npm and 1.5 GB)
	@$(BIN)/python -m tests.judges.hosts

windows: $(READY) ## Let Windows judge it: a real CPython under Wine, on Linux (root installs Debian's Wine; 1.2 GB)
	@PYTHON=$(PYTHON) $(BIN)/python -m tests.judges.windows

package: $(READY) $(PACKAGING) ## Build the wheel and the sdist, and judge them, the Dockerfile and the manifests
	@PYTHON=$(PYTHON) $(BIN)/python tests/package/run.py

image: $(READY) ## Build the image and run it, with Podman on a base of Debian's packages (root installs what is missing)
	@$(BIN)/python -m tests.package.image

manifests: $(READY) $(PACKAGING) ## Let their own tools judge what registries and hosts are given
	@$(BIN)/python tests/install/judge.py

release: handed-out ## Build and judge all that is published, and list what a person has left to do
	@$(BIN)/python tests/package/release.py

bundle: manifests ## Pack the desktop bundle: dist/inferencesh-mcp-*.mcpb

mutants: $(READY) ## Break each invariant in a copy, one at a time, and see a test go red (some minutes)
	@$(BIN)/python -m tests.mutations

bench: $(READY) ## Measure, each figure as a ratio in one run; `make generate` puts them into tests/benchmarks/README.md
	@$(BIN)/python -m pytest -q -n 0 -m timing
	@$(BIN)/python -m tests.benchmarks
	@PYTHON=$(PYTHON) $(BIN)/python -m tests.benchmarks.other_servers

faults: $(READY) ## Try the fifty faults on every wire in full, and say what came of each
	@$(BIN)/python -m tests.system.faults

soak: $(READY) ## Ten thousand operations on a bad network: none doubled, none lost, nothing left behind
	@$(BIN)/python -m tests.system.histories soak

generate: $(READY) ## Write the tools' contract, the pages' tables and the manifests anew
	@$(BIN)/python -m tests.generated

lock: $(READY) ## Choose versions anew
	@$(PIP) install -q uv
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  pyproject.toml --group dev -o requirements.lock --upgrade
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  --group pyproject.toml:package -o tests/package/requirements.lock --upgrade
	@for kind in agents fastmcp official; do \
	  $(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 \
	    --override tests/judges/clients/unused.txt tests/judges/clients/$$kind.in -o tests/judges/clients/$$kind.lock --upgrade; done
	@for kind in clients hosts; do \
	  (cd tests/judges/$$kind && npm install --package-lock-only --omit-lockfile-registry-resolved --loglevel=error); done

clean: ## Remove what was made
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Locked and hashed; the project itself comes last and brings nothing along.
$(READY): requirements.lock pyproject.toml
	@echo "Setting up .venv (the first time takes a minute)" >&2
	@$(PYTHON) -m venv --without-pip .venv
	@$(PIP) install -q --require-hashes -r requirements.lock
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q server  # what pip does for all but editable code: tests start hundreds of servers
	@touch $@

# Tools that only judge: apart, so that what they bring along changes nothing that is tested.
$(PACKAGING): tests/package/requirements.lock
	@$(PYTHON) -m venv --without-pip .venv/package
	@$(PYTHON) -m pip --python .venv/package/bin/python --disable-pip-version-check install -q --require-hashes -r $<
	@touch $@

# Each lock is complete, with what nobody uses left out (tests/judges/clients/unused.txt): pip is not to add it.
.venv/judges/%/.ready: tests/judges/clients/%.lock
	@$(PYTHON) -m venv --without-pip $(@D)
	@$(PYTHON) -m pip --python $(@D)/bin/python --disable-pip-version-check install -q --no-deps --require-hashes -r $<
	@touch $@
