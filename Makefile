# Two commands do everything, set-up included: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?=
export HF_HUB_OFFLINE ?= 1

.PHONY: install demo test test-unit lint clean bench-schemes bench-double-i bench-radioactivity bench-dataset-marks bench-ledger bench-audit

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml configs/assets.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/countermark assets install
	touch $@

demo: install
	$(BIN)/countermark run configs/quickstart.yaml $(if $(OUT),--out $(OUT))

# unit and long part run on all cores, one thread each; the slow part trains real models and has the machine to itself
test: test-unit
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long -n auto
	$(BIN)/python -m pytest -m slow

test-unit: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not long" -n auto

bench-schemes: install
	$(BIN)/python -m benchmarks.schemes

bench-double-i: install
	$(BIN)/python -m benchmarks.double_i

bench-radioactivity: install
	$(BIN)/python -m benchmarks.radioactivity

bench-dataset-marks: install
	$(BIN)/python -m benchmarks.dataset_marks

bench-ledger: install
	$(BIN)/python -m benchmarks.ledger

bench-audit: install
	$(BIN)/python -m benchmarks.audit
	$(BIN)/python -m benchmarks.error_rates

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
