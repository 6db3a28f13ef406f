PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
SEED ?= 0

.PHONY: demo smoke test lint notebooks clean

demo: $(VENV)/.installed  ## the whole method, end to end, on this machine's CPU
	$(BIN)/stvgkit demo --out out --seed $(SEED)

smoke: $(VENV)/.installed
	$(BIN)/stvgkit demo --out out/smoke --seed $(SEED) --smoke

test: $(VENV)/.installed  ## every test: unit, doctest, end to end, notebooks
	$(PY) -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .

# A stamp, so that an install cut short is started again. pyproject.toml is the only source.
$(VENV)/.installed: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
