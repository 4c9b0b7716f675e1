"""The number of parameters of a run, by part: for the loggers, and as a line instead of Lightning's table."""

import lightning as L
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities.model_summary import get_human_readable_count

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.callbacks.session import hardware


def count_parameters(pl_module: L.LightningModule) -> dict[str, int]:
    """Count the parameters: ``total``, ``trainable``, and those of each part, such as ``backbone`` and ``head``."""
    module = module_of(pl_module)
    parts = {"total": module, **dict(module.segmenter.named_children()), **dict(module.named_children())}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if name != "segmenter"}
    counts["trainable"] = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return {name: count for name, count in counts.items() if count}


class ParameterCounts(ModelSummary):
    """Print the numbers of parameters and the devices. Lightning's table has FLOPs, always 0 without an example."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line."""
        if trainer.is_global_zero:
            counts = {name: get_human_readable_count(n) for name, n in count_parameters(pl_module).items()}
            total, trainable = counts.pop("total"), counts.pop("trainable")
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            print(f"training {trainable} of {total} parameters ({listed}) on {hardware(trainer)}", flush=True)
