"""SIGINT and SIGTERM outside of training."""

import signal
import sys
import threading
from typing import Any, NoReturn

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn


class Interruption(L.Callback):
    """End ``validate``, ``test`` and ``predict`` at once, with status 128 + signal; Lightning would go on at SIGTERM.

    In training :class:`~ppar_lightning.callbacks.last_checkpoint.LastCheckpoint` listens.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, but for validations of a training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            listen("nothing was scored")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen."""
        listen("nothing was scored")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen."""
        listen("the same command goes on with --skip_existing")


def listen(remark: str) -> None:
    """Have both signals end the process, and Lightning's teardown restore what there was."""

    def end(number: int, frame: Any) -> NoReturn:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        print(f"ppar: {signal.Signals(number).name}: {remark}", file=sys.stderr)
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():  # others may not
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
