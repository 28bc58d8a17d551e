# Everything runs in a virtual environment of this checkout, made when first needed and kept until setup.cfg or
# constraints.txt changes. Another Python: make setup PYTHON=python3.12

PYTHON ?= python3
RECIPE ?= shapesworld/small
VENV   := .venv
BIN    := $(VENV)/bin
SAY    := $(if $(CI),-qq)
# Byte code is left to be made when first imported: most of what torch installs never is. Without it a process that
# trains would take fifteen seconds to start instead of five, and tests start dozens.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt $(SAY)
NEEDS   := setup.cfg setup.py constraints.txt
# DeepSpeed builds its operators when one is used, if ever.
export DS_BUILD_OPS := 0

.PHONY: help setup demo test check format train clean
.DELETE_ON_ERROR:

help:  ## what can be made (this)
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(VENV)/.dev  ## everything: to generate, to train, to evaluate, to test

demo: $(VENV)/.core  ## clips from the model that ships with the package, in demo/
	$(BIN)/videolm demo --out demo --force

train: $(VENV)/.dev  ## train a recipe: make train RECIPE=shapesworld/small
	$(BIN)/videolm train $(RECIPE)

test: $(VENV)/.dev  ## the tests: make test, or make test ARGS="-x tests/layout"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 $(ARGS)

check: $(VENV)/.dev build/typed  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p videolm

format: $(VENV)/.dev  ## mend style and format where that can be done without thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove builds, caches and the demo; not the environment, nor your outputs/ and runs/
	rm -rf build dist demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The package as an installed one has it, for mypy: it knows nothing of setup.cfg's `package_dir`.
.PHONY: build/typed
build/typed:
	@rm -rf $@ && mkdir -p $@/videolm
	@ln -s $(addprefix $(CURDIR)/,$(filter-out %/__pycache__,$(wildcard videolm/*)) tokenizers tasks configs) $@/videolm/

# --- the environment

# Where no NVIDIA GPU answers, PyTorch's own index has a build for CPUs; the one on PyPI brings gigabytes of CUDA
# libraries on Linux. It is asked for torch alone, and where it cannot be reached pip's usual sources have to do.
CPU_INDEX := https://download.pytorch.org/whl/cpu

$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "videolm needs Python 3.11 or newer: make setup PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip setuptools wheel
	nvidia-smi > /dev/null 2>&1 || $(INSTALL) --no-deps --retries 1 --timeout 10 --extra-index-url $(CPU_INDEX) torch
	@touch $@

$(VENV)/.core: $(VENV)/.torch $(NEEDS)
	$(INSTALL) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.torch $(NEEDS)
	$(INSTALL) --no-build-isolation -e '.[train,evaluate,conditions,datatrove,lora,serve,dev]'
	@touch $(VENV)/.core $@
