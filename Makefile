# Everything a person needs; each target says what it does.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
HOURS ?= 6
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test serve check bench campaign clean

demo: $(VENV)/.installed  ## set up .venv and run the main job once
	$(BIN)/tendon demo

test: $(VENV)/.installed-test  ## set up what the tests need (Debian packages by apt) and run the suite
	tests/install-programs
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

serve: $(VENV)/.installed  ## run the embedded system with the settings of the environment
	$(BIN)/tendon serve

check: $(VENV)/.installed-test  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test  ## measure the hot paths against their peers
	$(BIN)/python -m tests.benchmarks

campaign: $(VENV)/.installed-test  ## fuzz what takes bytes, then break everything that can break for HOURS (6)
	tests/install-programs
	$(PIP_INSTALL) --editable '.[workers,test,campaign]'
	$(BIN)/python -m tests.faults.fuzz all
	$(BIN)/python -m tests.faults.receiving --calls --kills 200 $(if $(filter 0,$(shell id -u)),--cuts 200)
	$(BIN)/python -m tests.faults.campaign --hours $(HOURS)

clean:
	rm -rf $(VENV) tendon-demo

$(VENV)/bin/python:
	@command -v git >/dev/null || { echo "Tendon needs git: install it (Debian: apt install git)."; exit 1; }
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Tendon needs Python 3.11 or newer: install it (Debian: apt install python3)."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Tendon needs Python's venv: install it (Debian: apt install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing what the shipped pipelines need into $(VENV); the first time takes a minute or two."
	$(PIP_INSTALL) --editable '.[workers]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) --editable '.[workers,test]'
	@touch $@
