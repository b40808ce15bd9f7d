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
	$(BIN)/mypy acceptance bench lab selftests tests_infra tests_gpu tests_security tests_k8s workloads

.PHONY: test
test: lint ## everything that proves the project
	$(BIN)/python -m pytest selftests -q

.PHONY: lab
lab: setup ## bring the lab up: nine bare servers, an operator, a directory
	$(LAB) up

.PHONY: down
down: setup ## take the lab down; nothing is left
	$(LAB) down

.PHONY: deploy
deploy: lab ## the playbooks on the lab
	ANSIBLE_CONFIG=scripts/ansible/ansible.cfg $(LAB) run ansible-playbook scripts/ansible/site.yml

define deploy_kubernetes
	ANSIBLE_CONFIG=scripts/ansible/ansible.cfg $(LAB) run ansible-playbook scripts/ansible/playbooks/kubernetes.yml \
	  -e @lab/ansible/kubernetes.yml -e @/var/lib/gpu-lab/operator/images.yml
	$(LAB) run scripts/helm/deploy --releases lab/releases.yaml
	$(LAB) run scripts/helm/validator-kubeconfig /var/lib/gpu-lab/operator/validator.conf
endef

.PHONY: kubernetes
kubernetes: deploy ## the cluster on the lab's hosts: kubeadm, charts, the suite's own rights
	$(deploy_kubernetes)

.PHONY: accept
accept: deploy ## lab, playbooks, the gates of phases 1 and 2; then the cluster, phase 3 and what exists of phase 5
	$(LAB) run pytest -m "phase1 or phase2"
	$(deploy_kubernetes)
	$(LAB) run pytest -m "phase3 or phase5"

.PHONY: prove
prove: deploy ## inject every fault; the table fault × check goes to reports/prove/
	$(BIN)/python -m lab.prove

.PHONY: bench
bench: deploy ## facts and collection against pytest-testinfra and Ansible; phase 3 up to 1000 nodes; to reports/bench/
	$(LAB) run $(BIN)/python -m bench
	$(BIN)/python -m bench.scale

.PHONY: test-vm
test-vm: setup ## the lab on Debian's own kernel, and soft RoCE between two machines, emulated (about an hour)
	$(BIN)/python -m lab.vm
