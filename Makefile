# Every target works as the first command in a fresh clone: what it needs is put into .venv, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench soak bounds clean

help:
	@echo "make demo    train two networks on handwritten digits, draw their graphs"
	@echo "make test    lint, types and all tests but the soak tests"
	@echo "make lint    ruff (rules and format) and mypy alone"
	@echo "make bench   measure beside other frameworks; ARGS=\"--only 'gemm*'\" measures a part"
	@echo "make soak    the tests that run for minutes"
	@echo "make bounds  the tests of programs again, with every access to memory in generated code checked"
	@echo "make clean   remove .venv and everything generated"

demo: $(VENV)/.installed
	@$(BIN)/graphflow demo

test: lint
	$(BIN)/python -m pytest -W error

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.installed-test
	$(BIN)/python -m pytest -W error -m soak

bounds: $(VENV)/.installed-test
	GRAPHFLOW_CHECK=2 $(BIN)/python -m pytest -W error tests/compiler tests/ops tests/e2e tests/graphflow

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis graph*.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The files .installed* say that a set-up step was finished, and for which pyproject.toml.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("graphflow needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % v[:2])'
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	@echo "installing graphflow and what it runs with (once)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.created pyproject.toml
	@echo "installing graphflow and its tools for '$*' (once)"
	@$(INSTALL) --editable '.[$*]'
	@touch $@
