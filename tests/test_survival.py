"""Runs that are stopped, killed or find their checkpoint damaged go on to the very weights and losses."""

import csv
import json
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from threading import Event, Timer
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Timer as MaxTime
from lightning.pytorch.plugins import CheckpointIO, TorchCheckpointIO

from ppar_lightning.baselines.whitening import ISWOptions
from ppar_lightning.callbacks.last_checkpoint import LastCheckpoint
from ppar_lightning.cli import main
from ppar_lightning.module import PPARModule
from ppar_lightning.reproduce import Planned
from ppar_lightning.runs.checkpoints import (
    BackgroundCheckpointIO,
    WholeCheckpointIO,
    find_checkpoint,
    is_whole,
    promote,
)
from ppar_lightning.runs.run_folder import read_config

CONFIG = str(Path(__file__).parents[1] / "configs" / "demo.yaml")
# 10 images in batches of 2, two of which make a step: batches 0-1, 2-3 and 4 of an epoch; three epochs, all ramps
SMALL = [
    *(
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.enable_model_summary",
        "false",
        "--prediction_grid.images",
        "0",
    ),
    *("--trainer.max_steps", "9", "--trainer.log_every_n_steps", "1", "--trainer.accumulate_grad_batches", "2"),
    *("--trainer.limit_val_batches", "1", "--trainer.num_sanity_val_steps", "0", "--data.eval_batch_size", "1"),
    *("--data.sources.game.limit", "10", "--data.batch_size", "2", "--data.crop", "[32, 64]", "--data.workers", "0"),
    *("--model.segmenter.backbone", "resnet_small", "--model.segmenter.pretrained", "false"),
]
State = dict[str, torch.Tensor]


def fit(folder: Path, *words: str) -> Path:
    main(["fit", "--config", CONFIG, "--trainer.default_root_dir", str(folder), *SMALL, *words])
    return folder


def logged(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """What each step and each validation logged, a later session's in place of an earlier one's."""
    rows = {}
    for version in sorted(folder.glob("curves/fit/*/metrics.csv")):
        with version.open() as file:
            for row in csv.DictReader(file):
                values = {name: row[name] for name in row if row[name] and name != "train/images_per_second"}
                rows[row["step"], "val" if "val/game/miou" in values else "train"] = values
    return rows


def assert_equal(run: Path, whole: Path, also: tuple[str, str] | None = None) -> None:
    """Weights, banks, statistics, optimiser, schedule and logged losses, bit for bit; one more validation if named."""
    ours, expected = (torch.load(each / "checkpoints" / "last.ckpt") for each in (run, whole))
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name
    ours_adam, expected_adam = (each["optimizer_states"][0] for each in (ours, expected))
    assert ours_adam["param_groups"] == expected_adam["param_groups"]
    torch.testing.assert_close(ours_adam["state"], expected_adam["state"], rtol=0, atol=0)
    assert ours["lr_schedulers"] == expected["lr_schedulers"]
    assert ours["global_step"] == 9
    assert {key: row for key, row in logged(run).items() if key != also} == logged(whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing interrupts."""
    os.environ["PPAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return fit(tmp_path_factory.mktemp("runs") / "whole")


def test_the_runs_cover_ramps_epochs_and_validations(whole):
    rows = logged(whole)
    assert [step for step, kind in rows if kind == "val"] == ["2", "5", "8"]
    steps = [row for (_, kind), row in rows.items() if kind == "train"]
    assert len(steps) == 9
    for name, values in (("train/rho", 4), ("train/eta", 4), ("train/lambda_align", 2)):
        assert len({row[name] for row in steps}) >= values, name


STOPS = [
    # hook, call of it from 0, signal, last step of the first session
    ("training_step", 2, signal.SIGTERM, 2),  # first of two batches: that step is completed
    pytest.param("validation_step", 1, signal.SIGINT, 6, marks=pytest.mark.slow),  # which is completed
    pytest.param(
        "validation_step", 2, signal.SIGTERM, 9, marks=pytest.mark.slow
    ),  # the last one: training is over, and ends as ever
]


@pytest.mark.parametrize(("hook", "call", "number", "last"), STOPS)
def test_a_signal_ends_with_a_checkpoint_that_goes_on_exactly(
    whole, tmp_path, monkeypatch, capsys, hook, call, number, last
):
    function, calls = getattr(PPARModule, hook), iter(range(100))

    def signalled(self, *arguments):
        if next(calls) == call:  # to the workers too, as from a terminal
            job = (os.getpid(), *(worker.pid for worker in multiprocessing.active_children()))
            subprocess.run(["kill", f"-{int(number)}", *map(str, job)], check=True)
        return function(self, *arguments)

    def slow(self, *arguments):
        time.sleep(0.2)
        return write(self, *arguments)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    folder, write = tmp_path / "a run", WholeCheckpointIO.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(PPARModule, hook, signalled)
        patch.setattr(WholeCheckpointIO, "save_checkpoint", slow)  # the run waits for the last one
        if last == 9:
            fit(folder)
        else:
            plugin = ("--trainer.plugins", "lightning.pytorch.plugins.io.AsyncCheckpointIO")
            with pytest.raises(SystemExit) as leaving:
                fit(folder, "--data.workers", "1", *plugin)
            assert leaving.value.code == 128 + number
            lines = [line for line in capsys.readouterr().err.splitlines() if "ppar:" in line]
            command = f"ppar fit --config '{folder}/config.yaml' --ckpt_path last"
            assert lines == [f"ppar: {number.name} after step {last}; continue with: {command}"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert torch.load(folder / "checkpoints" / "last.ckpt")["global_step"] == last
    if last < 9:
        main(["fit", "--config", str(folder / "config.yaml"), "--ckpt_path", "last"])
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["finished"]
        assert len(manifest["sessions"]) == 2
    assert_equal(folder, whole)


@pytest.mark.slow
def test_a_run_that_max_time_stops_is_not_finished_and_its_last_line_continues_it_exactly(
    whole, tmp_path, monkeypatch, capsys
):
    """The clock runs out in the first of the two batches of step 2; each session has the whole time."""
    hours = iter(range(100))  # asked at the start and after each batch
    with monkeypatch.context() as patch:
        patch.setattr(MaxTime, "time_elapsed", lambda self, stage=None: 3600.0 * next(hours))
        folder = fit(tmp_path / "a run", "--trainer.max_time", "00:03:00:00")
    assert torch.load(folder / "checkpoints" / "last.ckpt")["global_step"] == 2
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["finished"], manifest["steps"]) == (False, {"done": 2, "planned": 9})
    assert Planned(folder, [], read_config(folder)).state == "stopped"
    line = capsys.readouterr().out.splitlines()[-1]
    main(shlex.split(line.partition("continue with: ppar ")[2]))
    assert_equal(folder, whole, also=("1", "val"))
    assert json.loads((folder / "manifest.json").read_text())["finished"]
    folder.rename(tmp_path / "moved")
    main(["fit", "--config", str(tmp_path / "moved" / "config.yaml"), "--ckpt_path", "last"])  # nothing is left to do
    line = capsys.readouterr().out.splitlines()[-1]
    main([*shlex.split(line.partition("next: ppar ")[2]), "--trainer.limit_test_batches", "1"])
    assert (tmp_path / "moved" / "test.json").is_file()


@pytest.mark.slow
def test_a_restart_that_is_stopped_goes_on_exactly(tmp_path, monkeypatch):
    finished = fit(tmp_path / "finished", "--trainer.max_steps", "4")
    last, words = str(finished / "checkpoints" / "last.ckpt"), ("--model.continuation", "restart")
    expected = fit(tmp_path / "whole", "--ckpt_path", last, *words)
    hours = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(MaxTime, "time_elapsed", lambda self, stage=None: 3600.0 * next(hours))
        folder = fit(tmp_path / "run", "--ckpt_path", last, *words, "--trainer.max_time", "00:03:00:00")
    assert torch.load(folder / "checkpoints" / "last.ckpt")["global_step"] < 9
    main(["fit", "--config", str(folder / "config.yaml"), "--ckpt_path", "last"])
    ours, theirs = (torch.load(each / "checkpoints" / "last.ckpt") for each in (folder, expected))
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    assert ours["lr_schedulers"][0]["plan"] == [9, 4, 1.0]
    for name, tensor in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name


@pytest.mark.slow
def test_a_stop_in_a_validation_in_mid_epoch_goes_on_exactly(tmp_path, monkeypatch):
    function, calls = PPARModule.validation_step, iter(range(100))
    often = ("--trainer.val_check_interval", "4")  # after steps 2, 5 and 8, each the second of three in its epoch

    def signalled(self, *arguments):
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(self, *arguments)

    fit(tmp_path / "whole", *often)
    with monkeypatch.context() as patch:
        patch.setattr(PPARModule, "validation_step", signalled)
        with pytest.raises(SystemExit):
            fit(tmp_path / "run", *often)
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 5
    main(["fit", "--config", str(tmp_path / "run" / "config.yaml"), "--ckpt_path", "last"])
    assert [step for step, kind in logged(tmp_path / "run") if kind == "val"] == ["1", "4", "7"]
    assert_equal(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_ends_anywhere_goes_on_from_the_last_checkpoint_or_the_one_before(
    whole, tmp_path, monkeypatch, recwarn
):
    for constant in ("INTERVAL", "PATIENCE"):
        monkeypatch.setattr(f"ppar_lightning.callbacks.last_checkpoint.{constant}", 0.0)
    folder, step, calls = tmp_path / "run", PPARModule.training_step, iter(range(100))

    def crash(self, *arguments):
        if next(calls) == 8:  # second batch of step 5
            raise RuntimeError("a defect")
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PPARModule, "training_step", crash)
        with pytest.raises(RuntimeError):
            fit(folder)
    last = folder / "checkpoints" / "last.ckpt"
    assert torch.load(last)["global_step"] == 4
    last.write_bytes(last.read_bytes()[:-100])
    fit(folder, "--ckpt_path", "last")
    said = [str(warning.message) for warning in recwarn if "damaged" in str(warning.message)]
    assert said == [f"{last} is damaged or no checkpoint; continuing from {last.with_name('previous.ckpt')}"]
    assert_equal(folder, whole)
    assert {path.name for path in last.parent.iterdir()} == {"last.ckpt", "previous.ckpt"}


def keep(folder: Path, number: int, size: int = 50_000) -> None:
    """Write a checkpoint and make it count, as a run does."""
    state = {"state_dict": {"w": torch.full((size,), float(number))}, "step": number}
    WholeCheckpointIO().save_checkpoint(state, folder / "next.ckpt")
    promote(folder)


@pytest.fixture
def two(tmp_path) -> Path:
    """The checkpoints of a run that wrote two."""
    for number in (1, 2):
        keep(tmp_path / "checkpoints", number)
    return tmp_path / "checkpoints"


def test_any_damage_is_found(two):
    raw = (two / "last.ckpt").read_bytes()
    damaged = two / "damaged.ckpt"
    for length in (0, 1, 1000, len(raw) // 2, len(raw) - 1):
        damaged.write_bytes(raw[:length])
        assert not is_whole(damaged), length
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 1
    damaged.write_bytes(flipped)
    assert not (torch.load(damaged)["state_dict"]["w"] == 2).all()  # which torch does not notice
    assert not is_whole(damaged)
    assert is_whole(two / "last.ckpt")


@pytest.mark.remedy("runs/checkpoints.py::find_checkpoint")
@pytest.mark.remedy("runs/checkpoints.py::find_checkpoint")
@pytest.mark.remedy("runs/checkpoints.py::find_checkpoint")
@pytest.mark.remedy("runs/checkpoints.py::find_checkpoint")
def test_training_goes_on_from_the_one_before_and_a_test_refuses_to(two):
    folder, last, previous = str(two.parent), two / "last.ckpt", two / "previous.ckpt"
    assert find_checkpoint(folder, "last", True) == find_checkpoint(folder, None, False) == str(last)
    assert find_checkpoint(folder, None, True) is None
    for training in (True, False):
        with pytest.raises(FileNotFoundError, match="none.ckpt not found: give a .* that exists, or --ckpt_path last$"):
            find_checkpoint(folder, "runs/none.ckpt", training)
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="last.ckpt is damaged or no checkpoint; continuing from .*previous.ckpt"):
        assert find_checkpoint(folder, "last", True) == str(previous)
    with pytest.raises(ValueError, match=f"{last} is damaged .*--ckpt_path {previous} loads it as it is"):
        find_checkpoint(folder, None, False)
    with pytest.raises(ValueError, match=f"{last} is damaged .*: `ppar fit --ckpt_path last` continues from previous"):
        find_checkpoint(folder, "last", False)
    with pytest.warns(UserWarning, match="continuing from"):
        assert find_checkpoint(folder, "last", True) == str(previous)
    assert find_checkpoint(folder, str(previous), False) == str(previous)
    other = two / "other.ckpt"
    shutil.copy(previous, other)
    previous.write_bytes(b"")
    for training in (True, False):
        with pytest.raises(ValueError, match=f"{last} is damaged or no checkpoint: give another with --ckpt_path"):
            find_checkpoint(folder, "last", training)
        with pytest.raises(ValueError, match=f"{previous} is damaged or no checkpoint: give another"):
            find_checkpoint(folder, str(previous), training)
        assert find_checkpoint(folder, str(other), training) == str(other)
    last.unlink()
    previous.unlink()
    assert find_checkpoint(folder, "last", True) == "last"  # a job's script may say so from the first time
    with pytest.raises(FileNotFoundError, match="last.ckpt not found: run `ppar fit` first, or give --ckpt"):
        find_checkpoint(folder, None, False)
    assert find_checkpoint(folder, str(other), False) == str(other)
    keep(two, 3)  # what `ppar fit` does
    assert find_checkpoint(folder, None, False) == str(last)


def test_killed_between_the_two_renames(two):
    (two / "last.ckpt").rename(two / "previous.ckpt")
    with pytest.warns(UserWarning, match="last.ckpt not found; continuing from .*previous.ckpt"):
        assert find_checkpoint(str(two.parent), "last", True) == str(two / "previous.ckpt")


def test_a_damaged_checkpoint_is_refused_in_one_line_and_the_folder_is_as_it_was(two, capsys):
    (two / "last.ckpt").write_bytes(b"PK")
    before = {path: path.read_bytes() for path in two.parent.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as leaving:
        main(["test", "--config", CONFIG, "--trainer.default_root_dir", str(two.parent)])
    assert leaving.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "ppar: error" in line]
    assert f"{two / 'last.ckpt'} is damaged or no checkpoint: `ppar fit --ckpt_path last` continues" in line
    assert {path: path.read_bytes() for path in two.parent.rglob("*") if path.is_file()} == before


@pytest.mark.remedy("runs/checkpoints.py::WholeCheckpointIO.save_checkpoint")
def test_a_disk_that_is_full_leaves_the_checkpoint_that_was_there(two):
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(
            OSError,
            match=r"next.ckpt cannot be written \(File too large\): make room there; `ppar fit --ckpt_path last`",
        ):
            keep(two, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert torch.load(two / "last.ckpt")["step"] == 2
    assert {path.name for path in two.iterdir()} == {"last.ckpt", "previous.ckpt"}
    assert find_checkpoint(str(two.parent), "last", True) == str(two / "last.ckpt")
    keep(two, 3)  # there is room again
    assert torch.load(two / "last.ckpt")["step"] == 3


def test_the_disk_has_the_file_before_its_name_and_the_name_before_training_goes_on(tmp_path, monkeypatch):
    done = []
    for module, name in ((os, "fsync"), (Path, "replace")):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, f=function, n=name: (done.append(n), f(*args))[1])
    WholeCheckpointIO().save_checkpoint({}, tmp_path / "any.ckpt")
    assert done == ["fsync", "replace", "fsync"]


def write_on(folder: Path) -> None:
    for number in range(1000):
        keep(folder, number, size=2_000_000)  # most of the time goes into writing


def test_sigkill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        process = multiprocessing.get_context("fork").Process(target=write_on, args=(folder,))
        process.start()
        while not (folder / "previous.ckpt").exists():
            time.sleep(0.001)
        time.sleep(0.003 * attempt)
        process.kill()
        process.join()
        kept = {path.name for path in folder.glob("*.ckpt")}
        assert kept & {"last.ckpt", "previous.ckpt"}
        assert all(is_whole(folder / name) for name in kept)  # next.ckpt too
    assert list(tmp_path.glob("*/next.ckpt.tmp"))  # at least one was killed while writing


class Held(CheckpointIO):
    """It writes when it is let go."""

    def __init__(self) -> None:
        self.go, self.files, self.at_work = Event(), {}, 0

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        assert self.at_work == 0
        self.at_work += 1
        self.go.wait(10)
        if checkpoint["w"].isnan().any():
            raise OSError("full")
        self.files[path] = checkpoint
        self.at_work -= 1

    def load_checkpoint(self, path, *_):
        return self.files[path]

    def remove_checkpoint(self, path):
        del self.files[path]


def test_the_thread_writes_the_state_as_it_was_and_one_file_at_a_time():
    writer, weight = Held(), torch.nn.Parameter(torch.ones(3))
    plugin, state = BackgroundCheckpointIO(writer), {"w": weight.data, "steps": [1], "frozen": ISWOptions()}
    plugin.save_checkpoint(state, "a")
    with torch.no_grad():
        weight += 1
    state["steps"].append(2)
    assert not writer.files
    Timer(0.1, writer.go.set).start()
    plugin.save_checkpoint(state, "b")
    assert (writer.files["a"]["w"].tolist(), writer.files["a"]["steps"]) == ([1, 1, 1], [1])
    assert writer.files["a"]["frozen"] == ISWOptions()  # as a subclass that saves its hyperparameters has it
    plugin.teardown()
    assert plugin.load_checkpoint("b")["w"].tolist() == [2, 2, 2]
    plugin.remove_checkpoint("a")
    plugin.save_checkpoint({"w": torch.tensor(torch.nan)}, "c")
    plugin.remove_checkpoint("b")  # it is kept, as what takes its place was not written
    with pytest.raises(OSError, match="full"):
        plugin.teardown()
    assert list(writer.files) == ["b"]
    plugin.teardown()  # the error was said


def test_every_checkpoint_of_a_trainer_is_written_so(whole):
    class Strategy:
        checkpoint_io = TorchCheckpointIO()

    class Trainer:
        strategy = Strategy()

    LastCheckpoint().setup(Trainer(), None, "fit")
    assert isinstance(Trainer.strategy.checkpoint_io, BackgroundCheckpointIO)
    assert isinstance(Trainer.strategy.checkpoint_io.checkpoint_io, WholeCheckpointIO)


def test_a_checkpoint_is_as_large_as_was_said_before_training(whole, tmp_path, monkeypatch, capsys):
    size = (whole / "checkpoints" / "last.ckpt").stat().st_size
    for share in (0.9, 1.1):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=share * size: SimpleNamespace(free=free))
        with pytest.raises(SystemExit) if share < 1 else pytest.warns(UserWarning, match="3 checkpoints need"):
            fit(tmp_path / "run", "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0")
    assert "GB free, and 3 checkpoints need" in capsys.readouterr().err
