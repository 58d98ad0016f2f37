# Targets for people and for CI. Everything happens in .venv and out/; only `runtime` may install a system package.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs schemas runtime

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --constraint constraints.txt

help:
	@echo "make demo     two scenarios, three controls, ten trials each, into out/demo (the hold is shortened)"
	@echo "make test     all tests"
	@echo "make check    ruff and mypy"
	@echo "make docs     the documentation site, into site/"
	@echo "make bench    what a cell and the verifier cost, as ratios"
	@echo "make schemas  write the shipped JSON Schemas anew"

# What it takes to run.
$(VENV)/.run: pyproject.toml constraints.txt
	@test -x $(BIN)/python || "$$(scripts/find-python)" -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

# What it takes to develop, too.
$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable '.[dev]'
	@touch $@

runtime: $(VENV)/.run
	@scripts/ensure-runtime $(BIN)/python

# Each demo is a new run: a folder that holds the plan's results already would only be read again.
demo: runtime
	@echo "demo: the hold is 1 s instead of 5 s, so that sixty trials take seconds"
	@rm -rf out/demo
	$(BIN)/redline run self_replication shutdown_avoidance -T trigger=instructed \
	  --model redline/replicator --model redline/flaky --model redline/refuser -M p=0.5 \
	  --trials 10 --hold 1 --out out/demo

test: $(VENV)/.dev runtime
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev runtime
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

schemas: $(VENV)/.run
	$(BIN)/python -m redline.schemas
