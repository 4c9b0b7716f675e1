"""An ONNX file that would be larger than protobuf allows is written as two files, both or neither."""

import errno
import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from ppar_lightning import export, latency
from ppar_lightning.cli import main
from ppar_lightning.shortage import shortage


class Tiny(nn.Conv2d):
    """A network of one layer with more weights than the limit of these tests."""

    classes = tuple(map(str, range(100)))
    num_classes = 100
    per_pixel = True


@pytest.fixture(autouse=True)
def network(monkeypatch) -> Tiny:
    """A tiny network, which the command exports, with weights beyond the limit."""
    made = Tiny(3, 100, 1)
    monkeypatch.setattr(export, "LIMIT", 1000)
    monkeypatch.setattr(export, "load_segmenter", lambda _: made)
    return made


@pytest.mark.remedy("export.py::require")
def test_weights_beyond_the_limit_go_to_a_second_file(network, tmp_path, capsys, monkeypatch):
    path = tmp_path / "new" / "a.onnx"
    words = ["export", "--run", "run", "--output", str(path)]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(SystemExit):
            main(words)
    assert "ONNX needs the extra `export`: pip install '.[export]'" in capsys.readouterr().err
    main(words)  # the extra is installed, as it was
    said = capsys.readouterr().out
    assert f"{path}.data: its weights; the two files belong together, so keep them in one folder" in said
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.onnx", "a.onnx.data"]
    moved = path.parent.rename(tmp_path / "moved") / "a.onnx"  # both together, as the line says
    session = onnxruntime.InferenceSession(moved)
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    image = torch.rand(2, 3, 5, 7)
    np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], network(image).detach(), atol=1e-5)

    def full(program: torch.onnx.ONNXProgram, file: Path, external_data: bool) -> None:
        file.with_name("b.onnx.data").write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", full)
    with pytest.raises(OSError, match="No space left"):
        export.export_onnx(network, tmp_path / "full" / "b.onnx")
    assert not list((tmp_path / "full").iterdir())


@pytest.mark.remedy("export.py::main")
@pytest.mark.parametrize("left", ["a.pt2", "a.pt2.data"])
def test_an_earlier_file_is_never_replaced(tmp_path, capsys, left):
    (tmp_path / left).write_bytes(b"mine")
    words = ["export", "--run", "run", "--format", "torch", "--output"]
    with pytest.raises(SystemExit):
        main([*words, str(tmp_path / "a.pt2")])
    assert f"{left} already exists: move it away, or give another file with --output" in capsys.readouterr().err
    main([*words, str(tmp_path / "b.pt2")])
    (tmp_path / left).rename(tmp_path / "away")
    main([*words, str(tmp_path / "a.pt2")])
    assert (tmp_path / "away").read_bytes() == b"mine"


def test_a_program_of_torch_has_no_limit(network, tmp_path):
    export.export_torch(network, tmp_path / "a.pt2")
    assert [each.name for each in tmp_path.iterdir()] == ["a.pt2"]
    image = torch.rand(1, 3, 5, 7)
    assert torch.equal(torch.export.load(tmp_path / "a.pt2").module()(image), network(image))


@pytest.mark.remedy("export.py::size")
@pytest.mark.parametrize(("format", "runtime"), [("onnx", "ONNX Runtime"), ("torch", "torch.export")])
def test_the_benchmark_has_a_line_for_each_size_and_runtime(network, tmp_path, capsys, monkeypatch, format, runtime):
    monkeypatch.setattr("ppar_lightning.load.load_segmenter", lambda *_: network)
    monkeypatch.setattr(latency, "ProcessPoolExecutor", lambda count, _: ThreadPoolExecutor(count))
    words = ["export", "--run", "run", "--format", format, "--output", str(tmp_path / "a"), "--benchmark"]
    with pytest.raises(SystemExit):
        main([*words, "5x"])
    assert "'5x' is no size: give HEIGHTxWIDTH in pixels, such as 512x1024" in capsys.readouterr().err
    main([*words, "16x1024", "8x12"])
    said = capsys.readouterr().out.splitlines()
    assert "CPU threads" in said[-6]
    heads = [f"{name:14}cpu   {size:>11}" for size in ("16x1024", "8x12") for name in ("PyTorch", runtime)]
    rows = [(line[: len(head)], line[len(head) :].split()) for head, line in zip(heads, said[-4:], strict=True)]
    assert [head for head, _ in rows] == heads
    for _, (milliseconds, rate, _) in rows:
        assert float(milliseconds) >= 0
        assert float(rate) > 0


def test_a_benchmark_without_onnxruntime_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit):
        main(["export", "--run", "run", "--output", str(tmp_path / "a.onnx"), "--benchmark"])
    assert "ONNX needs the extra `export`: pip install '.[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_benchmark_that_the_system_ends_had_too_little_memory():
    with ProcessPoolExecutor(1, get_context("fork")) as pool, pytest.raises(BrokenProcessPool) as ended:
        pool.submit(os._exit, 9).result()
    assert "give smaller sizes to --benchmark, and another file with --output" in str(shortage(ended.value, "export"))
