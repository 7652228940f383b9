# Shelfwise: `make demo` and `make test` make the environment they need. `make help` lists all.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
CONFIG ?= pipeline/configs/complete_journey.yaml
ARGS ?=
WORKERS ?= 2
SECONDS ?= 600

# Set in many container images; with it every process recompiles 11,000 modules (50 s instead of 16).
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV

.NOTPARALLEL:
.PHONY: help env demo serve test test-fast test-slow test-compiled mutants fuzz benchmark-index benchmark-funnel benchmark-retrieval benchmark-search screenshots lint format lock clean distclean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## make .venv from the lock (CPython 3.11; PYTHON=... names one); does nothing when up to date
	@scripts/env.sh

demo: env ## run the pipeline on the full data, serve the model, ask it (ARGS="--sample 200": quick)
	@$(PY) -m pipeline.demo --config $(CONFIG) $(ARGS)

serve: env ## serve what `make demo` made: the shop's pages and API (ARGS="--port 9000"), until Ctrl-C
	@$(PY) -m pipeline.serve --config $(CONFIG) $(ARGS)

test: lint ## lint and all tests, in one session that keeps both processes busy: what CI runs (WORKERS=2)
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

test-fast: env ## the tests that take seconds
	@$(PY) -m pytest -m "not slow" -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

test-slow: env ## the end-to-end tests
	@$(PY) -m pytest -m slow -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

test-compiled: env ## the compiled Kubeflow spec, task by task, to an equal pushed model (a quarter of an hour)
	@SHELFWISE_TEST_COMPILED=1 $(PY) -m pytest -n 0 tests/e2e/test_whole_pipeline.py -k "compiled_spec or killed" $(ARGS)

mutants: env ## which share of small faults in the code the fast tests see (ARGS="--only batching")
	@$(PY) -m benchmarks.mutants --jobs $(WORKERS) $(ARGS)

fuzz: env ## random bytes for the model server's gRPC and REST decoders (SECONDS=600; needs the extra `fuzz`)
	@$(PY) -m tests.fuzz.decoders --seconds=$(SECONDS) $(ARGS)

benchmark-index: env ## exact, int8 and partitioned search of a million vectors
	@$(PY) -m benchmarks.index $(ARGS)

benchmark-funnel: env ## the whole funnel against classical recommenders (ARGS="--recs FOLDER": also against other lists)
	@$(PY) benchmarks/funnel.py --config $(CONFIG) $(ARGS)

benchmark-retrieval: env ## towers and sources against classical recommenders (ARGS="--window test": the test window)
	@$(PY) benchmarks/retrieval.py --config pipeline/configs/complete_journey.yaml $(ARGS)
	@$(PY) benchmarks/retrieval.py --config pipeline/configs/movielens_100k.yaml $(ARGS)

benchmark-search: env ## search against BM25, vectors and both, on judgements (CONFIG=..., ARGS="--set data.root=FOLDER")
	@$(PY) benchmarks/search.py --config $(if $(filter file,$(origin CONFIG)),pipeline/configs/esci_us.yaml,$(CONFIG)) $(ARGS)

screenshots: env ## pictures of the pages for docs/images, of a shop that `make serve` serves (ARGS="--url ...")
	@$(PY) -m benchmarks.screenshots $(ARGS)

lint: env ## ruff (rules and formatting), import-linter (layers), pyrefly (types)
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@.venv/bin/lint-imports --no-logo --no-cache
	@.venv/bin/pyrefly check --python-interpreter-path $(PY) --min-severity error

format: env ## ruff: fix what can be fixed, format all files
	@$(PY) -m ruff check --fix-only
	@$(PY) -m ruff format

lock: env ## resolve setup.py again into the lock; UPGRADE=1 takes the newest versions allowed
	@.venv/bin/uv pip compile setup.py requirements/requirements.in --extra benchmark --extra gateway --extra kubeflow --extra test \
	  --override requirements/overrides.txt --build-constraints requirements/tools.txt \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	  --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) --quiet -o requirements/lock-py311.txt
	@git --no-pager diff --stat -- requirements/lock-py311.txt 2>/dev/null || true

clean: ## remove runs, caches and build leftovers (.venv stays; distclean removes it too)
	@rm -rf runs build dist *.egg-info .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean
	@rm -rf .venv .venv.lock
