# Everything a fresh machine needs besides Python 3.11–3.13 and make is put into .venv by these targets.
PYTHON ?= python3
N ?= 50
SEGMENTS ?= 10000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test test-long kills soak check bench clean

demo: $(VENV)/demo ## hear data/scripts narrated: no key, no cost, no network once installed
	$(BIN)/narrate demo

test: $(VENV)/test ## the tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-long: $(VENV)/test ## the tests that take longer than a coffee
	$(BIN)/python -m pytest -m 'long and not alone' --numprocesses 2 --dist worksteal
	$(BIN)/python -m pytest -m 'long and alone'

kills: $(VENV)/test ## a run killed N times at random moments, then brought to its end
	KILLS=$(N) $(BIN)/python -m pytest -m long tests/test_kills.py

soak: $(VENV)/test ## SEGMENTS segments under random faults: how it ends, and how much memory it takes
	SEGMENTS=$(SEGMENTS) $(BIN)/python -m pytest -m long -s tests/test_soak.py

check: $(VENV)/check ## formatting, lint, types, docstrings, spelling, Docker's files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/interrogate flows tests bench
	$(BIN)/typos
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

bench: $(VENV)/test ## comparisons, as ratios
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) data/demo

$(VENV)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "Narrate needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/demo: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/test: $(VENV)/demo
	$(PIP) --editable '.[demo,asr,test]'
	touch $@

$(VENV)/check: $(VENV)/test
	$(PIP) --editable '.[demo,asr,test,check]'
	touch $@
