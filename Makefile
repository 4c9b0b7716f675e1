# make demo       trains PPAR on rendered streets and tests it on five unseen looks, on two CPU cores;
#                 RUN=runs/demo sets the run folder, ARGS="--trainer.max_steps 100" changes options
# make test       runs all tests except the slow ones
# make test-slow  runs the slow tests
# make test-cuda  runs the tests that need a GPU, on a machine with one
# make lint       checks format, lint and types
# make reproduce  SETTING=demo SEEDS="0 1 2" ROWS="source_only ppar" ARGS="--data.workers 2": trains and tests the table
#                 of ablations (by default all rows) over seeds, with overrides; continues a stopped table
# make tinyclip   trains the tiny CLIP of the package again, from scratch
# make docs       builds the documentation into build/site, without warnings
# make benchmark  measures time and memory of a training step (source only and PPAR) and images per second of data loading
PYTHON ?= python3
SETTING ?= demo
SEEDS ?= 0 1 2
ifndef RUN
RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)
endif

BIN := .venv/bin
INSTALLED := .venv/.installed
export HF_HUB_DISABLE_TELEMETRY = 1
# Threads that wait sleep. If they spun, two processes on the same cores would slow each other down fifty times.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test test-slow test-cuda lint reproduce tinyclip benchmark docs
.DELETE_ON_ERROR:

$(INSTALLED): pyproject.toml setup.py constraints.txt
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: export HF_HUB_OFFLINE = 1
demo: $(INSTALLED)
	$(BIN)/ppar fit --config configs/demo.yaml --trainer.default_root_dir $(RUN) $(ARGS)
	$(BIN)/ppar test --config $(RUN)/config.yaml

test test-slow test-cuda: export HF_HUB_OFFLINE = 1
test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow and not cuda" --numprocesses 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --numprocesses 2

test-cuda: $(INSTALLED)
	$(BIN)/python -m pytest -m cuda

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

reproduce: $(INSTALLED)
	exec $(BIN)/ppar reproduce $(SETTING) --seeds $(SEEDS) \
	  $(if $(strip $(ROWS)),--rows $(ROWS)) $(if $(strip $(ARGS)),-- $(ARGS))

tinyclip: $(INSTALLED)
	$(BIN)/python -m tools.tinyclip.train

benchmark: $(INSTALLED)
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/data_loading.py

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict
