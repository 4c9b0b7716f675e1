"""Drawn input of any kind gives what is documented, or a ValueError of one line; see conftest.py for how many cases."""

import struct
import zlib
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torch.nn import functional as F

from ppar_lightning.data.datasets.folder import Folder
from ppar_lightning.data.protocols import PROTOCOLS
from ppar_lightning.data.transforms import Augment, Augmentation
from ppar_lightning.disk.cache import load_array
from ppar_lightning.disk.tensors import read_tensors
from ppar_lightning.images.classes import CITYSCAPES, IGNORE
from ppar_lightning.images.decoding import (
    lookup_table,
    read_coloured_label,
    read_image,
    read_label,
    read_red_label,
    to_train_ids,
)
from ppar_lightning.images.variation import Variation, vary
from ppar_lightning.segmenter.sliding import predict, slide, starts

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 70)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def complaint(action, *words: str) -> str | None:
    """Do something; return what it says if it fails, which must be one line with the words."""
    try:
        action()
        return None
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    assert all(word in message for word in words)
    return message


def encoded(write, **options) -> bytes:
    file = BytesIO()
    write(file, **options)
    return file.getvalue()


def pictures() -> list[bytes]:
    """Files of every mode."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8))
    files = [encoded(noise.convert(mode).save, format="PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    files += [encoded(noise.convert(mode).save, format="JPEG") for mode in ("L", "RGB", "CMYK")]
    files += [encoded(noise.convert(mode).save, format=kind) for mode in ("L", "P", "RGB") for kind in ("TIFF", "BMP")]
    deep = np.random.default_rng(0).integers(0, 40, (9, 13, 3)).astype(np.uint16)
    return [*files, *(cv2.imencode(".png", part)[1].tobytes() for part in (deep, deep[..., 0]))]


PICTURES = pictures()
ARRAY = encoded(partial(np.save, arr=np.ones((3, 4), np.float32)))
TENSORS = encoded(partial(torch.save, {"weight": torch.ones(3), "step": 1}))


@st.composite
def damaged(draw, originals: list[bytes]) -> bytes:
    """A file with some bytes changed, or cut short, or bytes of no file."""
    data = bytearray(draw(st.sampled_from([*originals, *originals, b""])))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6)):
        if data:
            data[place % len(data)] = value
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))]) or draw(st.binary(max_size=99))


@st.composite
def claims(draw) -> bytes:
    """A PNG whose header claims another size, depth or kind of pixels, its checksum right."""
    data = bytearray(draw(st.sampled_from(PICTURES[:6])))
    side = st.one_of(st.integers(0, 40), st.sampled_from([8192, 60000, 2**31 - 1, 2**32 - 1]))
    fields = (draw(side), draw(side), draw(st.sampled_from([1, 2, 4, 8, 16, 3])), draw(st.integers(0, 7)), 0, 0)
    data[16:29] = struct.pack(">IIBBBBB", *fields, draw(st.integers(0, 2)))
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@given(data=st.one_of(damaged(PICTURES), claims()))
def test_any_bytes_as_an_image_or_a_label(folder, data):
    path = folder / "drawn.png"
    path.write_bytes(data)
    for reader in (read_image, read_label, read_coloured_label, read_red_label):
        found = []
        if complaint(lambda reader=reader, found=found: found.append(reader(path)), "drawn.png") is None:
            coloured = reader in (read_image, read_coloured_label)
            assert found[0].ndim == (3 if coloured else 2)
            assert found[0].dtype == np.uint8 if coloured else found[0].dtype.kind in "bui"


IDS = st.dictionaries(st.integers(0, 255), st.sampled_from([*range(len(CITYSCAPES)), IGNORE]), max_size=40)
LABELS = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int32, np.int64, np.bool_]),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
)


@given(label=LABELS, ids=IDS)
def test_any_value_under_any_table(label, ids):
    found = []
    fault = complaint(lambda: found.append(to_train_ids(label, lookup_table(ids), Path("x.png"))), "x.png: label value")
    assert (fault is None) == all(int(value) in ids for value in label.flat)
    if fault is None:
        assert found[0].tolist() == [[ids[int(value)] for value in row] for row in label]


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.dates(), st.sampled_from(CITYSCAPES)
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LEAVES, inner, max_size=3))
LINES = st.sampled_from(
    ["7: road", "8: sky", "8: yes", "9: 18", "- 1", "2001-13-45: road", "? [", "*a : 1", "1: &a [*a]"]
)


@given(
    text=st.one_of(
        st.dictionaries(st.one_of(st.integers(-9, 300), LEAVES), VALUES, max_size=4).map(yaml.dump).map(str.encode),
        st.lists(LINES, max_size=4).map("\n".join).map(str.encode),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.binary(max_size=60),
    )
)
def test_any_file_of_ids(folder, text):
    (folder / "ids.yaml").write_bytes(text)

    def read() -> None:
        with pytest.raises(FileNotFoundError, match="none, which is no folder"):  # the ids are read before the folder
            Folder(folder / "none", "val", "own", "*.jpg", "*.png", folder / "ids.yaml")

    assert len(complaint(read) or "") < 1000


@st.composite
def samples(draw) -> dict:
    height, width, seed = draw(SIDES), draw(SIDES), draw(SEEDS)
    rng = np.random.default_rng(seed)
    ids = np.array([*range(len(CITYSCAPES)), IGNORE], np.uint8)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = rng.choice(draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3)), (height, width))
    return {"image": image, "label": label.astype(np.uint8), "name": "x", "domain": "y", "error": []}


SHARES = st.floats(0, 1)


@given(
    sample=samples(),
    crop=st.tuples(SIDES, SIDES),
    scale=st.tuples(st.floats(0.01, 20), st.floats(0.01, 20)).map(sorted).map(tuple),
    shares=st.tuples(SHARES, SHARES, SHARES, SHARES, SHARES),
    strength=st.floats(0, 3),
    focus=st.one_of(st.none(), st.integers(0, len(CITYSCAPES) - 1)),
    focus_pixels=st.sampled_from([0, 1, 3000]),
    seed=SEEDS,
)
def test_any_augmentation_of_any_sample(sample, crop, scale, shares, strength, focus, focus_pixels, seed):
    largest, flip, jitter, blur, style = shares
    how = Augmentation(scale, largest, flip, jitter, strength, blur, style * (min(crop) > 1))
    varied = Augment(crop, how, focus_pixels)(sample, (seed,), focus)
    assert varied["image"].shape == (*crop, 3)
    assert varied["image"].dtype == varied["label"].dtype == np.uint8
    assert varied["label"].shape == crop
    assert set(np.unique(varied["label"])) <= {*np.unique(sample["label"]), IGNORE}
    if varied["variation"] is None:
        assert flip == jitter == blur == 0
        return
    assert all(torch.isfinite(field).all() for field in varied["variation"])
    image = torch.from_numpy(varied["image"]).permute(2, 0, 1)[None]
    label = torch.from_numpy(varied["label"])[None]
    seen, target = vary(image, label, Variation(*(field[None] for field in varied["variation"])))
    assert (seen.shape, seen.dtype, target.shape) == (image.shape, torch.uint8, label.shape)


@given(size=st.tuples(SIDES, SIDES), batch=st.integers(1, 3), flips=st.lists(st.booleans(), min_size=3), seed=SEEDS)
def test_no_change_but_a_flip_of_any_batch(size, batch, flips, seed):
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (batch, 3, *size), dtype=np.uint8))
    label = image[:, 0].long()
    still = Variation(torch.eye(3, 4).repeat(batch, 1, 1), torch.zeros(batch), torch.tensor(flips[:batch]))
    seen, target = vary(image, label, still)
    for number, flip in enumerate(flips[:batch]):
        expected = image[number].flip(-1) if flip else image[number]
        assert torch.equal(seen[number], expected)
        assert torch.equal(target[number], expected[0].long())


@given(
    height=SIDES,
    width=SIDES,
    window=st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size))),
)
def test_any_window_over_any_image(height, width, window):
    for length in (height, width):
        firsts = starts(length, *window)
        covered = {pixel for first in firsts for pixel in range(first, min(first + window[0], length))}
        assert covered == set(range(length))
        assert firsts == sorted(set(firsts))
    image = torch.arange(3 * height * width, dtype=torch.float32).view(1, 3, height, width)
    torch.testing.assert_close(slide(lambda part: 2 * part, image, *window), 2 * image)


@given(size=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES), classes=st.integers(1, 5), seed=SEEDS)
def test_predictions_at_any_size(size, target, classes, seed):
    logits = torch.randn(2, classes, *size, generator=torch.Generator().manual_seed(seed))
    resized = logits if size == target else F.interpolate(logits, target, mode="bilinear", align_corners=False)
    assert torch.equal(predict(logits, target), resized.argmax(dim=1))


VIEWS = [view for protocol in PROTOCOLS.values() for view in protocol.views.values()]
SMALL = [partial(view, side=48) if "side" in getattr(view, "keywords", {}) else view for view in VIEWS]
LONG = st.one_of(st.integers(1, 120), st.sampled_from([1536, 4000]))


@given(view=st.sampled_from(SMALL), height=LONG, width=LONG, value=st.sampled_from([0, 7, IGNORE]))
def test_any_image_under_any_protocol(view, height, width, value):
    shown = []
    image, label = np.full((height, width, 3), 9, np.uint8), np.full((height, width), value, np.uint8)
    if complaint(lambda: shown.append(view(image, label)), f"{width}x{height}") is None:
        ((image, label),) = shown
        assert min(*image.shape[:2], *label.shape) > 0
        assert set(np.unique(label)) <= {0, IGNORE, value}


@given(data=damaged([ARRAY]))
def test_any_bytes_as_an_array(folder, data):
    (folder / "drawn.npy").write_bytes(data)
    found = []
    if complaint(lambda: found.append(load_array(folder / "drawn.npy")), "drawn.npy") is None:
        assert found[0].dtype != object


@given(data=damaged([TENSORS]))
def test_any_bytes_as_a_file_of_tensors(folder, data):
    (folder / "drawn.ckpt").write_bytes(data)
    complaint(lambda: read_tensors(folder / "drawn.ckpt", "give another"), "drawn.ckpt", "give another")
