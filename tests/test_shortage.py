"""What the machine may lack, provoked for real where that is possible: one line, and its remedy works."""

import errno
import multiprocessing
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import Dataset, get_worker_info

from ppar_lightning import export
from ppar_lightning.callbacks import last_checkpoint
from ppar_lightning.cli import main
from ppar_lightning.data.dataset import Sample
from ppar_lightning.data.loading import Loader, collate, start_worker
from ppar_lightning.data.split import Split
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.module import PPARModule
from ppar_lightning.shortage import LESS_MEMORY, shortage

CONFIG = str(Path(__file__).parents[1] / "configs" / "demo.yaml")
SMALL = [
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--prediction_grid.images", "0"),
    *("--data.sources.game.limit", "4", "--data.batch_size", "2", "--data.crop", "[32, 64]", "--data.workers", "0"),
    *("--model.segmenter.backbone", "resnet_small", "--model.segmenter.pretrained", "false"),
]
FULL_GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 4 GiB"


@contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    """Lower a limit of this process and of the workers that it starts."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@pytest.fixture(autouse=True)
def notices_workers_that_end(monkeypatch):
    """Let torch install its handler of SIGCHLD again: Lightning restores the one that was there before a training."""
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)


def unused() -> int:
    """Number of the next file that is opened."""
    number = os.dup(0)
    os.close(number)
    return number


class Pictures(Dataset[Sample]):
    """Black pictures; in a worker something happens before each is read."""

    def __init__(self, happens: Callable[[], object] = lambda: None, side: int = 64) -> None:
        self.happens = happens
        self.side = side

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Sample:
        if get_worker_info() is not None:
            self.happens()
        image, label = (np.zeros((self.side, self.side, *more), np.uint8) for more in ((3,), ()))
        return {"image": image, "label": label, "name": str(index), "domain": "game", "error": []}


def read(pictures: Dataset[Sample], workers: str, size: int = 1) -> int:
    """Read all pictures through the loader of a run, and return their number."""
    options = {"collate_fn": collate, "worker_init_fn": start_worker, "timeout": 60 if int(workers) else 0}
    return sum(len(batch["name"]) for batch in Loader(pictures, size, num_workers=int(workers), **options))


def said_of(*words: str | int) -> str:
    """What is said if reading fails."""
    with pytest.raises((RuntimeError, OSError, EOFError)) as raised:
        read(*words)
    return shortage(raised.value, "fit") or ""


def option(line: str, name: str) -> str:
    """The value that a line gives an option."""
    return re.search(rf"--{re.escape(name)} ([^ ,;]+)", line)[1]


def no_room() -> None:
    """Shared memory whose files cannot grow, as where /dev/shm is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


WORKERS = [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "not enough memory .*signal: Killed.*: lower .*--data.workers"),
    (lambda: os.kill(os.getpid(), signal.SIGBUS), "shared memory is too small .*Bus error.*: set --data.workers 0, or"),
    (no_room, "shared memory is too small .*File too large.*: set --data.workers 0, or enlarge /dev/shm"),
    (lambda: np.empty(2**50), "not enough memory .*MemoryError: Unable to allocate.*: lower"),
]


@pytest.mark.parametrize(("happens", "expected"), WORKERS, ids=["killed", "bus error", "shared memory", "memory"])
def test_a_worker_that_lacks_something_is_one_line_and_without_workers_it_works(happens, expected):
    said = said_of(Pictures(happens), "1")
    assert re.match(expected, said)
    assert read(Pictures(happens), "0") == 12


@pytest.mark.remedy("data/loading.py::Loader.__iter__")
def test_workers_that_cannot_start_for_lack_of_shared_memory(monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as the semaphores of a queue do

    with monkeypatch.context() as patch:
        patch.setattr("torch.utils.data.DataLoader._get_iterator", full)
        said = said_of(Pictures(), "1")
    assert re.match("shared memory is too small .*No space left on device in /dev/shm.: set --data.workers 0, or", said)
    assert read(Pictures(), option(said, "data.workers")) == 12


@pytest.mark.parametrize("more", [pytest.param(4, marks=pytest.mark.slow), 12])
def test_too_few_open_files_are_one_line_and_without_workers_it_works(more):
    """Wherever it comes to light: as workers hand batches over, as these arrive, or as many are kept."""
    kept = []
    batches = iter(Loader(Pictures(), 1, num_workers=2, collate_fn=collate, worker_init_fn=start_worker, timeout=60))
    next(batches)  # the workers are started
    with limited(resource.RLIMIT_NOFILE, unused() + more):
        with pytest.raises((RuntimeError, OSError, EOFError)) as raised:
            kept.extend(batches)  # each holds two files
        said = shortage(raised.value, "fit") or repr(raised.value)
        assert re.match("too few open files are allowed .*: set --data.workers 0, or raise .* `ulimit -n 4096`", said)
        assert read(Pictures(), option(said, "data.workers")) == 12
    assert read(Pictures(), "2") == 12


def test_a_sample_that_cannot_be_read_for_lack_of_files_is_not_replaced(tmp_path):
    class Whole(Pictures):
        domain, labelled_in, scored_classes, remarks = "game", CITYSCAPES, tuple(CITYSCAPES), ()

        def name(self, index: int) -> str:
            return str(index)

        def __getitem__(self, index: int) -> Sample:
            with (tmp_path / "a.png").open("w"):
                return super().__getitem__(index)

    split = Split(Whole(), range(1), skip=True)
    with limited(resource.RLIMIT_NOFILE, unused()), pytest.raises(OSError, match="Too many open files"):
        split[0]
    assert "padding" not in split[0]


def test_sigterm_ends_a_worker_only_if_its_main_process_sends_it():
    """So a signal to a whole job takes no batch from it, and no worker outlives its main process for a minute."""
    earlier = {*multiprocessing.active_children()}
    batches = iter(Loader(Pictures(), 1, num_workers=1, collate_fn=collate, worker_init_fn=start_worker))
    next(batches)
    (worker,) = {*multiprocessing.active_children()} - earlier
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    assert len(list(batches)) == 11
    again = iter(Loader(Pictures(), 1, num_workers=1, collate_fn=collate, worker_init_fn=start_worker))
    next(again)
    (worker,) = {*multiprocessing.active_children()} - earlier
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


def test_memory_that_a_cpu_lacks():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert re.match("not enough memory .*DefaultCPUAllocator: can't allocate.*: lower", shortage(raised.value, "fit"))
    assert shortage(MemoryError()) == "not enough memory (MemoryError): close other programs, or use a larger machine"
    assert shortage(OSError(errno.ENOMEM, "Cannot allocate memory")).startswith(
        "not enough memory (OSError: [Errno 12]"
    )


@pytest.mark.parametrize(
    "error",
    [
        ValueError("/dev/shm/data/a.png: no image that can be decoded; restore it from where it came from"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError(
            "Caught RuntimeError in DataLoader worker process 0.\n  File shared memory.py, out of memory\nShapes"
        ),
        OSError("a.npy cannot be written (No space left on device); set PPAR_CACHE to a writable folder"),
        FileNotFoundError("no pictures in /dev/shm/x: give files, folders or globs"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/Out of memory/a.png"),
        ValueError("/data/Out of memory/a.png: no image that can be decoded"),
        ValueError("Caught ValueError in DataLoader worker process 0.\nValueError: /Out of memory/a.png: no image"),
    ],
)
def test_other_errors_are_none(error):
    if isinstance(error, OSError) and error.errno is None:
        error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert shortage(error) is None


def fit(folder: Path, *words: str) -> None:
    main(["fit", "--config", CONFIG, "--trainer.default_root_dir", str(folder), *SMALL, *words])


def complaint(capsys, *words: str) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        main(words)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (line,) = (line for line in said.splitlines() if line.startswith("ppar: error"))
    return line


@pytest.mark.slow
def test_a_training_whose_gpu_is_full_says_what_to_lower_and_continues(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(last_checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(last_checkpoint, "PATIENCE", 0.0)
    step = PPARModule.training_step

    def full(self, batch, index):
        if self.global_step == 1 and len(batch["image"]) > 1:
            raise torch.OutOfMemoryError(FULL_GPU)
        return step(self, batch, index)

    monkeypatch.setattr(PPARModule, "training_step", full)
    folder = tmp_path / "a run"
    said = complaint(capsys, "fit", "--config", CONFIG, "--trainer.default_root_dir", str(folder), *SMALL)
    expected = r"ppar: error: not enough memory \(OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\): "
    assert re.match(f"{expected}lower --data.batch_size, .*; then continue with: ppar fit --config '{folder}/", said)
    _, *words = shlex.split(said.partition("continue with: ")[2])
    main([*words, "--data.batch_size", "1"])
    assert torch.load(folder / "checkpoints" / "last.ckpt")["global_step"] == 2


@pytest.mark.parametrize("command", ["validate", "test", "predict", "export", "report", "reproduce", "configs"])
def test_every_subcommand_says_so_in_one_line(tmp_path, capsys, monkeypatch, command):
    """In place of what the subcommand does, its memory is full."""

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(FULL_GPU)

    modules = {"export": "export", "report": "report.arguments", "configs": "shipped_configs"}
    module = f"ppar_lightning.{modules.get(command, command)}.main"
    monkeypatch.setattr(
        "ppar_lightning.cli.training.run" if command in ("validate", "test", "predict") else module, full
    )
    said = complaint(capsys, command, "--run", str(tmp_path))
    assert said.endswith(LESS_MEMORY.get(command, "close other programs, or use a larger machine"))


def test_a_defect_keeps_its_traceback_and_so_does_any_error_on_request(monkeypatch):
    error: Exception = RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    def stumble(_: object) -> None:
        raise error

    monkeypatch.setattr(export, "main", stumble)
    with pytest.raises(RuntimeError, match="shapes"):
        main(["export"])
    error = MemoryError()
    with pytest.raises(SystemExit):
        main(["export"])
    monkeypatch.setenv("PPAR_TRACEBACK", "1")
    with pytest.raises(MemoryError):
        main(["export"])


@pytest.mark.remedy("cli/training.py::call")
def test_a_refusal_of_lightning_is_one_line_and_shows_its_traceback_on_request(monkeypatch, capsys):
    monkeypatch.setattr("ppar_lightning.cli.training.PPARCLI", lambda args: len(CombinedLoader([args])))
    said = complaint(capsys, "fit")
    assert said == "ppar: error: Please call `iter(combined_loader)` first.; PPAR_TRACEBACK=1 shows where it comes from"
    monkeypatch.setenv("PPAR_TRACEBACK", "1")
    with pytest.raises(ValueError, match="Please call") as raised:
        main(["fit"])
    assert "combined_loader.py" in str(raised.value.__cause__.__traceback__.tb_next.tb_next.tb_frame.f_code)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "large", "small"),
    [
        ("ulimit -n 14", ("--data.workers", "2"), ("--data.workers", "0")),
        ("ulimit -v 2600000", ("--data.crop", "[1024, 2048]", "--data.batch_size", "4"), ("--data.crop", "[32, 64]")),
    ],
)
def test_a_limit_of_the_shell(tmp_path, limit, large, small):
    """The whole process: its last line names the remedy, no traceback and no worker is left, and the remedy works."""
    command = f"{limit}; exec {sys.executable} -m ppar_lightning fit --config {CONFIG} {shlex.join(SMALL)}"
    command += f" --trainer.default_root_dir {tmp_path}"
    ended = subprocess.run(
        ["bash", "-c", f"{command} {shlex.join(large)}"], capture_output=True, text=True, timeout=300
    )
    assert "Traceback" not in ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("ppar: error"))
    assert small[0] in line
    subprocess.run(["bash", "-c", f"{command} {shlex.join(small)}"], check=True)
