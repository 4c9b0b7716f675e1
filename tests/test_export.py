"""Export: other runtimes compute what PyTorch computes, at any size, from the plain segmenter alone."""

import errno
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from test_cli import fit
from torch.utils.flop_counter import FlopCounterMode

from ppar_lightning import load_segmenter
from ppar_lightning.cli import main
from ppar_lightning.export import export_onnx, export_torch
from ppar_lightning.images.window import Window
from ppar_lightning.segmenter.segmenter import Segmenter

pytestmark = pytest.mark.slow

SIZES = ((1, 64, 96), (2, 90, 150), (1, 131, 257))  # of which 64 and 96 need no padding


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return fit(tmp_path_factory.mktemp("export") / "run", "--trainer.max_steps", "2")


@pytest.fixture(scope="module")
def exported(run) -> Path:
    main(["export", "--run", str(run)])
    return run / "segmenter.onnx"


def compare(logits: np.ndarray, expected: np.ndarray) -> None:
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 1e-3
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.999


def test_onnx_runtime_agrees_at_three_sizes(run, exported):
    session, segmenter = onnxruntime.InferenceSession(exported), load_segmenter(run)
    for batch, *size in SIZES:
        image = torch.rand(batch, 3, *size)
        compare(session.run(None, {"image": image.numpy()})[0], segmenter(image).numpy())
    assert session.get_modelmeta().custom_metadata_map["classes"].startswith('["road", "sidewalk", ')


def test_the_exported_program_agrees_at_three_sizes(run, tmp_path):
    main(["export", "--run", str(run), "--format", "torch", "--output", str(tmp_path / "new" / "a.pt2")])
    program, segmenter = torch.export.load(tmp_path / "new" / "a.pt2").module(), load_segmenter(run)
    for batch, *size in SIZES:
        image = torch.rand(batch, 3, *size)
        compare(program(image).detach().numpy(), segmenter(image).numpy())


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_the_head_of_four_blocks_agrees_at_three_sizes(tmp_path, suffix):
    config = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56, "mlp_ratio": 2}
    segmenter = Segmenter("dinov2", "concat", decoder_channels=32, backbone_config={"model_type": "dinov2", **config})
    path = tmp_path / f"concat.{suffix}"
    (export_onnx if suffix == "onnx" else export_torch)(segmenter, path)
    for batch, *size in SIZES:
        image = torch.rand(batch, 3, *size)
        if suffix == "onnx":
            found = onnxruntime.InferenceSession(path).run(None, {"image": image.numpy()})[0]
        else:
            found = torch.export.load(path).module()(image).detach().numpy()
        compare(found, segmenter(image).detach().numpy())


def test_each_runtime_is_measured_in_a_process_of_its_own(run, tmp_path, capsys):
    main(["export", "--run", str(run), "--output", str(tmp_path / "a.onnx"), "--benchmark", "64x96"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if " 64x96 " in line]
    assert [row[0] for row in rows[:2]] == ["PyTorch", "ONNX"]
    assert float(rows[0][-1]) > 2 * float(rows[1][-1]) > 0  # ONNX Runtime needs no PyTorch


def test_the_free_axes_have_names(exported):
    session = onnxruntime.InferenceSession(exported)
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_outputs()[0].shape == ["batch", 19, "height", "width"]


@pytest.mark.parametrize(
    ("write", "last"),
    [(export_onnx, "torch.onnx.ONNXProgram.save"), (export_torch, "ppar_lightning.disk.files.os.fsync")],
)
def test_a_disk_that_fills_up_leaves_no_file(run, tmp_path, monkeypatch, write, last):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(last, full)
    with pytest.raises(OSError, match="No space left"):
        write(load_segmenter(run), tmp_path / "a.file")
    assert not list(tmp_path.iterdir())


def test_nothing_of_the_method_is_in_the_file(run, exported):
    segmenter = load_segmenter(run)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("objective.") for name in state)
    weights = sum(int(np.prod(each.dims)) for each in onnx.load(exported).graph.initializer)
    plain = sum(value.numel() for value in segmenter.state_dict().values())
    assert 0.9 * plain < weights <= plain + 1000  # batch norms are folded; constants of shapes are few
    image = torch.rand(1, 3, 128, 256)
    with FlopCounterMode(display=False) as whole:
        segmenter(image)
    with FlopCounterMode(display=False) as parts:
        segmenter.classifier(segmenter.head(segmenter.backbone(image)))
    assert whole.get_total_flops() == parts.get_total_flops() > 1e8


def test_the_example_of_the_documentation_gives_the_same_map(run, exported, tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs" / "deployment.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1]
    assert len(code.strip().splitlines()) <= 24
    segmenter = load_segmenter(run)
    picture = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    monkeypatch.chdir(exported.parent)
    cv2.imwrite("street.png", picture[..., ::-1])
    exec(compile(code, "deployment.md", "exec"), {})
    label = cv2.imread("label.png", cv2.IMREAD_UNCHANGED)
    expected = segmenter.predict(picture, Window(512, 341)).numpy()
    assert (label == expected).mean() >= 0.999


def test_what_cannot_be_exported_is_named(run, exported, tmp_path, capsys):
    for words, message in (
        (["--run", str(run)], "already exists"),
        (["--run", str(tmp_path)], "holds neither a run"),
        (["--run", str(run), "--format", "other"], "invalid choice"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["export", *words])
        assert left.value.code != 0
        assert message in capsys.readouterr().err
