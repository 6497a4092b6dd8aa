# The two commands a newcomer needs: `make demo` and `make test`. Everything they need is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo setup native test check test-slow test-gpu test-families test-kernels test-sanitizers test-neon soak web check-web test-web clean

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# A stamp file per set of packages: a second run finds it newer than what it was made from and starts at once.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "make: '$(PYTHON)' not found; install Python 3.11 or newer, or say PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than Python 3.11; say PYTHON=/path/to/python3.11"; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing Paddock into $(VENV) and compiling its kernels (once; a few minutes)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@ $(VENV)/.compiled

# The native kernels beside the Python sources. An installation touches this stamp last, so that only a later change of C++
# comes here. A module older than its sources is worse than none, so none is left where they do not compile.
MODULE := src/paddock/kernels/_native.*.so
COMPILE = if $(BIN)/python -c 'import nanobind, scikit_build_core' 2>/dev/null; then isolation=--no-build-isolation; fi; \
	PADDOCK_NATIVE=1 $(PIP) install --no-deps $$isolation -e .
$(VENV)/.compiled: $(VENV)/.installed CMakeLists.txt $(wildcard src/paddock/kernels/cpp/*)
	@echo "compiling the kernels"
	@{ $(COMPILE); } >/dev/null 2>&1 || { rm -f $(MODULE); echo "they do not compile, so PyTorch does the work (why: make native)"; }
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the test tools and the independent implementations the tests compare with (once)"
	@$(PIP) install -c constraints.txt -e '.[dev,oracles,clients]'
	@touch $@ $(VENV)/.compiled

setup: $(VENV)/.compiled    ## install Paddock into .venv

native: $(VENV)/.installed  ## compile the kernels again, and say why where they do not compile
	@$(COMPILE)
	@$(BIN)/python -c 'import paddock.kernels._native'
	@touch $(VENV)/.compiled

demo: $(VENV)/.compiled     ## tell a story from the bundled model
	@$(BIN)/paddock demo

check: $(VENV)/.installed-dev $(VENV)/.compiled   ## style, lint, types
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/ruff format --check src tests benchmarks
	@$(BIN)/mypy

# A process for each core takes whole files in turn: tests mostly wait for Python, which uses one.
test: check                 ## everything quick: style, types, tests
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

test-slow: $(VENV)/.installed-dev $(VENV)/.compiled   ## the long tier: fuzzing, memory limits, llama.cpp as an oracle
	@$(PIP) install -c constraints.txt -e '.[slow-oracles]'
	@$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.installed-dev $(VENV)/.compiled    ## what needs an accelerator
	@$(BIN)/python -m pytest -m gpu

test-families: $(VENV)/.installed-dev $(VENV)/.compiled   ## every family beside its oracle, with the figures
	@PADDOCK_TABLE=1 $(BIN)/python -m pytest -q tests/model/test_families.py

# Variants that this build or this processor lacks are not in the list that Python gives.
test-kernels: $(VENV)/.installed-dev $(VENV)/.compiled   ## the kernels' tests, once for each variant of this machine
	@for name in $$($(BIN)/python -c 'from paddock.kernels import native; print(*native.available())'); do \
	echo "PADDOCK_KERNELS=$$name"; PADDOCK_KERNELS=$$name $(BIN)/python -m pytest -q tests/kernels || exit 1; done

test-sanitizers: $(VENV)/.installed-dev $(VENV)/.compiled   ## the kernels under address and undefined-behaviour sanitizers
	@$(BIN)/python tests/kernels/sanitize.py

# 77: this machine has not what that takes, and the program has said what.
test-neon: $(VENV)/.installed-dev   ## the kernels of 64-bit ARM, cross-compiled and run under emulation
	@$(BIN)/python tests/kernels/emulate.py || { test $$? = 77 && echo "skipped"; }

# The web interface is built into src/paddock/serve/web, and what was built is committed: only who changes web/ needs Node.
NODE_OK = node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@command -v node >/dev/null || { echo "make: the web interface is built with Node 20.19 or newer, and there is none here"; exit 1; }
	@$(NODE_OK) || { echo "make: Node $$(node --version) is older than 20.19, which builds the web interface"; exit 1; }
	@npm --prefix web ci --no-fund --no-audit --loglevel=error
	@touch $@

web: web/node_modules/.package-lock.json   ## build the web interface into the package (needs Node)
	@cd web && npm run --silent build

check-web: web/node_modules/.package-lock.json   ## the web interface: types, tests, built as committed (needs Node)
	@cd web && npm run --silent check && npm run --silent test
	@built=$$(mktemp -d) && trap 'rm -rf "$$built"' EXIT && (cd web && npm run --silent build -- --logLevel error --outDir "$$built/web" --emptyOutDir) && \
	diff -r "$$built/web" src/paddock/serve/web || { echo "make: src/paddock/serve/web is not what web/ builds; run 'make web' and commit it"; exit 1; }

test-web: check-web $(VENV)/.installed-dev $(VENV)/.compiled   ## the same, and in a browser
	@$(BIN)/python -m pytest -q $(wildcard tests/serve/test_browser*.py)

soak: $(VENV)/.installed-dev $(VENV)/.compiled   ## a server under load: 1,000 leavers, then ten minutes of everything (MINUTES=10)
	@$(BIN)/python -m pytest -q -s -m "slow or not slow" tests/serve/test_load.py tests/serve/test_overload.py
	@$(BIN)/python tests/serve/soak.py --minutes $(or $(MINUTES),10)

clean:           ## remove .venv, caches and what was compiled
	rm -rf $(VENV) build web/node_modules $(MODULE) .pytest_cache .ruff_cache .mypy_cache .hypothesis
