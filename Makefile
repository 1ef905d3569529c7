# Each target does the set-up it needs on a machine that has only a Python, 3.10 to 3.13, and the package index:
# a virtual environment in .venv with exactly the packages of a lock file (tools/environment.sh).
# PYTHON=/path/to/python chooses another than the one it finds, when .venv is made.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo demo-seeds demo-retinanet test test-slow lint gpu-check gpu-bundle format bench docs lock environment clean help

help:
	@echo "make demo        build a small long-tailed set, train baseline, Balanced Softmax and BALMS, compare"
	@echo "make demo-retinanet   RetinaNet with focal, halted focal and Eureka loss on the same set, three seeds"
	@echo "make test        run the test suite (make test-slow: the long rest)"
	@echo "make lint        ruff and mypy"
	@echo "make docs        build the site of docs/ in build/site (opens from the disk, no network needed)"
	@echo "make bench       measure against Detectron2 and others, write docs/reference/benchmarks.md (over an hour)"
	@echo "make environment the virtual environment in .venv alone; PYTHON=/path/to/python says of which Python"
	@echo "make gpu-check   on a machine with CUDA: correctness and speed in 8 minutes (make gpu-bundle: what it needs there)"
	@echo "make clean       remove the environment, caches and outputs"

$(READY): requirements.lock requirements-newer.lock requirements-detectron2.txt setup.py tools/environment.sh
	@sh tools/environment.sh $(VENV) "$(PYTHON)"
	@touch $(READY)

environment: $(READY)

demo: $(READY)
	$(BIN)/python -m demo

demo-seeds: $(READY)
	$(BIN)/python -m demo --seeds 0 1 2

demo-retinanet: $(READY)
	$(BIN)/python -m demo --compare retinanet --seeds 0 1 2 --output demo_output/retinanet

# A file's tests stay in one process, in their order.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if [ "$$($(BIN)/python -c 'import sys; print(sys.version_info[:2] == (3, 10))')" = True ]; then $(BIN)/mypy; \
	  else echo "mypy left out: types are checked on Python 3.10, with the torch of requirements.lock"; fi

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every script with a main; the report last, it reads what they wrote.
bench: $(READY)
	@set -e; for script in $$(grep -l __main__ benchmarks/*.py | grep -v report.py); do \
	  echo "$$script"; $(BIN)/python $$script; done
	$(BIN)/python benchmarks/report.py

# On a CUDA machine with torch; nothing is installed there, what it lacks is in build/gpu.
# On a machine without: make gpu-check DEVICE=cpu rehearses.
DEVICE ?= cuda
gpu-check:
	@if [ -x $(BIN)/python ]; then $(BIN)/python benchmarks/gpu_check --device $(DEVICE); \
	  else python3 benchmarks/gpu_check --device $(DEVICE); fi

# What to carry there: build/gpu, under 64 MiB with the repository.
gpu-bundle: $(READY)
	PYTHONPATH=. $(BIN)/python tools/gpu_bundle.py

# Strict: a link that leads nowhere, or a page that is in no menu, is an error.
docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "open build/site/index.html"

# After a change of setup.py or a requirements*.in: the lock of Python 3.10, and that of 3.11 and later.
COMPILE = $(BIN)/uv pip compile --quiet setup.py --override overrides.txt --all-extras --generate-hashes \
  --no-emit-index-url --custom-compile-command "make lock"
lock: $(READY)
	$(COMPILE) requirements.in --python-version 3.10 -o requirements.lock
	$(COMPILE) requirements-newer.in --python-version 3.11 --universal -o requirements-newer.lock

clean:
	rm -rf $(VENV) .venv-newer output demo_output build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
