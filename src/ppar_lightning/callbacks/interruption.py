"""The end of a run by a signal or an error: handlers of SIGINT and SIGTERM, and how to continue."""

import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from ppar_lightning.runs.run_folder import CONFIG

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(handler: Callable[[int], None]) -> None:
    """Call a handler at the first SIGINT or SIGTERM; a second signal ends the process at once.

    Lightning's teardown restores the earlier handlers.

    Args:
        handler: Function that receives the number of the signal.
    """

    def first(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        handler(number)

    if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
        for each in SIGNALS:
            signal.signal(each, first)


def leave_after(number: int, remark: str) -> NoReturn:
    """Print the name of a signal and a remark, and exit with status 128 + signal."""
    if remark:
        print(f"ppar: {signal.Signals(number).name}{remark}", file=sys.stderr)
    raise SystemExit(128 + number)


def continuation(folder: str) -> str:
    """Return the phrase with the command that continues the run in a folder."""
    return f"continue with: ppar fit --config {shlex.quote(str(Path(folder) / CONFIG))} --ckpt_path last"


class Interruption(L.Callback):
    """End ``validate``, ``test`` and ``predict`` at once, with status 128 + signal; Lightning would continue.

    In training, :class:`~ppar_lightning.callbacks.last_checkpoint.LastCheckpoint` handles signals and errors.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Handle signals in ``validate``, ``test`` and ``predict``, but not in the validations of a training."""
        predicting = trainer.state.fn == TrainerFn.PREDICTING
        remark = "the same command continues with --skip_existing" if predicting else "nothing was scored"
        if trainer.state.fn != TrainerFn.FITTING:
            listen(lambda number: leave_after(number, f": {remark}"))

    on_test_start = on_validation_start
    on_predict_start = on_validation_start
