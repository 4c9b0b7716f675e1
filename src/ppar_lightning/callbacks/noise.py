"""Lines of other libraries that tell a user nothing: they are left out, each for a reason."""

import logging
import re
import warnings

SAID_BY_THIS_PACKAGE = (
    "Seed set to",  # config.yaml
    "Using .* Automatic Mixed Precision",
    *("GPU available", "TPU available", "LOCAL_RANK: ", "Initializing distributed", "-{9}", "distributed_backend"),
    "Restoring states",  # a line with the same path follows when they are restored
    "Trainer already configured with model summary",
    "`Trainer.fit` stopped: `max_",
    "Loading `train_dataloader` to estimate",
)
"""Beginnings of messages whose content the config, the lines of a run or the manifest state."""
ADVERTISEMENTS = (".*litlogger", "You are using a CUDA device")  # the latter asks to change a program
NOTHING_WRONG = {
    "Found .* in eval mode at the start": "frozen parts are in eval mode on purpose",
    "`isinstance.treespec": "Lightning calls what torch has renamed",
    "The number of training batches": "the config says when curves are logged",
    "You're using the WeightAveraging": "configure_model shards nothing unless the strategy does",
    "It is recommended to use `self.log.*sync_dist": "scores are computed from counts that are summed over ranks",
    "The '.*dataloader' does not have many workers": "data.workers says how many",
    "This DataLoader will create .* worker processes": "data.workers says how many",
    "The dirpath has changed from": "best_checkpoint finds the file beside last.ckpt, also in a run that was moved",
    "Truncated File Read": "the error that follows names the file",
    "Checkpoint directory .* exists and is not empty": "so it is in a run that is resumed",
    "Total length of `DataLoader` across ranks is zero": "predict with --skip_existing may have nothing left to do",
}
"""Beginning of a warning -> why it says nothing."""
SPEAKERS = ("pytorch.utilities.rank_zero", "fabric.utilities.seed", "fabric.utilities.distributed")
"""Loggers of Lightning, below `lightning`, that print the messages."""


def quieten() -> None:
    """Leave such lines out. Other warnings are printed in one line, without their place in the code."""
    warnings.formatwarning = lambda message, category, *_, **__: f"{category.__name__}: {message}\n"
    for name in SPEAKERS:
        logging.getLogger(f"lightning.{name}").addFilter(says_something)  # once, however often it is added
    for message in NOTHING_WRONG:
        warnings.filterwarnings("ignore", f".*{message}")


def says_something(record: logging.LogRecord) -> bool:
    """Return whether a message of Lightning is worth printing."""
    known = "|".join((*SAID_BY_THIS_PACKAGE, *ADVERTISEMENTS))
    return re.match(rf"(\[rank: \d+\] )?({known})", record.getMessage()) is None
