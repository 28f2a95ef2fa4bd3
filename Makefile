# Needs make and Python 3.11 or newer. Everything else is installed into .venv, once.

PYTHON  ?= python3
CONFIG  ?= configs/synthetic.yaml
OUT     ?= runs/synthetic
WORKERS ?= 2
ARGS    ?=
LIBTPU  ?= libtpu==0.0.52
CLIP    ?= open-clip-torch==3.3.0

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP   := $(BIN)/python -m pip --disable-pip-version-check

TEST  := python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Python 3.13 from the path or from pyenv, else the newest there is; a shim of pyenv may not run.
NEWEST = $(firstword $(foreach p,python3.13 $(wildcard ~/.pyenv/versions/3.13*/bin/python3.13) \
  python3.12,$(shell $(p) -c 'print("$(p)")' 2>/dev/null)) $(PYTHON))

# Every Python that the package is for and that runs here, from the path or from pyenv.
PYTHONS ?= $(foreach v,3.11 3.12 3.13,$(firstword $(foreach p,python$(v) \
  $(wildcard ~/.pyenv/versions/$(v)*/bin/python$(v)),$(shell $(p) -c 'print("$(p)")' 2>/dev/null))))

# Large pages for what XLA allocates, where Linux leaves them to the program (transparent_hugepage is
# madvise; glibc 2.35 or newer): value and gradient of configs/avatars.yaml's network on a batch of 128
# take 0.43 s with them and 0.60 s without, on 2 cores.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

# PYTHON given by hand and of another version than the one in .venv: build .venv anew.
MINOR := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) $(MINOR) 2>/dev/null),$(shell $(BIN)/python $(MINOR) 2>/dev/null))
REBUILD := yes
.PHONY: $(STAMP)
endif
endif

.PHONY: help install quick run text-to-image abc-small test test-all test-newest tpu vocabulary lint format docs bench lock clean dist release-check
.DEFAULT_GOAL := help

help: ## print this list
	@echo 'usage: make TARGET [PYTHON=python3.12] [ARGS="..."]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## create .venv and install the locked packages (the other targets do this themselves)

quick: $(STAMP) ## a first answer in two minutes: what taught the red in this red triangle?
	$(BIN)/ctrak demo $(ARGS)

run: $(STAMP) ## train, attribute and report on the synthetic shapes (CONFIG=, OUT=)
	$(BIN)/ctrak run $(CONFIG) --out $(OUT) $(ARGS)
	@echo 'Report: $(OUT)/report/index.html'

text-to-image: vocabulary ## draw portraits, train a small Stable Diffusion on them, attribute its concepts
	$(BIN)/ctrak data avatars --out data/avatars
	$(BIN)/ctrak run configs/text_to_image.yaml --out runs/text-to-image $(ARGS)
	@echo 'Report: runs/text-to-image/report/index.html'

abc-small: $(STAMP) ## customise that model to 36 concepts and see which method finds their pictures
	@test -f runs/text-to-image/model/model.json || $(MAKE) text-to-image
	$(BIN)/python -m benchmarks.abc_small --run runs/text-to-image --out runs/abc-small $(ARGS)

test: $(STAMP) ## run the tests but the long ones (WORKERS=2, ARGS="tests/store -x")
	$(BIN)/$(TEST) -m 'not slow' $(ARGS)

test-all: $(STAMP) ## run every test
	$(BIN)/$(TEST) $(ARGS)

# Built from pyproject.toml without the lock, anew each time. Without the extra diffusers, whose upper
# bounds would hold others back: the tests that compare with it skip themselves.
test-newest: ## run every test with the newest version of everything, in .venv-newest
	$(NEWEST) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip --disable-pip-version-check install --quiet --upgrade \
	  --upgrade-strategy eager pip --editable '.[dev,avatars,parquet]'
	.venv-newest/bin/$(TEST) $(ARGS)

# Beside the packages and not among them: where JAX finds libtpu it looks for a TPU at every start.
tpu: $(STAMP) ## the TPU compiler, for ctrak plan and the tests that compile for TPUs without one
	$(PIP) install --quiet --no-deps --target $(VENV)/tpu --upgrade $(LIBTPU)

# One text file of the package is read; what it would install beside it (PyTorch) is not needed.
vocabulary: $(STAMP) ## CLIP's byte-pair vocabulary, for a text-to-image model trained here
	@test -f $(VENV)/clip/open_clip/bpe_simple_vocab_16e6.txt.gz || \
	  $(PIP) install --quiet --no-deps --upgrade --target $(VENV)/clip $(CLIP)

lint: $(STAMP) ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Notebooks are executed (ARGS='-D nb_execution_mode=off' leaves that out).
docs: $(STAMP) ## build the documentation site: build/site/index.html; a warning is an error
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --jobs auto \
	  --doctree-dir build/doctrees $(ARGS) docs build/site

bench: $(STAMP) ## measure the throughput of the hot parts on this machine: runs/bench/
	for what in featurize projection solve scoring scaling; do \
	  $(BIN)/ctrak bench $$what --out runs/bench $(ARGS) || exit $$?; done

# What is locked is kept where it still fits; ARGS=--upgrade takes the newest of everything,
# ARGS='--upgrade-package jax' of one package.
lock: ## rewrite requirements.lock from pyproject.toml
	$(venv)
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	  --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --extra dev --extra diffusers \
	  --extra avatars --extra parquet --extra docs $(ARGS) \
	  --output-file requirements.lock pyproject.toml

dist: $(STAMP) ## build the wheel and the source archive: dist/
	rm -rf dist
	$(BIN)/hatchling build

release-check: dist ## the wheel alone in empty environments: doctor, demo (PYTHONS="python3.12")
	for python in $(PYTHONS); do $(BIN)/python .ci/release_check.py dist/*.whl --python $$python || exit $$?; done

clean: ## remove .venv, .venv-newest, caches and built packages; runs/ stays
	rm -rf $(VENV) .venv-newest build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Make .venv, or make it anew where it does not work.
define venv
	@if [ -n '$(REBUILD)' ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=$$($(PYTHON) $(MINOR) 2>/dev/null) || { \
	    echo "ctrak-jax needs Python 3.11 or newer, and '$(PYTHON)' does not run here." >&2; \
	    echo "Install one, or name it: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "ctrak-jax needs Python 3.11 or newer; '$(PYTHON)' is Python $$found." >&2; \
	    echo "Name a newer one: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; exit 1; }; \
	  echo "Creating $(VENV) with Python $$found"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	fi
endef

$(STAMP): pyproject.toml requirements.lock
	$(venv)
	@echo 'Installing the locked packages into $(VENV) (about 1.5 GB; some minutes the first time)'
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
