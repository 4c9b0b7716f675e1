# make demo       trains PPAR on rendered streets and scores it on five appearances it never saw, on two CPU cores
# make test       runs the tests
# make lint       format, lint and types
# make reproduce  SETTING=demo SEEDS="0 1 2": source only and PPAR over seeds, tested and summarised
# make tinyclip   trains the tiny CLIP that ships with the package again, from nothing
# make benchmark  time and memory of a training step, source only and PPAR; images per second of the data loading
PYTHON ?= python3
SETTING ?= demo
SEEDS ?= 0 1 2
RUN ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
REPRODUCE := runs/reproduce/$(SETTING)

BIN := .venv/bin
INSTALLED := .venv/.installed
export HF_HUB_DISABLE_TELEMETRY = 1
# Waiting threads sleep: where they spin, a second process on the same cores slows a step down many times over.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test lint reproduce tinyclip benchmark
.DELETE_ON_ERROR:

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: export HF_HUB_OFFLINE = 1
demo: $(INSTALLED)
	$(BIN)/ppar fit --config configs/demo.yaml --trainer.default_root_dir $(RUN)
	$(BIN)/ppar test --config $(RUN)/config.yaml

test: export HF_HUB_OFFLINE = 1
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# A run that has been tested is not run again; one that was stopped goes on from its last checkpoint.
reproduce: $(foreach seed,$(SEEDS),$(foreach row,source_only ppar,$(REPRODUCE)/$(row)/$(seed)/test.json))
	$(BIN)/python benchmarks/summary.py $(REPRODUCE)

$(REPRODUCE)/%/test.json: $(INSTALLED)
	$(BIN)/ppar fit --config configs/$(SETTING).yaml --config configs/ablations/$(*D).yaml --seed_everything $(*F) \
	  --trainer.default_root_dir $(@D) \
	  $(if $(wildcard $(@D)/checkpoints/last.ckpt),--ckpt_path $(@D)/checkpoints/last.ckpt)
	$(BIN)/ppar test --config $(@D)/config.yaml

tinyclip: $(INSTALLED)
	$(BIN)/python -m ppar_lightning.tinyclip.train

benchmark: $(INSTALLED)
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/data_loading.py
