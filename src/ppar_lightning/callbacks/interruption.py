"""SIGINT and SIGTERM outside of training, and how this process listens to them."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(handler: Callable[[int, FrameType | None], None]) -> None:
    """Have a handler called at SIGINT and SIGTERM. Lightning's teardown restores the handlers from before."""
    if threading.current_thread() is threading.main_thread():  # Python allows no other
        for number in SIGNALS:
            signal.signal(number, handler)


class Interruption(L.Callback):
    """End ``validate``, ``test`` and ``predict`` at once, with status 128 + signal; Lightning would go on at SIGTERM.

    In training, :class:`~ppar_lightning.callbacks.last_checkpoint.LastCheckpoint` listens.
    """

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen during ``validate``, ``test`` and ``predict``, but not during the validations of a training."""
        predicting = trainer.state.fn == TrainerFn.PREDICTING
        remark = "the same command goes on with --skip_existing" if predicting else "nothing was scored"

        def end(number: int, frame: FrameType | None) -> NoReturn:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_IGN)
            print(f"ppar: {signal.Signals(number).name}: {remark}", file=sys.stderr)
            raise SystemExit(128 + number)

        if trainer.state.fn != TrainerFn.FITTING:
            listen(end)

    on_test_start = on_validation_start
    on_predict_start = on_validation_start
