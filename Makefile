PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
SEED ?= 0

.PHONY: demo smoke test test-notebooks test-wheel test-wheel-all test-colab lint notebooks site clean

demo: $(VENV)/.installed  ## the whole method, end to end, on this machine's CPU
	$(BIN)/stvgkit demo --out out --seed $(SEED)

smoke: $(VENV)/.installed
	$(BIN)/stvgkit demo --out out/smoke --seed $(SEED) --smoke

test: $(VENV)/.installed  ## every test: unit, doctest, end to end, notebooks, the wheel
	$(PY) -m pytest
	$(MAKE) test-notebooks
	$(MAKE) test-wheel

NBVAL := -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 -p no:cacheprovider

notebooks: $(VENV)/.installed  ## notebooks/*.ipynb from notebooks/py/
	$(PY) notebooks/build.py

test-notebooks: $(VENV)/.installed  ## every notebook with its solutions, cell by cell
	$(PY) notebooks/build.py --solutions out/notebooks
	STVGKIT_SMOKE=1 $(PY) $(NBVAL) out/notebooks

test-wheel: $(VENV)/.installed  ## the wheel with numpy alone, in fresh environments
	$(PY) tests/install_wheel.py

test-wheel-all: $(VENV)/.installed  ## the wheel with every extra: installs gigabytes
	$(PY) tests/install_wheel.py --all

test-colab: $(VENV)/.installed  ## every lesson as Colab runs it: installs gigabytes
	$(PY) tests/install_colab.py

site: $(VENV)/.installed  ## lessons with their outputs, docs and API pages, to open from disk
	$(PY) docs/site/make_site.py --out site $(if $(FULL),--full)

lint: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A stamp, so that an install cut short is started again. pyproject.toml is the only source.
$(VENV)/.installed: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-colab out build site *.egg-info
