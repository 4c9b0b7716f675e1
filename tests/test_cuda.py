"""What only a GPU can show, on the package's own images and models: `make test-cuda` runs it on a machine with one."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from test_cli import CONFIG, SMALL, weights

from ppar_lightning.cli import main
from ppar_lightning.load import load_segmenter
from ppar_lightning.method.clip import FrozenImageTower
from ppar_lightning.rates import is_logging_step

pytestmark = pytest.mark.cuda
DEVICE = "cuda"
WORDS = ["fit", "--config", CONFIG, *SMALL, "--trainer.accelerator", "gpu", "--trainer.devices", "1"]


def fit(folder: Path, *words: str) -> Path:
    main([*WORDS, "--trainer.default_root_dir", str(folder), *words])
    return folder


def fit_apart(folder: Path, *words: str) -> None:
    """Train in a process of its own."""
    command = [sys.executable, "-m", "ppar_lightning", *WORDS, "--trainer.default_root_dir", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def session(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())["sessions"][-1]


def assert_trained(folder: Path) -> None:
    """All weights are finite, and the tower ran as a graph."""
    assert all(tensor.isfinite().all() for tensor in weights(folder).values())
    assert session(folder)["clip_tower"] == "graph"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run in bf16 whose batches come from workers by pinned memory."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return fit(folder, "--trainer.precision", "bf16-mixed", "--data.workers", "2")


def test_a_training_in_bf16_records_the_gpu_and_the_towers_graph(run):
    assert_trained(run)
    assert session(run)["hardware"] == f"1 x {torch.cuda.get_device_name()}"
    assert session(run)["peak_memory"] > 0


@pytest.mark.parametrize("precision", ["16-mixed", "32-true"])
def test_a_training_in_another_precision(tmp_path, precision):
    assert_trained(fit(tmp_path, "--trainer.precision", precision))


@pytest.mark.parametrize("window", ["null", "{size: 64, stride: 48}"], ids=["whole", "windows"])
def test_a_run_is_tested_as_on_a_cpu(run, window):
    scores = {}
    for accelerator in ("gpu", "cpu"):
        words = ("--trainer.accelerator", accelerator, "--trainer.precision", "32-true", "--data.window", window)
        main(["test", "--config", str(run / "config.yaml"), *words])
        scores[accelerator] = json.loads((run / "test.json").read_text())["domains"]
    for domain, score in scores["cpu"].items():
        assert scores["gpu"][domain]["images"] == score["images"]
        assert scores["gpu"][domain]["miou"] == pytest.approx(score["miou"], abs=5e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_segmenter_computes_what_it_does_on_a_cpu(run, layout):
    segmenter, image = load_segmenter(str(run)).eval(), torch.rand(2, 3, 96, 160)
    with torch.no_grad():
        expected = segmenter(image)
        segmenter.to(DEVICE, memory_format=layout)
        image = image.to(DEVICE, memory_format=layout)
        full = segmenter(image).cpu()
        with torch.autocast(DEVICE, torch.bfloat16):
            half = segmenter(image).float().cpu()
    scale = expected.abs().max()
    assert (full - expected).abs().max() < 5e-3 * scale  # convolutions are TF32
    assert (half - expected).abs().max() < 5e-2 * scale


def test_a_training_over_nccl(tmp_path):
    ddp = ("--trainer.strategy", "DDPStrategy", "--trainer.strategy.process_group_backend", "nccl")
    fit_apart(tmp_path, *ddp)
    assert_trained(tmp_path)


def test_a_deterministic_training_gives_the_same_bits_twice(tmp_path):
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        fit_apart(folder, "--trainer.deterministic", "true")
        assert_trained(folder)
    one, two = map(weights, folders)
    assert set(one) == set(two)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_a_training_that_only_warns_of_what_is_not_deterministic(tmp_path):
    fit_apart(tmp_path, "--trainer.deterministic", "warn")
    assert_trained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_towers_graph_gives_what_the_tower_gives(dtype):
    recorded, eager = (FrozenImageTower("tinyclip", 64, dtype, graph) for graph in (True, False))
    batches = [torch.rand(2, 3, *size, device=DEVICE) for size in ((64, 128), (96, 96), (64, 128), (64, 128))]
    seen = [recorded(batch).memory for batch in batches]
    assert recorded.path == "graph"
    for batch, memory in zip(batches, seen, strict=True):  # also the first, after its graph was replayed
        torch.testing.assert_close(memory, eager(batch).memory, rtol=2e-2, atol=2e-2)
    assert (seen[0] - seen[2]).abs().max() > 0.05
    assert eager.path == "eager"
    copied = copy.deepcopy(recorded)
    torch.testing.assert_close(copied(batches[0]).memory, seen[0], rtol=2e-2, atol=2e-2)
    assert copied.path == "graph"


@pytest.fixture
def little_memory():
    """256 MiB of the GPU besides what this process holds already."""
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + 2**28
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_gpu_that_is_full_is_one_line_and_less_works(tmp_path, capsys, little_memory):
    large = ["--data.sources.game.limit", "64", "--data.batch_size", "64", "--data.crop", "[512, 1024]"]
    with pytest.raises(SystemExit, match="1"):
        fit(tmp_path, *large)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("ppar: error"))
    short = (
        r"ppar: error: not enough memory \(OutOfMemoryError: CUDA out of memory. Tried to allocate .*\): lower --data"
    )
    assert re.match(rf"{short}.batch_size, --data.crop or", line)
    assert_trained(fit(tmp_path, *large, "--data.batch_size", "2", "--data.crop", "[64, 128]"))


class Watched(Callback):
    """Let nothing wait for the GPU, but in steps that log and in the first, where graphs and kernels are prepared."""

    steps = batches = 0

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        watched = trainer.global_step > 2 and not is_logging_step(trainer)
        Watched.steps += watched
        torch.cuda.set_sync_debug_mode("error" if watched else "default")  # up to the next batch, whatever comes last

    def on_test_batch_start(self, trainer, module, batch, batch_idx, *_: object) -> None:
        if batch_idx > 0:
            Watched.batches += 1
            torch.cuda.set_sync_debug_mode("error")

    def relax(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")

    on_train_epoch_end = on_train_end = on_validation_start = on_test_epoch_end = on_exception = relax


WAYS = {
    "plain": [],
    "clipped": ["--trainer.gradient_clip_val", "1"],
    "accumulated": ["--trainer.accumulate_grad_batches", "2"],
    "whitened": ["--model.isw.enabled", "true"],
    "bf16": ["--trainer.precision", "bf16-mixed"],
}


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_no_step_and_no_evaluated_batch_waits_for_the_gpu(tmp_path, monkeypatch, words):
    monkeypatch.setattr(Watched, "steps", 0)
    monkeypatch.setattr(Watched, "batches", 0)
    steps = ("--trainer.max_steps", "10", "--trainer.log_every_n_steps", "5", "--data.eval_batch_size", "1")
    fit(tmp_path, *steps, "--trainer.limit_val_batches", "0", "--trainer.callbacks+=test_cuda.Watched", *words)
    assert Watched.steps >= 5
    main(["test", "--config", str(tmp_path / "config.yaml")])
    assert Watched.batches >= 5
