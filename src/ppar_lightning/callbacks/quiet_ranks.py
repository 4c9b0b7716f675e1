"""What Lightning and DDP let ranks exchange in each step beside gradients and the module's own sums: nothing."""

import lightning as L
from torch.nn.parallel import DistributedDataParallel

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.distributed import broadcast


class QuietRanks(L.Callback):
    """Share the statistics of batch norms before each validation and at the end, not before each step as DDP does.

    A checkpoint holds those of rank 0, and training itself does not use them.
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
