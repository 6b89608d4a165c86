# Two commands do everything, set-up included: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?=
export HF_HUB_OFFLINE ?= 1

.PHONY: install demo test test-unit lint clean bench-schemes

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml configs/assets.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/countermark assets install
	touch $@

demo: install
	$(BIN)/countermark run configs/quickstart.yaml $(if $(OUT),--out $(OUT))

test: install
	$(BIN)/python -m pytest

test-unit: install
	$(BIN)/python -m pytest -m "not slow"

bench-schemes: install
	$(BIN)/python -m benchmarks.schemes

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
