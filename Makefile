# `make demo` and `make test` need nothing but Python 3.11+ and make: they make their own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
OUT ?= compactbio-demo
# Two processes, each a file at a time; tests/conftest.py puts the slow files first.
SHARED_OUT := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test quick exhaustive check format docs clean

demo: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/compactbio demo --out $(OUT)

test: check
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(SHARED_OUT)

quick: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(SHARED_OUT) -m "not slow and not exhaustive"

exhaustive: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(SHARED_OUT) -m exhaustive

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf .venv build compactbio-demo
