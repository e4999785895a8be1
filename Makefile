# make demo and make test work on a fresh machine: they create .venv if it does not exist.
PYTHON ?= python3
# The torch that pip installs: make TORCH=torch==2.13.0 test
TORCH ?= torch
PYTEST ?=
BIN := .venv/bin

.PHONY: demo model test test-long coverage mutants check format docs clean

demo: .venv/ready
	$(BIN)/python examples/demo/run.py

# Each file runs in one process, which shares its fixtures. Files run in their order, because the
# slowest ones have few tests.
PARALLEL := -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: .venv/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python $(PARALLEL) $(PYTEST)

test-long: .venv/ready-test
	$(BIN)/python -m pytest -m long $(PYTEST)

coverage: .venv/ready-test
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run $(PARALLEL) $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutants: .venv/ready-mutants
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutation.py run --max-children 1 $(MUTANTS)
	$(BIN)/python tests/mutation.py results | sed "/not checked/d"

check: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/ready-docs
	$(BIN)/mkdocs build --strict

# torch first: fairseq-fixed compiles against it where there is no wheel (Python 3.11 and 3.13, about
# three minutes), and an isolated build would fetch another torch. CUDA_HOME must be unset: its
# source distribution lacks the CUDA sources. --no-build-isolation needs the build tools in .venv.
.venv/ready: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel cython numpy
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	env -u CUDA_HOME $(BIN)/python -m pip install --no-build-isolation \
		--editable ".[ctranslate2,export,plots,serve]"
	touch $@

.venv/ready-test: .venv/ready
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[test]"
	touch $@

.venv/ready-mutants: .venv/ready-test
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[mutants]"
	touch $@

.venv/ready-docs: .venv/ready
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv build dist mutants *.egg-info
