# Setup and everyday commands. `make demo` and `make test` work on a new machine with Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PACKAGE := .venv/.installed_package

.PHONY: demo test lint wheel docs clean help

help:
	@echo "make demo    install, fit a simulated recording and write the report demo/report.html"
	@echo "make test    install and run the tests"
	@echo "make lint    check format, style, types and imports between sub-packages"
	@echo "make wheel   build the wheel, install it in an empty environment and import every module"
	@echo "make docs    run the code of the documentation where it changed, and write the pages to build/site"
	@echo "make clean   remove the environment and all build products"

# The package alone, without the tools of its developers.
$(PACKAGE): pyproject.toml constraints.txt
	@echo "Installing kalmanssl and what it depends on into .venv: about 1.7 GB, mainly torch; more with CUDA"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable .
	@du -sh .venv | awk '{print "The environment .venv has " $$1 "B."}'
	touch $(PACKAGE)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED) $(PACKAGE)

demo: $(PACKAGE)
	$(BIN)/kalmanssl demo --out demo --overwrite

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	rm -rf build/layout && mkdir -p build/layout && cp -r kalmanssl build/layout && cp -r datasets build/layout/kalmanssl
	cd build/layout && PYTHONPATH=. ../../$(BIN)/lint-imports --no-cache ../../pyproject.toml

wheel: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --quiet --wheel
	rm -rf build/empty
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build && empty/bin/kalmanssl --help
	cd build && empty/bin/python ../tests/import_all_modules.py

# The tests run the code of the pages, too, and keep their pictures, so that this takes seconds after them.
docs: $(INSTALLED)
	$(BIN)/python docs/tools/run_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "wrote build/site/index.html"

clean:
	rm -rf .venv build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
