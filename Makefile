# Everything that is done with this project. `make` lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test check lint format generate lock official conformance package bench clean

PYTHON ?= python3
BIN := .venv/bin
# The machine's own pip installs into .venv: not every Python carries the one that `venv` would put there.
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
READY := .venv/.ready
PACKAGING := .venv/package/.ready

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## See it work: a picture in, a picture out, no key and no network
	@$(BIN)/inferencesh-mcp demo

test: $(READY) ## Run the tests
	@$(BIN)/python -m pytest -q

check: lint test package official conformance ## All that CI runs

lint: $(READY) ## Check style and types
	@echo "Checking style and types" >&2
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pyright

format: $(READY) ## Put the code in its usual form
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

official: $(READY) ## Let the official SDKs and the MCP Inspector judge, unmodified (needs Node 20 or newer)
	@$(BIN)/python tests/official/run.py
	@$(BIN)/python tests/inspector/run.py


package: $(READY) $(PACKAGING) ## Build the wheel and the sdist, and judge them, the image and the manifests
	@PYTHON=$(PYTHON) $(BIN)/python tests/package/run.py
