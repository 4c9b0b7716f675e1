"""Options of Lightning that no run of this package can use: they are refused before anything is built."""

import re
from typing import Any

from jsonargparse import Namespace

PRECISIONS = ("None", "32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")
"""Values of ``--trainer.precision`` that keep weights, prototypes and statistics in 32 bits."""

STRATEGIES = {
    "(?i)^fsdp": "rounds the prototypes to the precision of the step: give --config strategies/fsdp",
    "(?i)deepspeed": "would shard the prototypes: give --config strategies/fsdp",
    "spawn|fork|notebook": "passes no signal to its ranks, which would be lost: give --trainer.strategy ddp",
}
"""Pattern in the name of a strategy or of its way to start processes -> the reason and the remedy."""

CALLBACKS = {
    "StochasticWeightAveraging": "replaces the schedules: leave it out, and set --model.ema, an average beside them",
    "BatchSizeFinder": "finds what config.yaml does not record: leave it out, and set --data.batch_size",
    "LearningRateFinder": "finds what config.yaml does not record: leave it out, and set --model.optimizer.lr",
    "BackboneFinetuning": "cannot be continued here: leave it out, and set --model.segmenter.freeze_stages",
    "Timer": "is what --trainer.max_time adds: give that",
    "ModelPruning": "fails after the first checkpoint: leave it out, and prune what load_segmenter returns",
}
"""Name of a callback -> the reason and the remedy."""


def refuse_flags(trainer: Namespace) -> None:
    """Refuse the options that no run can use.

    Args:
        trainer: Options of the trainer.

    Raises:
        ValueError: There is such an option; the message names it, the reason and the remedy.
    """
    if str(trainer.precision) not in PRECISIONS:
        raise ValueError(f"--trainer.precision {trainer.precision} does not work: give 32-true, 16-mixed or bf16-mixed")
    for flag in ("barebones", "enable_checkpointing"):
        if trainer.get(flag) == (flag == "barebones"):
            remedy = "leave it out; --trainer.fast_dev_run true tries a config and writes nothing"
            raise ValueError(f"--trainer.{flag} {str(trainer[flag]).lower()} would lose what was trained: {remedy}")
    strategy = named(trainer.strategy)
    for pattern, fault in STRATEGIES.items():
        if re.search(pattern, strategy):
            raise ValueError(f"strategy {strategy} {fault}")
    for name in map(named, listed(trainer.callbacks)):
        if name in CALLBACKS:
            raise ValueError(f"the callback {name} {CALLBACKS[name]}")
        if name.endswith("WeightAveraging") and strategy.startswith("ModelParallel"):
            raise ValueError(f"the callback {name} averages no shards: give --trainer.strategy ddp, or leave it out")


def listed(given: Any) -> list[Any]:
    """Return what may be given once, several times or not at all as a list."""
    return given if isinstance(given, list) else [] if given is None else [given]


def named(given: Any) -> str:
    """Name a class that is given as an object, a string or a ``class_path``; the start method of processes follows."""
    if isinstance(given, str):
        return given.rpartition(".")[2]
    if not isinstance(given, Namespace):
        return type(given).__name__
    method = (given.get("init_args") or {}).get("start_method")
    return str(given.class_path).rpartition(".")[2] + f" with start_method {method}" * (method not in (None, "popen"))
