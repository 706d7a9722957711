# Everything runs in .venv; nothing but Python 3.11+ and make is needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test lint bench install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

# The whole walk on virtual RAW pairs; the same commands as in the README.
demo: install
	rm -rf $(DEMO)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh $(DEMO)

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One command a benchmark; each prints its table.
bench: install
	$(BIN)/python benchmarks/alignment.py
	$(BIN)/python benchmarks/blur_map.py
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/camera.py
	$(BIN)/python benchmarks/develop.py
	$(BIN)/python benchmarks/drift.py
	$(BIN)/python benchmarks/flow.py
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

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache
