"""Image and label files into arrays, damaged and wrong ones among them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import trees
from PIL import Image

from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.images.decoding import lookup_table, read_image, read_label, read_red_label, to_train_ids


def test_images_are_rgb_and_belong_to_their_label(tmp_path):
    root = trees.cityscapes(tmp_path)
    path = root / "leftImg8bit/val/bochum/bochum_000002_000019_leftImg8bit.png"
    cv2.imwrite(str(path), np.full((*trees.SIZE, 3), (0, 0, 255), dtype=np.uint8))  # OpenCV writes BGR: pure red
    dataset = DATASETS["cityscapes"](root=root, split="val", domain="cityscapes")
    sample = dataset[dataset.names.index("bochum/bochum_000002_000019")]
    assert (sample["image"] == (255, 0, 0)).all()


def test_any_other_size_mismatch_names_both_files(tmp_path):
    root = trees.camvid(tmp_path)
    trees.write_label(root / "testannot/0001TP_000000.png", trees.stripes(range(12), (24, 40)))
    with pytest.raises(ValueError, match=r"test/0001TP_000000.png is 80x48 but .*testannot/0001TP_000000.png is 40x24"):
        DATASETS["camvid"](root=root, split="test", domain="camvid")[0]


def test_value_outside_the_table_names_file_and_value(tmp_path):
    root = trees.camvid(tmp_path)
    trees.write_label(root / "testannot/0001TP_000000.png", trees.stripes([0, 77, 3]))
    with pytest.raises(ValueError, match=r"testannot/0001TP_000000.png: label value 77 .* ids 0-11; check"):
        DATASETS["camvid"](root=root, split="test", domain="camvid")[0]


def test_values_that_do_not_fit_a_byte_are_outside_the_table():
    table = lookup_table({0: 0, 44: 3})
    np.testing.assert_array_equal(to_train_ids(np.array([[0, 44]], np.uint16), table, Path("x")), [[0, 3]])
    for value in (300, -1):  # 300 is 44 in a byte
        with pytest.raises(ValueError, match=f"x: label value {value} "):
            to_train_ids(np.array([[0, value]], np.int32), table, Path("x"))


def test_colour_picture_as_label_is_refused(tmp_path):
    root = trees.camvid(tmp_path)
    trees.write_image(root / "testannot/0001TP_000000.png")
    with pytest.raises(ValueError, match=r"0001TP_000000.png: a colour picture, not a map of ids"):
        DATASETS["camvid"](root=root, split="test", domain="camvid")[0]


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("file", ["images/10k/val/00000000-val.jpg", "labels/sem_seg/masks/val/00000000-val.png"])
def test_damaged_file_is_named(tmp_path, file, share):
    path = trees.bdd100k(tmp_path) / file
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=rf"{path.name}: damaged .* file.*restore it from where it came from"):
        DATASETS["bdd100k"](root=tmp_path, split="val", domain="bdd100k")[0]


def test_damaged_png_is_named(tmp_path):
    path = tmp_path / "a.png"
    trees.write_image(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"a.png: damaged image file"):
        read_image(path)


def test_orientation_tag_is_ignored(tmp_path):
    picture = Image.new("RGB", (30, 20))
    tags = picture.getexif()
    tags[274] = 6  # turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=tags)
    assert read_image(tmp_path / "a.jpg").shape == (20, 30, 3)


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
        with pytest.raises(ValueError, match="a.png: damaged label file.*restore it from where it came from"):
            read_label(path)


READERS = pytest.mark.parametrize("reader", [read_image, read_label, read_red_label])


@READERS
def test_a_file_that_is_gone_is_named(tmp_path, reader):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"a.png.*No such file.*restore it from where it came from"):
        reader(tmp_path / "a.png")


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


def test_the_orientation_tag_of_a_png_is_ignored(tmp_path):
    picture = Image.fromarray(RED)
    tags = picture.getexif()
    tags[274] = 6
    picture.save(tmp_path / "a.png", exif=tags)
    assert read_image(tmp_path / "a.png").shape == RED.shape


def test_an_image_of_one_bit(tmp_path):
    Image.fromarray(np.tile(np.array([[False, True]]), (4, 8))).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :2].tolist() == [[0] * 3, [255] * 3]
    assert read_label(tmp_path / "a.png").astype(int)[0, :2].tolist() == [0, 1]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_label_in_colours_or_with_alpha_is_refused(tmp_path, mode):
    with pytest.raises(ValueError, match=r"a.png: a colour picture, not a map of ids"):
        read_label(saved(tmp_path / "a.png", mode))


@pytest.mark.parametrize("reader", [read_label, read_red_label])
def test_a_label_that_is_a_jpeg_by_another_name_is_refused(tmp_path, reader):
    saved(tmp_path / "a.jpg", "L").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png: damaged label file \(it is no PNG\)"):
        reader(tmp_path / "a.png")
