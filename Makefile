# Set-up and the everyday commands. `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint wheel clean help

help:
	@echo "make demo    install, fit a simulated recording and open the result at demo/report.html"
	@echo "make test    install and run the tests"
	@echo "make lint    formatting, lint and types"
	@echo "make wheel   build the wheel and try it in an empty environment"
	@echo "make clean   remove the environment and everything built"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/kalmanssl demo --out demo --overwrite

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

wheel: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --quiet --wheel
	rm -rf build/empty
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build && empty/bin/kalmanssl --help
	cd build && empty/bin/python -c "import kalmanssl.datasets as d; print(d.place_cells(duration=60.0))"

clean:
	rm -rf .venv build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
