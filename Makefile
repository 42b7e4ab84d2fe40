# `make` prints the targets.  pip takes the index its user has configured; the versions are those of constraints.txt.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000

# processes of `make ci`; most tests of whole services wait for something
AT_ONCE ?= 2
SIDE_BY_SIDE := -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder

# What fails beside others is run once more with the machine to itself, and has to pass there: a deadline that two whole
# services at once have made somebody miss is no fault of the code.  It stands in the log all the same.
AGAIN := -x -p no:randomly --last-failed --last-failed-no-failures none

passes = CI=1 $(BIN)/python -m pytest $(1) $(2) || CI=1 $(BIN)/python -m pytest $(1) $(AGAIN)

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -qq --constraint constraints.txt --editable

.DEFAULT_GOAL := help
.PHONY: help run test check format bench chaos ci

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## the whole service on this machine; HOST=127.0.0.1 PORT=8000 are the defaults
	@exec $(BIN)/millpond up --host "$(HOST)" --port "$(PORT)"

test: $(VENV)/.dev ## every test that needs no service beyond what the set-up brings
	$(BIN)/python -m pytest

check: $(VENV)/.dev ## format, lint, types, imports, unit tests: the loop while typing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit

format: $(VENV)/.dev ## put the code into the one format, and repair what ruff can repair
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## figures side by side with what one would use instead; some 20 minutes
	$(BIN)/python -m tests.benchmarks

chaos: $(VENV)/.dev ## bounded runs under faults and deaths, then the books are checked
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.chaos.crashes
	$(BIN)/python -m tests.chaos.push

ci: check ## what .ci/run calls: check, then every test, those that need services and a browser too
	$(call passes,-m 'not browser' --ignore tests/unit,$(SIDE_BY_SIDE))
	$(call passes,-m browser --ignore tests/unit,$(SIDE_BY_SIDE))

# A stamp is older than its inputs when they changed: then pip brings the environment up to date.
$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Millpond needs Python 3.11 or newer; this one is %d.%d. Name another: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo "installing Millpond into $(VENV) (once; some 30 MB)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the tools for development into $(VENV) (once; some 120 MB)" >&2
	@$(INSTALL) '.[dev,postgres,mysql,results,memcached]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "installing what is compared into $(VENV) (once; some 40 MB)" >&2
	@$(INSTALL) '.[dev,postgres,mysql,results,memcached,bench]'
	@touch $@
