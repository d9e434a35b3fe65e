# Every command makes its own .venv first; after the first time none of them needs the network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROUNDS ?= 10
INSTALLED := $(VENV)/.installed
# Threads that wait by spinning take the cores from the processes beside them.
export OMP_WAIT_POLICY ?= PASSIVE
export OPENBLAS_THREAD_TIMEOUT ?= 4

.PHONY: install demo demo-serve test lint bench soak serve format openapi

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[worker,s3,otel,test]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/forerank demo

demo-serve: $(INSTALLED)
	$(BIN)/forerank demo --keep

serve: $(INSTALLED)
	$(BIN)/forerank serve

# Whole-process tests wait now and then, so that three at once suit two cores.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 3 --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.estimators
	$(BIN)/python -m benchmarks.ensembles

# Faults at random moments, each as often as ROUNDS says, on SQLite and on PostgreSQL; prints what was lost.
soak: $(INSTALLED)
	$(BIN)/python -m tests.faults.soak $(ROUNDS)

openapi: $(INSTALLED)
	$(BIN)/python -m app.openapi docs/openapi.json
