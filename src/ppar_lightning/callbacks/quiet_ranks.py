"""What Lightning and DDP let ranks exchange in each step beside gradients and the module's own sums: nothing."""

from typing import Any

import lightning as L
from torch.nn.parallel import DistributedDataParallel

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.distributed import broadcast


class QuietRanks(L.Callback):
    """Share the statistics of batch norms before validations, with checkpoints and at the end, not in each step as DDP.

    A checkpoint holds those of rank 0. In training only the whitening uses them: a resumed run is one that went on.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Turn the exchanges off."""
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.broadcast_buffers = False
        # Lightning has no option against asking for a SIGTERM before each batch; LastCheckpoint does that without
        # waiting.
        vars(trainer.fit_loop.epoch_loop).update(_broadcast_sigterm_tensor=lambda: None)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give all ranks the network of rank 0; the sums of a gradient accumulation stay each rank's own."""
        broadcast(module_of(pl_module).segmenter.buffers())

    on_train_end = on_validation_start

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Do the same."""
        self.on_validation_start(trainer, pl_module)
