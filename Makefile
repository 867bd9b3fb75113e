# make run    install Slipway into .venv and start it whole, on this machine, on port 5000
# make test   run every test, with the real registries, brokers and clients this machine can have
# make check  what must hold before a commit: style, types, architecture, unit tests
# make bench  measure Slipway side by side with CNCF distribution
# make soak   the long forms: thousands of kills

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Options for each tool: make run ARGS="--listen :8080", make test ARGS="-k conformance", …
ARGS ?=
# PARTS=no leaves real components as they are: what is missing is skipped, with the reason.
PARTS ?= yes
KILLS ?= 3000

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --retries 5 --timeout 60

.PHONY: run test check bench soak install dev parts

run: install
	$(BIN)/slipway serve $(ARGS)

test: parts
	$(BIN)/python -m pytest $(ARGS)

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/unit $(ARGS)

bench: parts
	$(BIN)/python -m bench $(ARGS)

soak: parts
	SLIPWAY_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/fault tests/e2e/test_conformance.py $(ARGS)

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

parts: dev
ifeq ($(PARTS),yes)
	-$(BIN)/python -m tests.parts install
endif

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[dev]'
	touch $@ $(VENV)/.installed
