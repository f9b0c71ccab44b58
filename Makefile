# Every target does its own set-up. `make demo` is where to begin.

PYTHON ?= python3
DURATION ?= 60
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := rig decoders gui tests benchmarks

.PHONY: setup demo test test-all lint bench schema clean

setup: $(READY)

# Installed again only when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) sh .ci/system_packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	@touch $@

# Session files are never overwritten: an earlier demo keeps the time of its recording in its name.
demo: setup
	@mkdir -p demo
	@if [ -e demo/session.nwb ]; then mv demo/session.nwb "demo/session_$$(date -r demo/session.nwb +%Y-%m-%d_%H%M%S).nwb"; fi
	$(BIN)/rig run hardware_configs/simulated_mouse.yaml --duration $(DURATION) --output demo/session.nwb
	$(BIN)/rig verify demo/session.nwb
	$(BIN)/rig info demo/session.nwb

# Whole runs keep the camera's pace: they share the cores with no other test. Two processes of many threads each would
# wait for one another.
test: setup
	OMP_NUM_THREADS=1 QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/pipeline
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest tests/pipeline

test-all: setup
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest -m "not hardware" --timeout 900

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell $(CODE) docs hardware_configs *.md Makefile Dockerfile compose.yaml
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/rig schema --check
	$(BIN)/hadolint Dockerfile

bench: setup
	@for name in $(filter-out __init__,$(basename $(notdir $(wildcard benchmarks/*.py)))); do \
		$(BIN)/python -m benchmarks.$$name --json || exit 1; \
	done

schema: setup
	$(BIN)/rig schema

# Recordings are left alone.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
