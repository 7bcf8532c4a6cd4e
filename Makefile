# `make demo` and `make test` set up everything on a fresh machine: Python 3.11+, git and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
LOCK := requirements/lock.txt
STAMP := $(VENV)/.installed

SEARCH_MINUTES ?= 60
SEARCH_EXAMPLES ?= 2000

.PHONY: setup demo test test-slow test-search lint types lock clean

setup: $(STAMP)

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d; call: make PYTHON=python3.12" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## the whole path on rendered cars, in minutes
	$(BIN)/hectocar demo --out demo

test: setup  ## the fast suite
	$(BIN)/python -m pytest -n 2

test-slow: setup  ## what takes minutes: the demo, and training on the real data
	$(BIN)/python -m pytest -m slow --timeout=3600

test-search: setup  ## weekly: every property test with random examples for SEARCH_MINUTES; SEARCH_SEED=N repeats a find
	SEARCH_MINUTES=$(SEARCH_MINUTES) SEARCH_EXAMPLES=$(SEARCH_EXAMPLES) $(BIN)/python tests/search.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

lock: $(STAMP)  ## pin the newest versions, with hashes
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --extra test --extra lint pyproject.toml requirements/build.in -o $(LOCK)

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache
