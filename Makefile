# make demo: install, run the pipeline and the comparison on digits.   make test: install the test extras, run the tests.
# make install: the .venv alone.
# make lint: ruff, mypy --strict, import contracts.   make docs: regenerate docs/reference and the comparison's settings.
# make site: the documentation as a site -> site/.   make bench: the speed of a training step.
# PYTHON=python3.12 make demo: with another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo install test lint docs site bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	dvc repro
	dvc repro compare/dvc.yaml
	@echo; cat results/compare/table.md; echo
	@echo "the page of all results, to open in a browser: results/report.html"

install: $(VENV)/.installed

test: $(VENV)/.installed-test
	pytest -n 2 --dist loadfile --no-loadscope-reorder  # files in the order of tests/conftest.py

lint: $(VENV)/.installed-test
	ruff check
	ruff format --check
	mypy
	lint-imports --no-cache --no-logo

docs: $(VENV)/.installed
	python docs/generate.py
	python docs/comparison_params.py
	python -m benchmarks.page
	python experiments/page.py

site: $(VENV)/.installed-site
	python docs/site/build_site.py

bench: $(VENV)/.installed
	python -m benchmarks.step

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: PYTHON=... make")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-site

$(VENV)/.installed-site: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[site]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build *.egg-info pipeline/*.egg-info
