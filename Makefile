PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
SEED ?= 0

.PHONY: demo smoke test test-notebooks test-wheel test-wheel-all test-colab lint notebooks clean

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

# Colab's versions of what draws widgets and plots, on top of the same environment.
COLAB := .venv-colab
test-colab: $(VENV)/.installed $(COLAB)/.installed  ## the notebooks that show widgets or plots
	$(PY) notebooks/build.py --solutions out/notebooks
	STVGKIT_SMOKE=1 $(COLAB)/bin/python $(NBVAL) \
	    $$(grep -lE "stvgkit.(widgets|plots)|plotly|ipywidgets" out/notebooks/*.ipynb)

$(COLAB)/.installed: $(VENV)/.installed
	$(PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install -q ipywidgets==7.7.1 plotly==5.24.1
	$(PY) -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
	    > $$($(COLAB)/bin/python -c "import site; print(site.getsitepackages()[0])")/main.pth
	touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check .

# A stamp, so that an install cut short is started again. pyproject.toml is the only source.
$(VENV)/.installed: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(COLAB) out build *.egg-info
