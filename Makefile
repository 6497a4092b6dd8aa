# The two commands a newcomer needs: `make demo` and `make test`. Everything they need is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo setup test check test-slow test-gpu test-families clean

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# A stamp file per set of packages: a second run finds it newer than pyproject.toml and starts at once.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "make: '$(PYTHON)' not found; install Python 3.11 or newer, or say PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than Python 3.11; say PYTHON=/path/to/python3.11"; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing Paddock into $(VENV) (once; a minute or two)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the test tools and the independent implementations the tests compare with (once)"
	@$(PIP) install -c constraints.txt -e '.[dev,oracles]'
	@touch $@

setup: $(VENV)/.installed   ## install Paddock into .venv

demo: $(VENV)/.installed    ## tell a story from the bundled model
	@$(BIN)/paddock demo

check: $(VENV)/.installed-dev   ## style, lint, types
	@$(BIN)/ruff check src tests
	@$(BIN)/ruff format --check src tests
	@$(BIN)/mypy

test: check                 ## everything quick: style, types, tests
	@$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-dev   ## the long tier: fuzzing, memory limits, llama.cpp as an oracle
	@$(PIP) install -c constraints.txt -e '.[slow-oracles]'
	@$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.installed-dev    ## what needs an accelerator
	@$(BIN)/python -m pytest -m gpu

test-families: $(VENV)/.installed-dev   ## every family beside its oracle, with the figures
	@PADDOCK_TABLE=1 $(BIN)/python -m pytest -q tests/model/test_families.py

clean:           ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
