# make demo: set everything up and show what it does.  make test: set everything up and test.
# make check: lint, types and fast tests in the environment that `make test` created.
# make coverage: coverage of the fast tests.  make docs: build the documentation site.
PYTHON ?= $(shell for name in python3.12 python3.11 python3 python3.13; do \
  "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && echo "$$name" && break; done)
TEST := .venv-test/bin
TEXT ?=

.PHONY: help demo test check coverage format bench docs clean
help:
	@sed -n 's/^# //p' Makefile

define need_python
@test -n "$(PYTHON)" || { echo "nllb needs Python 3.11 or 3.12, and none is on PATH: install one, or make PYTHON=/path/to/python3.12" >&2; exit 2; }
@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null \
  || { echo "nllb needs Python's venv module, and $(PYTHON) has none: install python3-venv" >&2; exit 2; }
endef

.venv/ready: pyproject.toml
	$(need_python)
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable .
	@touch $@

.venv-test/ready: pyproject.toml
	$(need_python)
	$(PYTHON) -m venv .venv-test
	$(TEST)/python -m pip install --quiet --upgrade pip
	$(TEST)/python -m pip install --quiet --editable '.[all,dev]'
	@touch $@

demo: .venv/ready
	@TEXT='$(subst ','\'',$(TEXT))' .venv/bin/python -m nllb.cli.demo

test: .venv-test/ready
	$(TEST)/ruff check .
	$(TEST)/ruff format --check .
	$(TEST)/mypy
	$(TEST)/python -m pytest -n 2 --dist worksteal tests

check: .venv-test/ready
	$(TEST)/ruff check .
	$(TEST)/ruff format --check .
	$(TEST)/mypy
	$(TEST)/python -m pytest -n 2 -m 'not slow' tests

coverage: .venv-test/ready
	$(TEST)/python -m pytest -n 2 --dist worksteal -m 'not slow' --cov --cov-report=term tests

docs: .venv-test/ready
	$(TEST)/python -m mkdocs build --strict

format: .venv-test/ready
	$(TEST)/ruff check --fix .
	$(TEST)/ruff format .

bench: .venv-test/ready
	$(TEST)/python -m tests.bench

clean:
	rm -rf build dist *.egg-info .venv .venv-test
