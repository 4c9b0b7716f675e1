"""What a run was made of, in every logger: its config, seed, git revision, parameters and protocols."""

from pathlib import Path

import lightning as L
import yaml
from lightning.pytorch.loggers import WandbLogger

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import revision


class Hyperparameters(L.Callback):
    """Tell every logger the whole config and what it does not hold; give W&B the config as a file too.

    The options of ``trainer.logger`` are left out, because those of some loggers hold a key to an account.
    """

    def __init__(self, config: str) -> None:
        """Store the resolved config.

        Args:
            config: The config as YAML.
        """
        self.config = yaml.safe_load(config)
        self.config.get("trainer", {}).pop("logger", None)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Log them before the network is sharded, when each rank still has all of its parameters."""
        if not trainer.is_global_zero or not trainer.loggers:
            return
        about = {
            "seed": module_of(pl_module).seed,
            "git": revision(Path(__file__).parent),
            "parameters": count_parameters(pl_module),
            "protocol": dict(data_of(trainer).protocol_titles),
            "target_selection": monitored_targets(trainer),
        }
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config | about)
            if isinstance(logger, WandbLogger) and (folder := Path(logger.experiment.dir)).is_dir():
                path = folder / "run" / "config.yaml"  # W&B has a config.yaml of its own in the folder above
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))
                logger.experiment.save(str(path), base_path=str(folder), policy="now")


def count_parameters(pl_module: L.LightningModule) -> dict[str, int]:
    """Count the parameters: ``total``, ``trainable``, and those of each part, such as ``backbone`` and ``head``."""
    module = module_of(pl_module)
    parts = {"total": module, **dict(module.segmenter.named_children()), **dict(module.named_children())}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if name != "segmenter"}
    counts["trainable"] = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return {name: count for name, count in counts.items() if count}
