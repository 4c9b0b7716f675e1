"""The trained segmenter as an artifact in W&B."""

from tempfile import TemporaryDirectory

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from ppar_lightning.load import load_segmenter


class ModelArtifact(L.Callback):
    """Log the trained segmenter (weights, config and card, as ``save_pretrained`` writes them) to W&B.

    This happens once, at the end of training, for each W&B logger whose option ``log_model`` is set. The artifact is
    ``segmenter-{id of the W&B run}``, of type ``model``. Lightning itself would log only the checkpoints of its own
    callback, and by default there are none.
    """

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the artifact."""
        # Lightning's logger keeps its option `log_model` only under a private name.
        wanted = [each for each in trainer.loggers if isinstance(each, WandbLogger) and each._log_model]
        if not wanted or not trainer.is_global_zero:
            return
        import wandb  # imported here, because it takes a second and few runs need it

        with TemporaryDirectory() as folder:
            load_segmenter(trainer.default_root_dir).save_pretrained(folder)
            for logger in wanted:
                artifact = wandb.Artifact(f"segmenter-{logger.experiment.id}", type="model")
                artifact.add_dir(folder)
                logger.experiment.log_artifact(artifact)
