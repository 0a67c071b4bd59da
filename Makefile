# Everything a developer types. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?=
BENCH_ARGS ?=
TORTURE_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test torture check format bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## make .venv with Waypost and the tools (again only when pyproject.toml changes)

# The stamp comes last, so an installation that broke off is begun anew.
$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	    echo "make: $(PYTHON) is not installed. Install Python 3.11 or newer, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: Waypost needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: $(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

demo: $(READY) ## watch the main job: two providers, an old and a new server, real messages
	@$(BIN)/waypost demo

test: $(READY) ## run the tests; what needs a program that is absent is skipped and listed
	$(BIN)/python -m pytest $(PYTEST_ARGS)

torture: $(READY) ## kill it at every step, for as long as told (TORTURE_ARGS="--minutes 10 --seed 7")
	PYTHONPATH=tests $(BIN)/python -m torture $(TORTURE_ARGS)

check: $(READY) ## lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the code into its format
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

bench: $(READY) ## measure against other systems (BENCH_ARGS=--help lists the options)
	$(BIN)/python -m bench $(BENCH_ARGS)

# Written to a neighbour first: a generator that fails leaves the page as it was.
docs: $(READY) ## write the generated pages anew: the configuration reference, the presets, the state diagram
	$(BIN)/python -m waypost.config.manual > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	$(BIN)/python -m waypost.config.preset_page > docs/presets.md.new
	mv docs/presets.md.new docs/presets.md
	$(BIN)/python -m waypost.smtp.diagram > docs/states.md.new
	mv docs/states.md.new docs/states.md

clean: ## remove everything that can be made again
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/.work
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
