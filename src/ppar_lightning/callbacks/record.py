"""The run folder: its resolved config, and the refusal to write over another run."""

from pathlib import Path

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback


class RunRecord(SaveConfigCallback):
    """Save the resolved config of a training run as ``config.yaml`` in the run folder, ``trainer.default_root_dir``."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the config before the first step.

        Raises:
            FileExistsError: If the folder holds another run and this one does not continue it.
        """
        if stage != "fit":
            return
        folder = Path(trainer.default_root_dir)
        path = folder / self.config_filename
        continued = self.config.get("ckpt_path") is not None  # the trainer learns of it after this
        occupied = trainer.strategy.broadcast(path.exists())
        if occupied and not continued:
            raise FileExistsError(
                f"{folder} already holds a run: continue it with --ckpt_path last, "
                "or give another folder with --trainer.default_root_dir"
            )
        if trainer.is_global_zero and not occupied:
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".tmp")  # whole or not at all, as a run may be stopped at any time
            self.parser.save(self.config, str(partial), skip_none=False, overwrite=True, multifile=False)
            partial.replace(path)
