# Everything a fresh machine needs besides Python 3.11–3.13 and make is put into .venv by these targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test check bench clean

demo: $(VENV)/demo ## hear data/scripts narrated: no key, no cost, no network once installed
	$(BIN)/narrate demo

test: $(VENV)/test ## the tests
	$(BIN)/python -m pytest

check: $(VENV)/check ## formatting, lint, types, docstrings, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/interrogate flows tests bench
	$(BIN)/typos

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
	$(PIP) --editable '.[demo,test]'
	touch $@

$(VENV)/check: $(VENV)/test
	$(PIP) --editable '.[demo,test,check]'
	touch $@
