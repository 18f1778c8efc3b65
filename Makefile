# Every target that runs something sets itself up first (scripts/setup.sh: minutes once, then about a second).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ifdef TORCH_INDEX
export PASR_TORCH_INDEX := $(TORCH_INDEX)
endif
REAL_DATA ?= ../shared/real
PYTEST_ARGS ?=
TEST_PROCESSES ?= 2
RUN := source scripts/env.sh &&

.PHONY: help setup demo track real test test-unit lint format freeze clean distclean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv ready (TORCH_INDEX=<url> or TORCH_INDEX=pip chooses the torch build)
	@bash scripts/setup.sh

demo: setup ## node, player and recorder on a simulated scene; writes out/demo/index.html
	@$(RUN) pasr demo --out out/demo

track: setup ## a minute of a hard scene through the node, judged over time; writes out/track/index.html
	@$(RUN) pasr track --out out/track

real: setup ## the node on the real photos of REAL_DATA; writes out/real/index.html
	@if [[ -d "$(REAL_DATA)" ]]; then \
	  $(RUN) pasr real --data "$(REAL_DATA)" --out out/real; \
	else \
	  echo 'make real: skipped: no photos in $(REAL_DATA) (set REAL_DATA=<folder with hope_dev/>)'; \
	fi

test: setup ## every test, in TEST_PROCESSES at a time
	@$(RUN) python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

test-unit: setup ## the core's tests alone: no ROS, under two minutes
	@$(RUN) python -m pytest tests/unit $(PYTEST_ARGS)

lint: setup ## ruff, its formatter as a check, mypy
	@$(RUN) ruff check . && ruff format --check . && mypy

format: setup ## let ruff rewrite the sources
	@$(RUN) ruff check --fix . && ruff format .

freeze: setup ## the versions installed here, for requirements/constraints.txt
	@$(RUN) python scripts/freeze.py

clean: ## remove outputs and caches; .venv stays
	rm -rf out build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis ros2_ws/build ros2_ws/install ros2_ws/log

distclean: clean ## remove .venv too
	rm -rf .venv
