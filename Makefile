# Everything runs in .venv; nothing but Python 3.11+ and make is needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
MODEL ?= default-model
MINUTES ?= 10
VSDD ?= vsdd

.PHONY: help install demo default-model test test-fast lint fuzz sbom bench bench-vsdd clean

help:  ## Lists the targets.
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

install: $(VENV)/.installed  ## Creates .venv with everything, pinned by constraints.txt.

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

demo: install  ## Runs the whole walk on virtual RAW pairs: the commands of the README.
	rm -rf $(DEMO)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh $(DEMO)

default-model: install  ## Trains the network that ships, from photographs to weights, resuming: two hours of one core.
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/default_model/make.sh $(MODEL)

# The tests start hundreds of processes, which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

# `worksteal` keeps the tests of a file, and so their fixtures, on one worker until the other one runs out of tests.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: lint  ## Runs the linters and every test.
	$(PYTEST)

test-fast: lint  ## Runs the linters and the quick tests: no kills, no fuzzing, no training.
	$(PYTEST) -m "not (fuzz or kill or slow or training)"

lint: install  ## Runs ruff, ruff format --check and mypy --strict.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: install  ## Searches for inputs that break a reader, guided by coverage: make fuzz MINUTES=60.
	$(BIN)/python -m tests.fuzz.campaign --minutes $(MINUTES)

sbom:  ## Writes sbom.cdx.json, the bill of materials in the wheel: what `pip install .[train]` installs.
	rm -rf .sbom
	$(PYTHON) -m venv .sbom/environment
	$(PYTHON) -m venv .sbom/tool
	.sbom/environment/bin/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	.sbom/environment/bin/python -m pip install --quiet --disable-pip-version-check '.[train]' -c constraints.txt
	.sbom/environment/bin/python -m pip uninstall --quiet --yes setuptools pip
	.sbom/tool/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7.2,<8'
	.sbom/tool/bin/cyclonedx-py environment .sbom/environment --pyproject pyproject.toml \
		--output-reproducible --of JSON --sv 1.6 --short-PURLs -o sbom.cdx.json

bench: install  ## Runs every benchmark; each prints the table of its page in docs/benchmarks/.
	$(BIN)/python benchmarks/alignment.py
	$(BIN)/python benchmarks/blur_map.py
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/camera.py
	$(BIN)/python benchmarks/default_model.py
	$(BIN)/python benchmarks/develop.py
	$(BIN)/python benchmarks/drift.py
	$(BIN)/python benchmarks/flow.py
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/infer.py
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/interop.py
	$(BIN)/python benchmarks/jdrl.py
	$(BIN)/python benchmarks/pairing.py
	$(BIN)/python benchmarks/codecs.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/repack.py
	$(BIN)/python benchmarks/scale.py

bench-vsdd: install  ## Trains on displaced virtual pairs in many ways, scores by the truth; resumes (VSDD=folder).
	$(BIN)/sdd bench vsdd --out $(VSDD)

clean:  ## Removes what the other targets made.
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache
