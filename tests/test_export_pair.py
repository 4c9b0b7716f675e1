"""An ONNX file that would be larger than protobuf allows is written as two files, both or neither."""

import errno
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from ppar_lightning import export
from ppar_lightning.cli import main


class Tiny(nn.Conv2d):
    """A network of one layer with more weights than the limit of these tests."""

    classes = tuple(map(str, range(100)))
    num_classes = 100


@pytest.fixture(autouse=True)
def network(monkeypatch) -> Tiny:
    """A tiny network, which the command exports, with weights beyond the limit."""
    made = Tiny(3, 100, 1)
    monkeypatch.setattr(export, "LIMIT", 1000)
    monkeypatch.setattr(export, "load_segmenter", lambda _: made)
    return made


@pytest.mark.remedy("export.py::export_onnx")
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

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
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
