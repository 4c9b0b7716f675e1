"""The manifest and the last checkpoint, on a model of one weight: sessions add up; neither git nor CUDA is needed."""

import errno
import hashlib
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import AsyncCheckpointIO, TorchCheckpointIO
from ranks import run_ranks
from torch import nn

from ppar_lightning.callbacks import ending, provenance, session
from ppar_lightning.callbacks import last_checkpoint as last
from ppar_lightning.callbacks.hyperparameters import Hyperparameters
from ppar_lightning.callbacks.last_checkpoint import LastCheckpoint
from ppar_lightning.callbacks.loggers import CurvesLogger
from ppar_lightning.callbacks.provenance import Provenance
from ppar_lightning.callbacks.results import TestResults as Results
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.callbacks.session import differences, peak_memory, revision
from ppar_lightning.distributed import sum_together
from ppar_lightning.runs.manifest import read_manifest, training_notes


class OneWeight(L.LightningModule):
    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seed = 7  # as the real module has it
        self.shared, self.summed = {}, {}
        self.stop_at = stop_at

    def on_fit_start(self):
        self.begun()

    def begun(self):
        """What happens before the first step."""

    def training_step(self, batch, batch_idx):
        if self.global_step == self.stop_at:
            raise RuntimeError("stopped")
        loss = (self.weight * batch).sum()
        self.log("loss", loss)
        return loss

    def on_before_optimizer_step(self, optimizer):
        self.summed, self.shared = sum_together(self.shared), {}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Ones(L.LightningDataModule):
    unseen = protocol_titles = ()
    batch_size = 1

    def fingerprints(self):
        return {}

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(2))


def fit(
    folder: Path, stop_at: int | None = None, ckpt_path: str | None = None, logger=False, also=(), **options
) -> dict | None:
    """Train two epochs of two steps and return the manifest."""
    callbacks = [Provenance("seed: 7\n", ckpt_path), LastCheckpoint(), *also]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    options = {"max_epochs": 2, **options}
    trainer = L.Trainer(default_root_dir=folder, callbacks=callbacks, logger=logger, **quiet, **options)
    with nullcontext() if stop_at is None else pytest.raises(RuntimeError, match="stopped"):
        trainer.fit(OneWeight(stop_at), datamodule=Ones(), ckpt_path=ckpt_path)
    return read_manifest(folder)


def test_a_whole_run(tmp_path):
    record = fit(tmp_path)
    (session,) = record["sessions"]
    assert record["finished"]
    assert record["seed"] == 7
    assert {"python", "ppar-lightning", "torch", "lightning", "transformers", "numpy"} <= set(session["versions"])
    assert session["versions"]["torch"] == torch.__version__
    assert session["hardware"].endswith("x86_64)") or "CPU" in session["hardware"]
    assert 0.05 < session["peak_memory"] < 100  # GiB
    assert 0 <= session["seconds"] < 60
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def often(monkeypatch) -> None:
    """Write a checkpoint after each step."""
    monkeypatch.setattr(last, "INTERVAL", 0.0)
    monkeypatch.setattr(last, "PATIENCE", 0.0)


def saved_step(folder: Path) -> int:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def test_a_stopped_run_is_not_finished_and_counts_up_to_its_last_checkpoint(tmp_path, monkeypatch):
    often(monkeypatch)
    clock = iter((0.0, 1.0, 11.0, 21.0, 31.0))  # start, first writing, a checkpoint after each of three steps
    monkeypatch.setattr(provenance, "now", lambda: next(clock))
    record = fit(tmp_path, stop_at=3)
    assert saved_step(tmp_path) == 3
    assert not record["finished"]
    assert [session["seconds"] for session in record["sessions"]] == [31.0]
    clock = iter((100.0, 100.0, 105.0, 106.0, 107.0))  # one more step, and the end twice
    again = fit(tmp_path, ckpt_path=str(tmp_path / "checkpoints" / "last.ckpt"))
    assert again["finished"]
    assert again["sessions"][0] == record["sessions"][0]
    assert [session["seconds"] for session in again["sessions"]] == [31.0, 7.0]


def test_the_last_checkpoint_is_of_the_last_step_whatever_the_interval(tmp_path, monkeypatch):
    fit(tmp_path / "end")
    assert saved_step(tmp_path / "end") == 4
    often(monkeypatch)
    fit(tmp_path / "often")
    assert saved_step(tmp_path / "often") == 4
    assert {path.name for path in (tmp_path / "often" / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.parametrize(("longest", "steps"), [(900.0, [1, 4]), (2.0, [1, 3, 4])])
def test_writing_takes_a_small_share_of_the_time_but_not_too_long_passes_without(tmp_path, monkeypatch, longest, steps):
    """Each of these checkpoints takes a second to write, so none but the first and the last is due in 50."""
    monkeypatch.setattr(last, "INTERVAL", 0.0)
    monkeypatch.setattr(last, "LONGEST", longest)
    moments = iter(range(1000))
    monkeypatch.setattr(last.time, "monotonic", lambda: float(next(moments)))
    seen, save = [], L.Trainer.save_checkpoint
    monkeypatch.setattr(L.Trainer, "save_checkpoint", lambda *a, **k: (seen.append(a[0].global_step), save(*a, **k)))
    fit(tmp_path)
    assert seen == steps


class Own(TorchCheckpointIO):
    """A user's plugin, which may write something else."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content, self.written = content, []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.written.append(checkpoint["global_step"])
        super().save_checkpoint(checkpoint, path, storage_options)
        if self.content is not None:
            Path(path).write_bytes(self.content)


@pytest.mark.parametrize("inside", [False, True])
def test_a_plugin_for_checkpoints_is_used(tmp_path, monkeypatch, recwarn, inside):
    often(monkeypatch)
    own = Own()
    fit(tmp_path, plugins=AsyncCheckpointIO(own) if inside else own)
    assert own.written == [1, 2, 3, 4, 4]
    assert saved_step(tmp_path) == 4
    assert not [each for each in recwarn if "plugin" in str(each.message)]


@pytest.mark.remedy("runs/checkpoints.py::promote")
def test_what_a_plugin_writes_never_replaces_a_checkpoint_unless_it_is_whole(tmp_path):
    fit(tmp_path)
    path, longer = tmp_path / "checkpoints" / "last.ckpt", {"max_steps": 6, "max_epochs": -1}
    with pytest.raises(OSError, match="next.ckpt is damaged or no checkpoint: check the disk, and leave plugins out"):
        fit(tmp_path, ckpt_path=str(path), plugins=Own(b"PK"), **longer)
    assert saved_step(tmp_path) == 4
    fit(tmp_path, ckpt_path=str(path), **longer)
    assert saved_step(tmp_path) == 6


def test_an_error_of_the_thread_ends_the_training_at_the_next_step(tmp_path, monkeypatch):
    often(monkeypatch)
    writes, write = iter(range(9)), torch.save

    def full(*arguments):
        if next(writes) == 1:  # the disk is full for the second checkpoint, and is no longer
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"next.ckpt cannot be written \(No space left on device\): make room") as raised:
        fit(tmp_path)
    assert raised.value.__notes__ == [
        f"; then continue with: ppar fit --config {tmp_path}/config.yaml --ckpt_path last"
    ]
    assert saved_step(tmp_path) == 1
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.ckpt"}
    assert fit(tmp_path, ckpt_path=str(tmp_path / "checkpoints" / "last.ckpt"))["finished"]


@pytest.mark.remedy("callbacks/last_checkpoint.py::lack_of_room")
def test_too_small_a_disk_is_said_before_training(tmp_path, monkeypatch):
    """The weight and what SGD may keep of it take 8 bytes; there are three checkpoints at once, and the best ones."""
    free = 7
    monkeypatch.setattr(last.shutil, "disk_usage", lambda disk: SimpleNamespace(free=free))
    best = ModelCheckpoint(tmp_path / "checkpoints", monitor="loss", save_top_k=2)
    with pytest.raises(
        OSError, match=r"^/\S* has 0.00 GB free, and 5 checkpoints need 0.00 GB: make room there, or gi"
    ):
        fit(tmp_path, also=[best])
    assert not tmp_path.exists()
    free = 8
    with pytest.warns(UserWarning, match="and 3 checkpoints need"):
        assert fit(tmp_path)["finished"]
    free, kept = 24, sum(path.stat().st_size for path in (tmp_path / "checkpoints").iterdir())
    assert kept > 16
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*GB free")
        fit(tmp_path.with_name("roomy"))
        free = 8  # the files that are there make room for others
        fit(tmp_path, ckpt_path=str(tmp_path / "checkpoints" / "last.ckpt"), max_epochs=3)


def test_several_ranks_act_on_what_one_asked_for_some_steps_before(monkeypatch):
    """Rank 1 asks in step 3; rank 0 looks at the sum when the device has long computed it."""
    callback, trainer, module = LastCheckpoint(), SimpleNamespace(world_size=2), OneWeight()
    callback._due = float("inf")
    found = []
    for step in range(10):
        callback.on_before_optimizer_step(trainer, module)
        assert module.shared["asks"].tolist() == [0, 0]
        module.summed = {"asks": module.shared["asks"] + torch.tensor([step >= 3, False])}
        found.append(callback._agreed(trainer, module))
    assert found == [[step >= 3 + last.DELAY, False] for step in range(10)]
    callback._note(15)
    callback.on_before_optimizer_step(trainer, module)
    assert module.shared["asks"].tolist() == [1, 0]


def test_no_rank_leaves_before_the_checkpoint_is_written():
    """Launchers kill rank 0, which writes it, as soon as another rank has left."""
    callback, done = LastCheckpoint(), []
    callback._stopping, callback._signal = True, 15
    callback._writer = SimpleNamespace(teardown=lambda wait: done.append("written" if wait else "seen"))
    strategy = SimpleNamespace(barrier=lambda: done.append("all ranks are here"))
    trainer = SimpleNamespace(strategy=strategy, is_global_zero=False, global_step=3, default_root_dir="run")
    with pytest.raises(SystemExit, match="143"):
        callback.on_train_batch_start(trainer)
    assert done == ["written", "all ranks are here"]


def test_no_checkpoint_between_the_batches_of_one_optimiser_step(tmp_path, monkeypatch):
    often(monkeypatch)
    steps = []
    monkeypatch.setattr(LastCheckpoint, "_write", lambda self, trainer: steps.append(trainer.global_step))
    fit(tmp_path, accumulate_grad_batches=2)
    assert steps == [1, 2, 2]  # four batches; the last is written again at the end


@pytest.mark.remedy("callbacks/provenance.py::refuse_another")
def test_another_run_in_the_folder_is_refused_unless_its_config_is_taken_away(tmp_path):
    fit(tmp_path)
    with pytest.raises(
        FileExistsError, match="already holds a run: continue it with --ckpt_path last, or give another"
    ):
        fit(tmp_path)
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    assert len(fit(tmp_path, ckpt_path=last, max_epochs=3)["sessions"]) == 2
    assert len(fit(tmp_path.with_name("another"))["sessions"]) == 1
    (tmp_path / "config.yaml").unlink()
    assert len(fit(tmp_path)["sessions"]) == 1


@pytest.mark.remedy("callbacks/provenance.py::refuse_another")
def test_a_checkpoint_of_another_run_is_refused_where_there_is_one(tmp_path):
    own, other = (tmp_path / name / "checkpoints" / "last.ckpt" for name in ("run", "other"))
    fit(tmp_path / "run")
    fit(tmp_path / "other")
    longer = {"max_steps": 5, "max_epochs": -1}
    with pytest.raises(FileExistsError, match="continue it with --ckpt_path last, or give another fol"):
        fit(tmp_path / "run", ckpt_path=str(other), **longer)
    assert fit(tmp_path / "run", ckpt_path=str(own), **longer)["steps"] == {"done": 5, "planned": 5}
    assert fit(tmp_path / "new", ckpt_path=str(other), **longer)["steps"] == {"done": 5, "planned": 5}


def test_of_two_runs_that_start_at_once_the_second_is_refused(tmp_path, monkeypatch):
    refused = []

    def second(_):
        monkeypatch.undo()
        with pytest.raises(FileExistsError, match="already holds a run"):
            fit(tmp_path)
        refused.append((tmp_path / "config.yaml").read_text())

    monkeypatch.setattr(OneWeight, "begun", second)
    assert len(fit(tmp_path)["sessions"]) == 1
    assert refused == ["seed: 7\n"]
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "manifest.json", "checkpoints"}


def test_every_rank_is_told_of_a_damaged_manifest(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    trainer = SimpleNamespace(is_global_zero=False, ckpt_path="last.ckpt", default_root_dir=str(tmp_path))
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        Provenance("seed: 7\n", "last").on_fit_start(trainer, OneWeight())
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        Provenance("seed: 7\n").setup(trainer, OneWeight(), "test")  # before anything is scored


class Stop(L.Callback):
    """Ask to stop after a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop |= trainer.fit_loop.total_batch_idx + 1 == self.batch


def test_a_run_that_stops_early_prints_how_it_goes_on_and_is_continued_so(tmp_path, capsys):
    """A callback asks for it within an accumulation: the optimiser step is completed first."""
    folder = tmp_path / "a run"
    record = fit(folder, accumulate_grad_batches=2, max_steps=2, also=[Stop(1)])
    assert not record["finished"]
    assert record["steps"] == {"done": 1, "planned": 2}
    command = f"ppar fit --config '{folder}/config.yaml' --ckpt_path last"
    assert capsys.readouterr().out.splitlines()[-1] == f"{folder}: 1 of 2 steps; not finished, continue with: {command}"
    assert training_notes(record) == ["Training is not finished: 1 of 2 steps."]
    last = str(folder / "checkpoints" / "last.ckpt")
    record = fit(folder, ckpt_path=last, accumulate_grad_batches=2, max_steps=2)
    assert record["finished"]
    command = f"ppar test --config '{folder}/config.yaml'"
    assert capsys.readouterr().out.splitlines()[-1] == f"{folder}: 2 of 2 steps; next: {command}"


def test_a_run_that_early_stopping_ends_is_finished_and_says_so(tmp_path, capsys):
    stopping = EarlyStopping("loss", stopping_threshold=100.0, check_on_train_epoch_end=True)
    record = fit(tmp_path, also=[stopping])
    assert record["finished"]
    assert record["steps"] == {"done": 2, "planned": 4}
    assert "Stopping threshold reached" in record["early_stop"]
    assert "2 of 4 steps, EarlyStopping ended it; next: ppar test" in capsys.readouterr().out
    assert training_notes(record) == [
        "EarlyStopping ended training after 2 of 4 steps, before the end of its schedules."
    ]


@pytest.mark.parametrize("done", [3, 4])
def test_early_stopping_ends_a_run_only_before_its_last_step(tmp_path, done):
    stopping = EarlyStopping("loss", stopping_threshold=100.0, check_on_train_epoch_end=True)
    record = fit(tmp_path, also=[stopping], min_steps=done, max_steps=4, max_epochs=-1, limit_train_batches=done)
    assert record["steps"] == {"done": done, "planned": 4}
    assert (record["early_stop"] is None) == (done == 4)


@pytest.mark.parametrize(("there", "finished"), [("", False), ("Stopping threshold reached", True)])
def test_the_ranks_agree_that_early_stopping_ended_a_run(tmp_path, monkeypatch, there, finished):
    """Its criterion holds on the other rank only, or on none; a callback stops both."""
    monkeypatch.setattr(ending, "gather", lambda part: [part, [there] if there else []])
    record = fit(tmp_path, also=[Stop(1)])
    assert (record["finished"], record["early_stop"] or "") == (finished, there)


class Local(L.Callback):
    """Log what only one rank finds high, without a sum over the ranks."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        pl_module.log("local", 100.0 * trainer.global_rank)


def stopped_by_one_rank(folder: Path) -> None:
    stop = EarlyStopping("local", mode="max", stopping_threshold=50.0, check_on_train_epoch_end=True)
    fit(folder, also=[Local(), stop], strategy="ddp", devices=2, max_epochs=3)


@pytest.mark.slow
def test_two_ranks_end_where_early_stopping_holds_on_one(tmp_path):
    run_ranks(2, stopped_by_one_rank, tmp_path)
    record = read_manifest(tmp_path)
    assert (record["finished"], record["steps"], saved_step(tmp_path)) == (True, {"done": 1, "planned": 3}, 1)
    assert "Stopping threshold reached" in record["early_stop"]


def test_ranks_but_the_first_look_at_no_git_and_take_no_fingerprints(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: calls.append("git"))
    monkeypatch.setattr(Ones, "fingerprints", lambda self: calls.append("fingerprints"))
    parts = {"default_root_dir": tmp_path, "ckpt_path": None, "loggers": ["any"], "datamodule": Ones()}
    other = SimpleNamespace(is_global_zero=False, **parts)
    made = Provenance("seed: 7\n")
    made.on_fit_start(other, OneWeight())
    Results(DomainScores(), made).on_test_end(other, OneWeight())
    Hyperparameters("seed: 7\n").setup(other, OneWeight(), "fit")
    assert not calls


def test_a_run_of_epochs_that_goes_on_with_another_batch_is_finished_after_its_last_epoch(tmp_path, capsys):
    """An epoch of one batch of two images, then one of two batches: 3 steps of 4; a stop within the last does not."""
    last, done = str(tmp_path / "checkpoints" / "last.ckpt"), {"done": 3, "planned": 4}
    fit(tmp_path, max_epochs=1, accumulate_grad_batches=2)
    record = fit(tmp_path, ckpt_path=last, also=[Stop(3)])
    assert (record["finished"], record["steps"]["done"]) == (False, 2)
    for sessions in (3, 3):  # nothing is left to do in the second, which changes nothing
        record = fit(tmp_path, ckpt_path=last)
        assert (record["finished"], record["steps"], len(record["sessions"])) == (True, done, sessions)
        assert "3 of 4 steps; next: ppar test" in capsys.readouterr().out


@pytest.mark.parametrize("monitored", ["loss", "of_validation"])
def test_the_best_checkpoint_of_a_run_that_stops_early_is_known_when_it_goes_on(tmp_path, monkeypatch, monitored):
    """It is written after the step at which the run stops; the one before is deleted."""
    monkeypatch.setattr(OneWeight, "validation_step", lambda self, *_: self.log("of_validation", -self.weight[0]))
    monkeypatch.setattr(Ones, "val_dataloader", Ones.train_dataloader)
    best = ModelCheckpoint(tmp_path / "checkpoints", monitor=monitored, mode="max", save_top_k=1)
    fit(tmp_path, also=[Stop(3), best], max_epochs=3)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    (known,) = [each["best_model_path"] for each in state["callbacks"].values() if "best_model_path" in each]
    assert Path(known).is_file()
    assert (known, state["epoch"]) == (best.best_model_path, 1)


def test_another_total_batch_is_said(tmp_path):
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    assert fit(tmp_path, accumulate_grad_batches=2, max_steps=1)["sessions"][-1]["batch"] == 2
    with pytest.warns(UserWarning, match=r"from 2 to 1 images \(data.batch_size 1 x .*: set them so that it stays 2$"):
        fit(tmp_path, ckpt_path=last, max_steps=3)


def test_a_checkpoint_of_another_run_is_recorded(tmp_path):
    fit(tmp_path / "first")
    checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
    record = fit(tmp_path / "second", ckpt_path=str(checkpoint), max_steps=6, max_epochs=-1)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    expected = {"checkpoint": str(checkpoint), "hash": digest, "seed": 7, "batch": 1, "step": 4}
    assert record["origin"] == expected
    assert training_notes(record) == [
        f"Training continued from `{checkpoint}` (step 4, seed 7), whose time is not included."
    ]
    own = str(tmp_path / "second" / "checkpoints" / "last.ckpt")
    assert fit(tmp_path / "second", ckpt_path=own, max_steps=7, max_epochs=-1)["origin"] == expected


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_fails_at_once_changes_no_earlier_file(tmp_path):
    """The curves of the first session stay, though the second writes into their folder or beside it."""
    loggers = (
        lambda: TensorBoardLogger(tmp_path, "board", version=0),  # the same folder in each session
        lambda: CSVLogger(tmp_path, "curves"),  # version_0, then version_1
        lambda: CurvesLogger(tmp_path, "curves/fit"),
    )
    for make in loggers:
        folder = tmp_path / make().name
        fit(folder, logger=make(), max_steps=2)
        before = files(tmp_path)
        last = str(folder / "checkpoints" / "last.ckpt")
        fit(folder, stop_at=2, ckpt_path=last, logger=make(), max_steps=4)
        now = files(tmp_path)
        assert {path: now.get(path) for path in before} == before


def test_the_corrected_command_may_use_the_folder_of_a_run_that_failed_at_once(tmp_path):
    folder = tmp_path / "run"
    assert fit(folder, stop_at=0, logger=CurvesLogger(folder, "curves/fit")) is None
    assert not folder.exists()
    assert fit(folder)["finished"]


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", "-C", folder, *author, *words], check=True, capture_output=True, text=True).stdout


def test_the_revision_says_whether_the_tree_has_changed(tmp_path):
    source = tmp_path / "repository" / "source"
    source.mkdir(parents=True)
    (source / "code.py").write_text("1\n")
    assert revision(source) is None
    git(tmp_path / "repository", "init")
    git(tmp_path / "repository", "add", ".")
    git(tmp_path / "repository", "commit", "-m", "one")
    head = git(source, "rev-parse", "HEAD").strip()
    assert revision(source) == head
    (source / "code.py").write_text("2\n")
    assert revision(source) == f"{head}-dirty"
    installed = tmp_path / "repository" / ".venv"  # within a repository, but not under its control
    installed.mkdir()
    assert revision(installed) is None


def test_no_git_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fit(tmp_path / "run")["sessions"][0]["git"] is None


def test_a_package_that_is_not_installed_is_no_error(monkeypatch):
    monkeypatch.setattr(session, "PACKAGES", ("no-such-package",))
    assert session.versions()["no-such-package"] == "not installed"


def test_memory_is_in_gibibytes():
    held = torch.ones(2**26)  # a quarter of one
    assert 0.25 + 0.05 < peak_memory(torch.device("cpu")) < 64
    assert held.numel() == 2**26


def test_the_peak_of_a_process_is_not_that_of_its_parent():
    held = torch.ones(2**28)  # a whole one
    code = "import torch; from ppar_lightning.callbacks.session import peak_memory as p; print(p(torch.device('cpu')))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.05 < float(child.stdout) < 0.9 < peak_memory(torch.device("cpu")) - 0.05
    assert held.numel() == 2**28


def test_what_differs_between_training_and_testing_is_named():
    here = {"hardware": "2 CPU cores", "versions": {"torch": "2.12", "numpy": "2.0"}}
    data = {"gta/train": {"images": 9, "hash": "x"}, "gta/eval": {"images": 4, "hash": "y"}}
    trained = {"sessions": [{}, here], "data": data}
    assert list(differences(trained, {}, here, {"gta/eval": data["gta/eval"]})) == []
    now = {"hardware": "1 x GPU", "versions": {"torch": "2.13", "numpy": "2.0"}}
    held = {"gta/eval": {"images": 4, "hash": "z"}, "city/eval": {"images": 5, "hash": "u"}}
    named = [
        "hardware: 2 CPU cores in training, 1 x GPU now",
        "versions.torch: 2.12 in training, 2.13 now",
        "images of gta/eval: as many as in training, but of other names or sizes",
    ]
    assert list(differences(trained, {}, now, held)) == named
    earlier = {"gta/eval": {"images": 3, "hash": "w"}, "city/eval": {"images": 6, "hash": "v"}}
    before = "images of city/eval: 6 in the previous test, 5 now"
    assert list(differences(trained, earlier, now, held)) == [*named, before]
    ids = {"gta/eval": data["gta/eval"] | {"ids": "p"}}
    assert list(differences(trained, {}, here, ids)) == []  # a record of version 0.2.0 has none
    other = {"sessions": [here], "data": {"gta/eval": data["gta/eval"] | {"ids": "q"}}}
    assert list(differences(other, {}, here, ids)) == [
        "label ids of gta/eval: mapped to other classes than in training"
    ]
    fewer = list(differences(trained, {}, here, {"gta/eval": {"images": 3, "hash": "z"}}))
    assert fewer == ["images of gta/eval: 4 in training, 3 now"]
    recorded = {"sessions": [here | {"git": "1f", "config": "ab"}]}
    assert list(differences(recorded, {}, here | {"git": "1f-dirty", "config": "cd"}, {})) == [
        "git: 1f in training, 1f-dirty now",
        "config: ab in training, cd now",
    ]
    old = {"sessions": [{"hardware": "2 CPU cores"}]}  # a manifest without versions and data
    assert len(list(differences(old, {}, here, data))) == 2


@pytest.mark.remedy("runs/manifest.py::read_manifest")
@pytest.mark.remedy("runs/manifest.py::read_manifest")
@pytest.mark.parametrize("text", ["", "{}", '{"finished": true, "sessions": 1}', "[1]"])
def test_a_damaged_manifest_is_named(tmp_path, text):
    assert read_manifest(tmp_path) is None
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json is damaged .*: move it away"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").rename(tmp_path / "away.json")
    assert fit(tmp_path)["finished"]
