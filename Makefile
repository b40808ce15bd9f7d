# One target a task; `make help` lists them. Everything needs root, because the lab makes network namespaces.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
BIN := $(VENV)/bin
LAB := $(BIN)/python -m lab
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

$(VENV)/.installed: requirements.lock pyproject.toml scripts/setup
	bash scripts/setup $(VENV)
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## install what is missing: Debian packages and the Python environment

.PHONY: lint
lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy acceptance selftests

.PHONY: test
test: lint ## everything that proves the project
	$(BIN)/python -m pytest selftests -q
