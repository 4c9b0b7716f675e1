"""The number of parameters of a run, by part: for the loggers, and as a line instead of Lightning's table."""

import lightning as L
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities.model_summary import get_human_readable_count

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.callbacks.session import hardware


def count_parameters(pl_module: L.LightningModule) -> dict[str, int]:
    """Count the parameters: ``total``, ``trainable``, and those of each part, such as ``backbone`` and ``head``."""
    module = module_of(pl_module)
    counts = {"total": 0, "trainable": 0}
    for name, part in (*module.segmenter.named_children(), *module.named_children()):
        if part is not module.segmenter:
            counts[name] = sum(parameter.numel() for parameter in part.parameters())
    for parameter in module.parameters():
        counts["total"] += parameter.numel()
        counts["trainable"] += parameter.numel() * parameter.requires_grad
    return {name: count for name, count in counts.items() if count}


class ParameterCounts(ModelSummary):
    """Print the numbers of parameters and the devices. Lightning's table has FLOPs, always 0 without an example."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line."""
        if trainer.is_global_zero:
            total, trainable, *parts = map(get_human_readable_count, (counts := count_parameters(pl_module)).values())
            listed = ", ".join(f"{name} {count}" for name, count in zip([*counts][2:], parts, strict=True))
            print(f"training {trainable} of {total} parameters ({listed}) on {hardware(trainer)}", flush=True)
