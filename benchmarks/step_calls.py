"""What a training step asks of the host: operations, reads of the device, collectives, and the loop's own time.

python benchmarks/step_calls.py [--ranks 2] [--steps 8] --config configs/demo.yaml [any words of `ppar fit`]

It trains a few steps twice, source only and with PPAR, and counts on the CPU what would keep a GPU waiting. An
operation that is no view is about one kernel, whose launch takes the host some 20 to 45 us. A read is where the host
waits for the device. Collectives are counted without those of DDP's gradients. Averages are over all steps but the
first two, none of which is a logging step. A second table names where the processor's time goes beside the step itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import Profiler
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = {
    *("alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift", "lift_fresh", "movedim", "narrow"),
    *("permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold"),
    *("unsqueeze", "view", "view_as_real", "_reshape_alias", "_unsafe_view", "is_same_size", "record_stream"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}
"""Operations that start no kernel."""
READS = {
    *("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "repeat_interleave"),
    *("unique_consecutive", "_unique2", "unique_dim"),
}
"""Operations whose result, or its size, the host needs."""
COPIES = ("tolist", "cpu", "numpy", "new_tensor")
"""Methods that wait for a copy between host and device; those that do nothing on a CPU are seen here alone."""
STEP = "the step itself"
SKIPPED = 2
"""First steps, which are not counted."""


def reads(name: str, arguments: Any) -> bool:
    """Return whether an operation of aten waits for the device; an index that is a mask has to be counted first."""
    masks = (each for each in arguments[1] if each is not None) if name in ("index", "index_put", "index_put_") else ()
    return name in READS or any(mask.dtype in (torch.bool, torch.uint8) for mask in masks)


class _Operations(TorchDispatchMode):
    def __init__(self, calls: Counter[str]) -> None:
        super().__init__()
        self.calls = calls
        self.backward = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.namespace == "c10d" and not self.backward:  # in a backward pass, they are of DDP's gradients
            self.calls[name.rstrip("_")] += 1
        elif func.namespace == "aten" and name not in VIEWS:
            self.calls["reads" if reads(name, args) else "operations"] += 1
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, calls: Counter[str]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        placed = func is torch.tensor and (kwargs or {}).get("device") is not None
        if placed or (name in COPIES and getattr(Tensor, name, None) is func):
            self.calls["reads"] += 1
        return func(*args, **(kwargs or {}))


class StepCalls(L.Callback):
    """Count the calls of each batch, from its start to that of the next, and write them down."""

    def __init__(self, record: str) -> None:
        """Start without a step.

        Args:
            record: JSON file that the first rank writes at the end: a list with name -> number of each batch.
        """
        self.record = record
        self.calls: list[Counter[str]] = []
        self.modes: tuple[_Operations, _Methods] | None = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int) -> None:
        """Count from here."""
        self.stop()
        if trainer.global_step >= SKIPPED:
            self.start()

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Leave DDP's collectives out."""
        if self.modes:
            self.modes[0].backward = True

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count them again."""
        if self.modes:
            self.modes[0].backward = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count no validation."""
        self.stop()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count nothing between epochs."""
        self.stop()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what was counted."""
        self.stop()
        if trainer.is_global_zero:
            Path(self.record).write_text(json.dumps(self.calls))

    def start(self) -> None:
        """Count from here."""
        self.calls.append(Counter())
        self.modes = _Operations(self.calls[-1]), _Methods(self.calls[-1])
        for mode in self.modes:
            mode.__enter__()

    def stop(self) -> None:
        """Count to here."""
        for mode in reversed(self.modes or ()):
            mode.__exit__(None, None, None)
        self.modes = None


class LoopTime(Profiler):
    """Processor time of the main thread in each part of the loop, without that of parts inside it."""

    def __init__(self, record: str) -> None:
        """Start without a step.

        Args:
            record: JSON file to write at the end: part -> milliseconds per batch.
        """
        super().__init__()
        self.record = record
        self.batches = 0
        self.open: list[tuple[str, float]] = []
        self.inner = [0.0]
        self.parts: defaultdict[str, float] = defaultdict(float)

    def setup(self, stage: str, *given: Any, **named: Any) -> None:
        """Make logging a part of its own."""
        log = L.LightningModule.log

        def timed(module: L.LightningModule, *given: Any, **named: Any) -> None:
            with self.profile("log"):
                log(module, *given, **named)

        setattr(L.LightningModule, "log", timed)  # noqa: B010

    def start(self, action_name: str) -> None:
        """Enter an action."""
        self.open.append((action_name, time.thread_time()))
        self.inner.append(0.0)

    def stop(self, action_name: str) -> None:
        """Leave it."""
        name, start = self.open.pop()
        spent, inside = time.thread_time() - start, self.inner.pop()
        self.inner[-1] += spent
        self.batches += name == "run_training_batch"
        if self.batches > SKIPPED and any(each == "run_training_epoch" for each, _ in self.open):
            self.parts[part(name)] += spent - inside

    def summary(self) -> str:
        """Return nothing to print."""
        return ""

    def teardown(self, stage: str | None) -> None:
        """Write what was measured."""
        number = self.batches - SKIPPED
        Path(self.record).write_text(json.dumps({name: 1000 * spent / number for name, spent in self.parts.items()}))


def part(action: str) -> str:
    """Return the part of the loop that an action of Lightning's belongs to."""
    place, _, hook = action.rpartition(".")
    if "[Callback]" in place:
        return place.removeprefix("[Callback]").partition("{")[0]
    if hook in ("training_step", "backward", "optimizer_step", "optimizer_zero_grad", "zero_grad"):
        return STEP
    names = {"on_train_batch_start": "seeding", "train_dataloader_next": "loader", "log": "logging"}
    if "batch_transfer" in hook or "batch_to_device" in hook:
        return "transfer and augmentation"
    return names.get(hook, "hooks of the module" if "[LightningModule]" in place else "Lightning's loop")


def words(steps: int, record: Path) -> list[str]:
    """Return the words that make `ppar fit` count some steps."""
    return [
        *("--trainer.callbacks+=step_calls.StepCalls", "--trainer.callbacks.record", str(record)),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
        *few(steps),
    ]


def few(steps: int) -> list[str]:
    """Return the words for some steps, none of them a logging step."""
    return [
        *("--trainer.max_steps", str(SKIPPED + steps), "--trainer.limit_val_batches", "0"),
        *("--trainer.log_every_n_steps", "1000", "--trainer.logger", "false", "--trainer.accelerator", "cpu"),
    ]


def averages(record: Path) -> dict[str, float]:
    """Read what was counted: name -> mean number."""
    calls = [Counter(each) for each in json.loads(record.read_text())]
    return {name: number / len(calls) for name, number in sum(calls, Counter()).items()}


def run(given: list[str], ranks: int, steps: int, timed: bool = False) -> Any:
    """Run `ppar fit` with some words; return the mean numbers of calls of its steps, or the milliseconds by part."""
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "calls.json"
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
        command = [*start, "-m", "ppar_lightning", "fit", *given, "--trainer.default_root_dir", folder]
        several = ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"] if ranks > 1 else []
        profiler = ["--trainer.profiler", "step_calls.LoopTime", "--trainer.profiler.record", str(record)]
        own = [*few(steps), *profiler] if timed else words(steps, record)
        everything = [sys.executable, *command, *several, *own]
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        subprocess.run(everything, env=environment, check=True, stdout=subprocess.DEVNULL)
        return json.loads(record.read_text()) if timed else averages(record)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="a multiple of ppar.context_every")
    options, given = parser.parse_known_args()
    found = [run([*given, "--model.ppar.enabled", on], options.ranks, options.steps) for on in ("false", "true")]
    table = Table(title=f"a training step, {options.ranks} rank(s), mean of {options.steps}")
    for column in ("what", "source only", "PPAR", "difference"):
        table.add_column(column, justify="left" if column == "what" else "right")
    names = dict.fromkeys(["operations", "reads", *found[0], *found[1]])
    for name in names:
        plain, ppar = (calls.get(name, 0.0) for calls in found)
        table.add_row(name, f"{plain:.1f}", f"{ppar:.1f}", f"{ppar - plain:.1f}")
    Console().print(table)
    parts = run(given, 1, 5 * options.steps, timed=True)
    table = Table(title="processor time of a step with PPAR, ms")
    for column in ("part", "ms"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, spent in sorted(parts.items(), key=lambda pair: -pair[1]):
        table.add_row(name, f"{spent:.2f}")
    table.add_row("all but the step itself", f"{sum(parts.values()) - parts[STEP]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
