# Everything runs in .venv, which `make install` creates. `make` alone lists the targets.
# by default, the Python that .venv was made with, if there is one
PYTHON ?= $(shell sed -n 's/^executable = //p' .venv/pyvenv.cfg 2>/dev/null | grep . || echo python3)
TOOLBOX ?= both
MMCV ?= auto
VENV := .venv
PYTEST_ARGS ?=
BENCH_ARGS ?=
BENCH_OUT ?= work_dirs/bench
INSTALL_ARGS ?=
MATRIX_ARGS ?=
INSTALL = $(PYTHON) tools/install/install.py --toolbox $(TOOLBOX) --mmcv $(MMCV) $(INSTALL_ARGS)
# BENCH_OUT=tools/benchmarks/data publishes: pages and pictures then go to docs/
# BENCH_ARGS apply to all: --size, --batch-size, --repeats, --threads, --no-memory
BENCH = OMP_NUM_THREADS=$(CORES) $(VENV)/bin/python tools/benchmarks/
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell [ $(CORES) -lt 4 ] && echo $(CORES) || echo 4)

.DEFAULT_GOAL := help
.PHONY: help install dev demo test test-matrix bench pages lint docs dist format clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PYTHON=$(PYTHON)  TOOLBOX=both|mmdet|detectron2  MMCV=torchvision|compiled (operators)  PYTEST_ARGS=...  BENCH_ARGS=...  BENCH_OUT=$(BENCH_OUT)"

install:  ## create .venv with the package and both toolboxes; goes on where it stopped, does nothing when complete
	@$(INSTALL)

dev:  ## install, and what the targets below need beside the package
	@$(INSTALL) --dev

demo: install  ## run the main job on a small data set made on the spot, in each toolbox
	$(VENV)/bin/python tools/demo.py --toolbox $(TOOLBOX)

test: dev  ## run the whole test suite, one process per core up to four
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-matrix:  ## install and test the combinations of tools/install/matrix_rows.py; MATRIX_ARGS="--row NAME --again"
	$(PYTHON) tools/install/matrix.py $(MATRIX_ARGS)

bench: dev  ## compare time and memory of necks and detectors with other packages (over an hour), into BENCH_OUT
	$(BENCH)necks.py --out $(BENCH_OUT)/bench_necks $(BENCH_ARGS)
	$(BENCH)necks.py --slopes --out $(BENCH_OUT)/bench_necks_slopes $(BENCH_ARGS)
	$(BENCH)necks.py --compile --out $(BENCH_OUT)/bench_necks_compiled $(BENCH_ARGS)
	$(BENCH)detectors.py --out $(BENCH_OUT)/bench_detectors $(BENCH_ARGS)

pages: dev  ## write the generated pages and plots of docs/ again from the committed data, without measuring
	$(VENV)/bin/python tools/benchmarks/published.py --out docs
	$(VENV)/bin/python tools/studies/ablations/study.py configs/studies/fpn_ablations.yml --page docs/accuracy.md \
	  --results tools/studies/ablations/data/accuracy.json
	$(VENV)/bin/python tools/studies/ablations/study.py configs/studies/neck_ranking.yml --ranking docs/neck_ranking.md \
	  --results tools/studies/ablations/data/neck_ranking.json
	$(VENV)/bin/python tools/studies/claims/check.py --out docs
	$(VENV)/bin/python tools/docs/necks.py --out .
	$(VENV)/bin/python tools/docs/model_zoo.py --write

lint: dev  ## check style, formatting and types
	@status=0; for check in "ruff check ." "ruff format --check ." "mypy"; do \
	  echo "$(VENV)/bin/$$check"; $(VENV)/bin/$$check || status=1; done; exit $$status

docs: dev  ## build the documentation's site into build/site; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

dist: dev  ## build sdist and wheel into dist/, and check them; FPN_PLUGINS_URL names the repository's public address
	rm -rf dist
	$(VENV)/bin/python -m build --no-isolation
	$(VENV)/bin/twine check --strict dist/*

format: dev  ## rewrite the sources in the project's format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove caches and build outputs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find fpn_plugins configs tools tests -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## remove .venv as well
	rm -rf $(VENV)
