"""Image and label files into arrays, damaged and wrong ones among them."""

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import trees
from PIL import ExifTags, Image, ImageOps

from ppar_lightning.data.datasets import DATASETS, camvid
from ppar_lightning.data.own_pictures import PictureDataset
from ppar_lightning.images.decoding import (
    PNG,
    is_turned,
    lookup_table,
    read_coloured_label,
    read_image,
    read_label,
    read_red_label,
    to_train_ids,
)
from ppar_lightning.segmenter.inputs import to_image


def test_images_are_rgb_and_belong_to_their_label(tmp_path):
    root = trees.cityscapes(tmp_path)
    path = root / "leftImg8bit/val/bochum/bochum_000002_000019_leftImg8bit.png"
    cv2.imwrite(str(path), np.full((*trees.SIZE, 3), (0, 0, 255), dtype=np.uint8))  # OpenCV writes BGR: pure red
    dataset = DATASETS["cityscapes"](root=root, split="val", domain="cityscapes")
    sample = dataset[dataset.names.index("bochum/bochum_000002_000019")]
    assert (sample["image"] == (255, 0, 0)).all()


@pytest.mark.remedy("data/dataset.py::FolderDataset.read")
def test_any_other_size_mismatch_names_both_files_and_the_size_that_works(tmp_path):
    path = trees.camvid(tmp_path) / "testannot/0001TP_000000.png"
    trees.write_label(path, trees.stripes(range(12), (24, 40)))
    dataset = DATASETS["camvid"](root=tmp_path, split="test", domain="camvid")
    names = r"test/0001TP_000000.png is 80x48 but .*testannot/0001TP_000000.png is 40x24"
    with pytest.raises(ValueError, match=names) as caught:
        dataset[0]
    size = re.search(
        r" is (\d+)x(\d+) but .*; put a label of the image's size in its place, resized", str(caught.value)
    )
    with Image.open(path) as label:
        label.resize((int(size[1]), int(size[2])), Image.Resampling.NEAREST).save(path)
    assert set(np.unique(dataset[0]["label"])) == set(camvid.IDS.values())


@pytest.mark.remedy("images/decoding.py::to_train_ids")
def test_value_outside_the_table_names_file_and_value(tmp_path):
    path = trees.camvid(tmp_path) / "testannot/0001TP_000000.png"
    trees.write_label(path, trees.stripes([0, 77, 3]))
    with pytest.raises(
        ValueError, match=r"testannot/0001TP_000000.png: label value 77 .* ids 0, .*, 11; check .* folder,"
    ):
        DATASETS["camvid"](root=tmp_path, split="test", domain="camvid")[0]
    patterns = {"images": "{split}/*.png", "labels": "{split}annot/*.png"}
    dataset = DATASETS["folder"](tmp_path, "test", "own", **patterns, ids=camvid.IDS | {77: 14})
    np.testing.assert_array_equal(dataset[0]["label"], trees.stripes([10, 14, 0]))


def test_values_that_do_not_fit_a_byte():
    table = lookup_table({0: 0, 44: 3})
    np.testing.assert_array_equal(to_train_ids(np.array([[0, 44]], np.uint16), table, Path("x")), [[0, 3]])
    for value in (300, -1):  # 300 is 44 in a byte
        with pytest.raises(ValueError, match=f"x: label value {value} is not among this data set's ids 0, 44; check"):
            to_train_ids(np.array([[0, value]], np.int32), table, Path("x"))
    np.testing.assert_array_equal(to_train_ids(np.array([[0, 44]], np.uint8), table, Path("x")), [[0, 3]])
    wide = lookup_table({0: 254, 300: 3})  # 254 is a train id like others
    np.testing.assert_array_equal(to_train_ids(np.array([[0, 300]], np.uint16), wide, Path("x")), [[254, 3]])
    with pytest.raises(ValueError, match="x: label value 301, 65535 is not among"):
        to_train_ids(np.array([[0, 301, 65535]], np.uint16), wide, Path("x"))
    with pytest.raises(ValueError, match="ids 0, 1, .*, 69, ...; check"):
        to_train_ids(np.array([[90]], np.uint8), lookup_table({k: k for k in range(80)}), Path("x"))


@pytest.mark.remedy("images/decoding.py::read_label")
def test_colour_picture_as_label_is_refused(tmp_path):
    path = trees.camvid(tmp_path) / "testannot/0001TP_000000.png"
    trees.write_image(path)
    dataset = DATASETS["camvid"](root=tmp_path, split="test", domain="camvid")
    with pytest.raises(
        ValueError, match=r"0000.png: a picture of mode \w+, not a map of ids; put a grey or palette PNG"
    ):
        dataset[0]
    for palette in (False, True):
        trees.write_label(path, trees.stripes([0, 3]), palette)
        np.testing.assert_array_equal(dataset[0]["label"], trees.stripes([10, 0]))


@pytest.mark.remedy("images/decoding.py::_refuse")
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("file", ["images/10k/val/00000000-val.jpg", "labels/sem_seg/masks/val/00000000-val.png"])
def test_damaged_file_is_named(tmp_path, file, share):
    path = trees.bdd100k(tmp_path) / file
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    dataset = DATASETS["bdd100k"](root=tmp_path, split="val", domain="bdd100k")
    with pytest.raises(
        ValueError, match=rf"{path.name}: no \w+ that can be decoded \(\w.*\); restore it from where it came"
    ):
        dataset[0]
    path.write_bytes(whole)
    assert dataset[0]["image"].any()


def test_damaged_png_is_named(tmp_path):
    path = tmp_path / "a.png"
    trees.write_image(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"a.png: no image that can be decoded"):
        read_image(path)


def turned(path: Path, picture: Image.Image, tag: int) -> Path:
    """Save a picture with an orientation tag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = picture.getexif()
    tags[ExifTags.Base.Orientation] = tag
    picture.save(path, exif=tags, quality=95)
    return path


def test_opencv_adds_no_lines_of_its_own(tmp_path, capfd):
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="a.tif"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


UPRIGHT = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones((8, 8), np.uint8))
"""(16, 24); no turn or mirror image equals it."""


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_images_are_upright_as_viewers_and_predict_show_them(tmp_path, suffix, tag):
    path = turned(tmp_path / f"a.{suffix}", Image.fromarray(40 * UPRIGHT).convert("RGB"), tag)
    with Image.open(path) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_allclose(read_image(path).astype(int), shown, atol=3)
    np.testing.assert_allclose(255 * to_image(path).permute(1, 2, 0).numpy(), shown, atol=3)
    np.testing.assert_allclose(PictureDataset([str(path)]).read(0)[0].astype(int), shown, atol=3)
    assert is_turned(path) == (tag > 1)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_labels_are_upright_too(tmp_path, mode):
    label = Image.fromarray(np.dstack([UPRIGHT, UPRIGHT + 9, UPRIGHT]) if mode == "RGB" else UPRIGHT)
    if mode == "P":
        label.putpalette(range(30))
    read = read_red_label if mode == "RGB" else read_label
    np.testing.assert_array_equal(read(turned(tmp_path / "a.png", label, 6)), np.rot90(UPRIGHT, -1))


@pytest.mark.remedy("data/dataset.py::FolderDataset.read")
@pytest.mark.parametrize("remedy", ["turn the label", "save the image without the tag"])
def test_a_label_of_the_stored_pixels_of_an_image_with_a_tag(tmp_path, remedy):
    image, label = tmp_path / "test/a.jpg", tmp_path / "testannot/a.png"
    turned(image, Image.fromarray(40 * UPRIGHT).convert("RGB"), 6)
    trees.write_label(label, UPRIGHT)
    dataset = DATASETS["camvid"](root=tmp_path, split="test", domain="camvid")
    with pytest.raises(ValueError, match=rf"a.jpg is 16x24 but .*a.png is 24x16; .* orientation tag .*{remedy}"):
        dataset[0]
    if remedy == "turn the label":
        trees.write_label(label, np.rot90(UPRIGHT, -1))
    else:
        with Image.open(image) as picture:
            Image.fromarray(np.asarray(picture)).save(image)
    sample = dataset[0]
    assert np.corrcoef(sample["image"][..., 0].ravel(), read_label(label).ravel())[0, 1] > 0.9


@pytest.mark.remedy("images/decoding.py::read_label")
@pytest.mark.parametrize("palette", [False, True])
def test_a_label_with_a_block_overwritten_is_damaged_though_it_can_be_decoded(tmp_path, palette):
    path = tmp_path / "a.png"
    label = np.random.default_rng(0).integers(0, 19, (64, 96)).astype(np.uint8)
    trees.write_label(path, label, palette=palette)
    np.testing.assert_array_equal(read_label(path), label)
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT") + 1000
    for start in (place, place + 700):
        damaged = bytearray(data)
        damaged[start : start + 16] = bytes(16)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.png: no label that can be decoded.*restore it from where it came from"):
            read_label(path)
        path.write_bytes(data)
        np.testing.assert_array_equal(read_label(path), label)


READERS = pytest.mark.parametrize("reader", [read_image, read_label, read_coloured_label, read_red_label])


@pytest.mark.remedy("images/decoding.py::_read")
@READERS
def test_a_file_that_is_gone_is_named(tmp_path, reader):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"a.png.*No such file.*restore it from where it came from"):
        reader(tmp_path / "a.png")
    Image.fromarray(RED if reader != read_label else RED[..., 0]).save(tmp_path / "gone.png")
    assert reader(tmp_path / "a.png").shape[:2] == RED.shape[:2]


RED = np.full((20, 30, 3), (200, 100, 50), np.uint8)
"""RGB."""


def saved(path: Path, mode: str) -> Path:
    Image.fromarray(RED).convert(mode, dither=Image.Dither.NONE).save(path, quality=95)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "expected", "tolerance"),
    [
        ("a.png", "RGB", (200, 100, 50), 0),
        ("a.png", "RGBA", (200, 100, 50), 0),
        ("a.png", "P", (204, 102, 51), 0),
        ("a.png", "L", (124, 124, 124), 0),
        ("a.png", "LA", (124, 124, 124), 0),
        ("a.jpg", "RGB", (200, 100, 50), 3),
        ("a.jpg", "L", (124, 124, 124), 3),
        ("a.jpg", "CMYK", (200, 100, 50), 3),
    ],
)
def test_images_of_every_kind_are_rgb(tmp_path, name, mode, expected, tolerance):
    image = read_image(saved(tmp_path / name, mode))
    assert (image.shape, image.dtype) == (RED.shape, np.uint8)
    assert np.abs(image - np.array(expected)).max() <= tolerance


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_16_bits_keep_their_high_byte(tmp_path, channels):
    deep = np.dstack([RED[..., ::-1], RED[..., :1]])[..., :channels].astype(np.uint16) * 256 + 77
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    image = read_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == (RED.shape, np.uint8)
    assert np.abs(image - (RED.astype(int) if channels > 1 else 50)).max() <= 1


def test_an_image_of_one_bit(tmp_path):
    Image.fromarray(np.tile(np.array([[False, True]]), (4, 8))).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :2].tolist() == [[0] * 3, [255] * 3]
    assert read_label(tmp_path / "a.png").astype(int)[0, :2].tolist() == [0, 1]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_label_in_colours_or_with_alpha_is_refused(tmp_path, mode):
    with pytest.raises(ValueError, match=r"a.png: a picture of mode \w+, not a map of ids"):
        read_label(saved(tmp_path / "a.png", mode))


@pytest.mark.remedy("images/decoding.py::_refuse")
@pytest.mark.parametrize(
    ("reader", "mode", "suffix"),
    [
        *((read_label, "L", suffix) for suffix in ("jpg", "gif", "webp")),
        *((read_coloured_label, "RGB", suffix) for suffix in ("jpg", "gif", "webp")),
        *((read_red_label, "RGB", suffix) for suffix in ("jpg", "gif", "webp", "bmp", "tif")),
    ],
)
def test_a_label_of_another_kind_by_a_png_s_name_is_refused(tmp_path, reader, mode, suffix):
    saved(tmp_path / f"a.{suffix}", mode).rename(tmp_path / "a.png")
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix)
    said = rf"(?i)a.png: no label that .* \({kind}, mode .*, or export it again as PNG|a.png: not the RGB file"
    with pytest.raises(ValueError, match=said):
        reader(tmp_path / "a.png")
    saved(tmp_path / "a.png", mode)
    assert reader(tmp_path / "a.png").shape[:2] == RED.shape[:2]


def test_a_tiff_may_hold_a_jpeg_which_is_refused_as_a_label(tmp_path):
    ids = Image.fromarray(UPRIGHT)
    for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
        ids.save(tmp_path / "a.tif", compression=compression)
        np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), UPRIGHT)
    ids.save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(ValueError, match=r"a.tif: no label that can be decoded \(TIFF, mode L\)"):
        read_label(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_labels_of_every_lossless_kind(tmp_path, suffix):
    path, palette = tmp_path / f"a.{suffix}", Image.fromarray(UPRIGHT)
    palette.putpalette([7 * k % 256 for k in range(768)])
    channels = np.dstack([UPRIGHT] * 3)
    for picture in (Image.fromarray(UPRIGHT), palette, Image.fromarray(channels)):
        picture.save(path)
        np.testing.assert_array_equal(read_label(path), UPRIGHT)
    palette.save(path)
    np.testing.assert_array_equal(read_coloured_label(path), np.asarray(palette.convert("RGB")))
    Image.fromarray(channels + np.array([0, 0, 1], np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"a picture of mode \w+, not a map of ids"):
        read_label(path)
    if suffix != "bmp":
        Image.fromarray(UPRIGHT.astype(np.uint16) * 300).save(path)
        np.testing.assert_array_equal(read_label(path), UPRIGHT.astype(int) * 300)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_three_equal_channels_are_taken_as_one_and_alpha_only_if_it_hides_nothing(tmp_path, depth):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.dstack([UPRIGHT, UPRIGHT, UPRIGHT, np.full_like(UPRIGHT, 255)]).astype(depth))
    if depth == np.uint8:
        np.testing.assert_array_equal(read_label(path), UPRIGHT)
        cv2.imwrite(str(path), np.dstack([UPRIGHT] * 4))
        with pytest.raises(ValueError, match="a picture of mode RGBA"):
            read_label(path)
    cv2.imwrite(str(path), np.dstack([UPRIGHT] * 3).astype(depth))
    np.testing.assert_array_equal(read_label(path), UPRIGHT)


@pytest.mark.remedy("images/decoding.py::_refuse")
def test_an_image_of_a_kind_that_cannot_be_read_is_named(tmp_path):
    values = np.arange(600, dtype=np.float32).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / "a.tif")
    (tmp_path / "b.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    for name, kind in (("a.tif", "TIFF, mode F"), ("b.jpg", "UnidentifiedImageError")):
        with pytest.raises(
            ValueError,
            match=rf"{name}: no image that can be decoded \({kind}\); .*, or save it as PNG or JPEG of 8 bits",
        ):
            read_image(tmp_path / name)
    with Image.open(tmp_path / "a.tif") as picture:
        picture.convert("L").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (20, 30, 3)
    with pytest.raises(
        ValueError, match=r"a.tif: a picture of mode F, not a map of ids; put a grey or palette PNG of its ids"
    ):
        read_label(tmp_path / "a.tif")
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), values.clip(0, 255))


PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column of each pass of an interlaced PNG, and the steps between rows and between columns."""


def png(path: Path, ids: np.ndarray, depth: int, colour: int, interlaced: bool = False, extra: bytes = b""):
    """Write a PNG by its specification, of any bit depth."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    def packed(row: np.ndarray) -> bytes:
        wide = row.astype(">u2").view(np.uint8).reshape(-1, 2)
        return b"\0" + np.packbits(np.unpackbits(wide, axis=1)[:, 16 - depth :]).tobytes()

    parts = [ids[top::down, left::right] for top, left, down, right in PASSES] if interlaced else [ids]
    rows = b"".join(packed(row) for part in parts if part.size for row in part)
    height, width = ids.shape
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes((7 * i + 3) % 256 for i in range(3 * 2**depth))) if colour == 3 else b""
    chunks = chunk(b"IHDR", header) + chunk(b"gAMA", struct.pack(">I", 45455)) + palette
    if extra:
        chunks += chunk(b"tRNS", extra)
    path.write_bytes(PNG + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (1, 3), (2, 3), (4, 3), (8, 3)])
def test_ids_are_the_stored_samples_whatever_the_bit_depth(tmp_path, depth, colour, interlaced):
    ids = np.random.default_rng(depth).integers(0, min(2**depth, 300), (21, 30))
    for transparent in (b"", b"\0\1"):
        png(tmp_path / "a.png", ids, depth, colour, interlaced, transparent)
        np.testing.assert_array_equal(read_label(tmp_path / "a.png").astype(int), ids)


def test_a_palette_is_no_red_channel(tmp_path):
    trees.write_label(tmp_path / "a.png", trees.stripes([3]), palette=True)
    with pytest.raises(ValueError, match=r"a.png: not the RGB file with ids in red"):
        read_red_label(tmp_path / "a.png")


@pytest.mark.remedy("images/decoding.py::read_red_label")
def test_a_grey_file_is_no_red_channel(tmp_path):
    trees.write_label(tmp_path / "a.png", trees.stripes([3]))
    with pytest.raises(ValueError, match=r"a.png: not the RGB file with ids in red .*; restore it from where it came"):
        read_red_label(tmp_path / "a.png")
    Image.fromarray(RED).save(tmp_path / "a.png")
    assert (read_red_label(tmp_path / "a.png") == 200).all()
