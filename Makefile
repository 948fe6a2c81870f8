# Two commands a newcomer needs: `make demo` and `make test`. Each builds .venv first.
PYTHON ?= python3
CONSTRAINTS ?= requirements/constraints.txt
VENV ?= .venv
WORKDIR ?= runs/demo
FAULTS := experiments/results/faults.json
STORED := $(wildcard experiments/results/baselines_cpu.json)
BIN := $(VENV)/bin
COMPILERS := $(VENV)/compilers
EXTRAS := import tomllib; \
	found = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	print(*found["aot-tpu"], *found["aot-gpu"])

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format clean

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

# The stamps make an installation happen once for each change of what it depends on.
$(VENV)/.train: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[train]'
	@touch $@

$(VENV)/.test: $(VENV)/.train
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[train,test]'
	@touch $@

# Compilers of chips that are not here lie apart: in the environment itself jax would look
# for their chips in every test.
$(COMPILERS)/.done: $(VENV)/.test
	rm -rf $(COMPILERS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target $(COMPILERS) $$($(BIN)/python -c '$(EXTRAS)')
	@touch $@

demo: $(VENV)/.train  ## Learn features from embedded real images and write a report.
	$(BIN)/jaxssl train --config=configs/transformations_fashion_on_photos.py --workdir=$(WORKDIR)
	$(BIN)/jaxssl evaluate --workdir=$(WORKDIR)
	$(BIN)/jaxssl report --workdir=$(WORKDIR) $(STORED:%=--stored=%)

test: $(VENV)/.test check  ## Lint, types, layers and the default test suite.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-slow: $(COMPILERS)/.done  ## The long suites: accuracy gates, full-size configs, kill -9.
	XLA_FLAGS= $(BIN)/python -m pytest -m "slow or fault" --fault-table=$(FAULTS) $(PYTEST_ARGS)
	$(if $(PYTEST_ARGS),,XLA_FLAGS= PYTHONPATH=$(COMPILERS) $(BIN)/python -m pytest --fault-table=$(FAULTS) \
		tests/aot/test_aot_compile.py)

check: $(VENV)/.test  ## Lint, types and the import layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.test  ## Rewrite the code in the house's format.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the virtual environment.
	rm -rf $(VENV)
