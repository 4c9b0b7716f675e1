"""CLIP's image tower: what it computes, in how many operations, and how it runs as a recording."""

import copy
import warnings
from copy import deepcopy

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CLIPModel

from ppar_lightning.method import clip
from ppar_lightning.method.clip import FrozenImageTower
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.segmenter.pretrained import CLIP_MEAN_STD
from tools.tinyclip.objective import embed_images


class Kernels(TorchDispatchMode):
    """Number of operations that write a tensor: about one launch each on a GPU."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.number += not func.is_view and "empty" not in func.__name__ and func.__name__ != "_unsafe_view.default"
        return found


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("size", [(32, 32), (40, 64)], ids=["own size", "another size"])
def test_it_computes_what_transformers_does_in_fewer_operations(clip_folder, tmp_path, activation, size):
    model = CLIPModel.from_pretrained(clip_folder)
    model.config.vision_config.hidden_act = activation
    model.save_pretrained(tmp_path)
    model = CLIPModel.from_pretrained(tmp_path).eval()
    tower = FrozenImageTower(str(tmp_path), size=None)
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in CLIP_MEAN_STD)
    with torch.no_grad():
        for _ in range(2):  # what is computed once is there the second time
            with Kernels() as theirs:
                seen, dense = embed_images(model, (image - mean) / std)
            with Kernels() as ours:
                memory = tower.tower(image)
    torch.testing.assert_close(normalize(memory[:, 0], dim=-1), seen, atol=2e-6, rtol=0)
    torch.testing.assert_close(normalize(memory[:, 1:], dim=-1), dense, atol=2e-6, rtol=0)
    assert ours.number <= 0.7 * theirs.number
    assert ours.number == len(tower.tower.blocks[1:-2]) * 10 + 8


def test_it_sees_any_size_without_gradient_and_outside_the_checkpoint(clip_folder):
    tower = FrozenImageTower(str(clip_folder), size=32)
    assert deepcopy(tower).tower is tower.tower  # an average of the network shares the weights
    assert tower.input_size(64, 128) == (24, 48)
    context = tower(torch.rand(2, 3, 64, 128, requires_grad=True))
    assert context.dense.shape == (2, 3 * 6, 16)
    assert context.memory.shape == (2, 19, 16)
    assert not context.memory.requires_grad
    assert tower.state_dict() == {}
    assert list(tower.parameters()) == []
    tower.tower.move(torch.device("meta"), torch.float32)
    with pytest.raises(NotImplementedError, match="meta tensor"):  # it follows the image's device, as meta cannot
        tower(torch.rand(2, 3, 64, 128))


def test_dense_features_depend_on_their_own_patch_alone_in_the_last_block(clip_folder):
    *_, last, _, _ = FrozenImageTower(str(clip_folder), size=None).tower.blocks
    tokens = torch.randn(1, 5, 32)
    changed = tokens.clone()
    changed[0, 3] = torch.randn(32)
    moved = (last(tokens) - last(changed)).abs().amax(dim=-1)[0] > 1e-6
    assert moved.tolist() == [True, False, False, True, False]  # the first is the image's


def test_it_follows_the_device_unless_it_is_told(clip_folder):
    image = torch.rand(1, 3, 32, 32)
    follows, told = (FrozenImageTower(str(clip_folder), None, dtype) for dtype in (None, torch.float32))
    assert torch.equal(follows(image).memory, told(image).memory)
    assert PPAROptions().clip_dtype is None


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_it_sees_what_it_sees_in_float32_and_autocast_changes_neither(clip_folder, autocast):
    image = torch.rand(2, 3, 32, 64)
    towers = [FrozenImageTower(str(clip_folder), None, dtype) for dtype in (torch.float32, torch.bfloat16)]
    full, half = (tower(image).memory for tower in towers)
    assert full.dtype == half.dtype == torch.float32
    assert 0.999 < torch.cosine_similarity(full, half, dim=-1).min() < 1 - 1e-6
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(tower(image).memory, each) for tower, each in zip(towers, (full, half), strict=True))


class OnCuda(torch.Tensor):
    """A tensor that says that it is on CUDA."""

    is_cuda = True


class Recording:
    """A stand-in for a CUDA graph: one buffer for the input and one for the output, as a graph has."""

    made = 0

    def __init__(self, function, example):
        Recording.made += 1
        self.function, self.input = function, example.clone()
        self.output = function(self.input)

    def __call__(self, value):
        self.input.copy_(value)
        self.output.copy_(self.function(self.input))
        return self.output.clone()


def images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.rand(2, 3, *size).as_subclass(OnCuda) for size in sizes]


@pytest.fixture
def towers(clip_folder, monkeypatch) -> list[FrozenImageTower]:
    monkeypatch.setattr(clip, "CudaGraph", Recording)
    monkeypatch.setattr(Recording, "made", 0)
    return [FrozenImageTower(str(clip_folder), None, torch.float32, graph) for graph in (True, False)]


def test_it_is_recorded_once_for_a_shape_and_no_more_than_some_shapes(towers):
    recorded, eager = towers
    assert (recorded.path, eager.path) == (None, None)
    batches = images((32, 32), (32, 64), (32, 32), (32, 32))
    seen = [recorded(batch).memory for batch in batches]
    for batch, memory in zip(batches, seen, strict=True):  # also the first, after it was replayed
        torch.testing.assert_close(memory, eager(batch).memory)
    assert (recorded.path, eager.path, Recording.made) == ("graph", "eager", 2)
    for batch in images(*((32, 8 * side) for side in range(1, 8))):
        recorded(batch)
    assert (recorded.path, Recording.made) == ("eager", clip.GRAPHS)
    recorded(batches[0])
    assert recorded.path == "graph"


def test_elsewhere_it_is_not_recorded(towers):
    recorded, _ = towers
    recorded(torch.rand(2, 3, 32, 32))
    assert (recorded.path, Recording.made) == ("eager", 0)


def test_a_copy_or_another_place_is_recorded_anew(towers):
    recorded, _ = towers
    (batch,) = images((32, 32))
    recorded(batch)
    copy.deepcopy(recorded)(batch)
    assert Recording.made == 2
    recorded.dtype = torch.bfloat16
    recorded(batch)
    assert (recorded.path, Recording.made) == ("graph", 3)


def test_if_recording_fails_one_warning_says_so_and_it_runs_eagerly(clip_folder, monkeypatch):
    tower = FrozenImageTower(str(clip_folder), None, torch.float32)
    batches = images((32, 32), (32, 64))

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with TORCH_USE...")

    monkeypatch.setattr(clip, "CudaGraph", fail)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        memory = [tower(batch).memory for batch in batches]
    (warning,) = said
    expected = "CLIP's image tower runs without a CUDA graph, which failed: CUDA error: operation not permitted when"
    assert str(warning.message) == f"{expected} stream is capturing"
    assert tower.path == "eager"
    for batch, each in zip(batches, memory, strict=True):
        assert torch.equal(each, tower(torch.Tensor(batch)).memory)
