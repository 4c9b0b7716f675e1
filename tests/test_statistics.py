"""Class statistics: right, computed once, and anew when anything they depend on changes."""

import os
from datetime import timedelta

import cv2
import numpy as np
import pytest
import torch.distributed as dist
import trees
from ranks import run_ranks

from ppar_lightning.data import statistics
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.statistics import UNREADABLE, class_statistics
from ppar_lightning.disk.cache import cache_folder
from ppar_lightning.images.classes import CITYSCAPES


def camvid(root, **domain):
    return Domain(dataset="camvid", root=str(root), **domain).open("camvid", "train")


@pytest.fixture
def root(tmp_path):
    """Three training images: all road, half road and half sky, all unlabelled."""
    trees.camvid(tmp_path / "data", {"train": 3, "val": 1, "test": 1})
    for number, ids in enumerate(([3], [3, 0], [11])):
        trees.write_label(tmp_path / f"data/trainannot/0001TP_{number:06d}.png", trees.stripes(ids, (4, 10)))
    return tmp_path / "data"


def counts_of(*rows):
    table = np.zeros((len(rows), len(CITYSCAPES)), np.int64)
    for row, counts in enumerate(rows):
        for name, pixels in counts.items():
            table[row, CITYSCAPES.index(name)] = pixels
    return table


EXPECTED = counts_of({"road": 40}, {"road": 20, "sky": 20}, {})


def test_pixels_are_counted_once_and_kept_in_the_cache(root, monkeypatch, caplog):
    before = sorted(root.rglob("*"))
    with caplog.at_level("INFO"):
        first = class_statistics(camvid(root), workers=1)
    np.testing.assert_array_equal(first, EXPECTED)
    assert first.dtype == np.int64
    (path,) = cache_folder().iterdir()
    assert f"domain 'camvid': class statistics are kept in {path}" in caplog.text
    assert sorted(root.rglob("*")) == before
    monkeypatch.delattr(statistics, "count_label")
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)


def test_a_limited_domain_counts_its_own_images(root):
    np.testing.assert_array_equal(class_statistics(camvid(root, limit=2)), EXPECTED[[0, 2]])
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)


def test_a_changed_file_is_noticed(root):
    class_statistics(camvid(root))
    path = root / "trainannot/0001TP_000000.png"
    before = path.stat()
    trees.write_label(path, trees.stripes([8], (4, 10)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert class_statistics(camvid(root))[0, CITYSCAPES.index("car")] == 40
    for folder in ("train", "trainannot"):
        (root / folder / "0001TP_000002.png").unlink()
    assert len(class_statistics(camvid(root))) == 2


def test_split_mapping_and_size_are_noticed(tmp_path):
    root = str(trees.mapillary(tmp_path))
    domains = [
        Domain(dataset="mapillary", root=root, options={"mapping": mapping}) for mapping in ("robustnet", "rein")
    ]
    found = [class_statistics(domain.open("m", split)) for domain in domains for split in ("train", "eval")]
    assert [len(counts) for counts in found] == [6, 3, 6, 3]
    assert (found[0] != found[2]).any()
    sizes = [(16, 32), (32, 64)]
    streets = [Domain(dataset="fog", options={"size": size, "length": 2}).open("fog", "train") for size in sizes]
    assert [class_statistics(dataset).sum() for dataset in streets] == [2 * 16 * 32, 2 * 32 * 64]


def test_what_an_earlier_version_left_beside_the_data_is_not_read(root):
    (root / ".ppar").mkdir()
    class_statistics(camvid(root))
    (path,) = cache_folder().iterdir()
    np.save(root / ".ppar" / path.name, EXPECTED + 1)
    path.unlink()
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("PPAR_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "ppar_lightning"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "ppar_lightning"
    monkeypatch.setenv("PPAR_CACHE", "~/arrays")
    assert cache_folder() == tmp_path / "home" / "arrays"


@pytest.mark.remedy("disk/cache.py::cache_folder")
def test_a_user_without_a_home_sets_the_cache(root, monkeypatch, tmp_path):
    cache = os.environ["PPAR_CACHE"]
    for name in ("PPAR_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # as for a container's user by number
    with pytest.raises(OSError, match="no home folder for the cache; set PPAR_CACHE to a writable folder"):
        class_statistics(camvid(root))
    monkeypatch.setenv("PPAR_CACHE", cache)
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)


def test_counts_of_an_earlier_reading_of_labels_count_no_more(root, monkeypatch):
    monkeypatch.setattr(statistics, "count_label", lambda whole, index: [7] * len(CITYSCAPES))
    monkeypatch.setattr(statistics, "READING", statistics.READING - 1)
    assert (class_statistics(camvid(root)) == 7).all()
    monkeypatch.undo()
    monkeypatch.setenv("PPAR_CACHE", str(next(root.parent.glob("cache"))))
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)


def test_a_damaged_cache_is_made_anew(root):
    class_statistics(camvid(root))
    (path,) = cache_folder().iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)
    np.testing.assert_array_equal(np.load(path), EXPECTED)


def test_an_unreadable_label_is_marked(root):
    (root / "trainannot/0001TP_000001.png").write_bytes(b"")
    counts = class_statistics(camvid(root))
    assert (counts[1] == UNREADABLE).all()
    np.testing.assert_array_equal(counts[[0, 2]], EXPECTED[[0, 2]])


def test_a_label_that_differs_from_its_image_is_counted_as_it_is(tmp_path):
    trees.gta5(tmp_path)
    cv2.imwrite(str(tmp_path / "labels/00001.png"), np.full((46, 80), 7, np.uint8))
    dataset = Domain(dataset="gta", root=str(tmp_path)).open("gta", "train")
    assert class_statistics(dataset)[0].tolist() == [46 * 80] + [0] * 18


def counted_by_ranks(root, folder):
    """Count on this rank, at a sign of life for each label; save what it found, and which labels it read."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=20))
    statistics.INTERVAL, count, read = 0.0, statistics.count_label, []
    statistics.count_label = lambda split, index: read.append(index) or count(split, index)
    np.save(folder / f"{dist.get_rank()}.npy", class_statistics(camvid(root)))
    (folder / f"{dist.get_rank()}.txt").write_text(" ".join(map(str, sorted(read))))
    dist.destroy_process_group()


def test_the_first_rank_counts_and_the_others_get_its_counts(root, tmp_path):
    run_ranks(2, counted_by_ranks, root, tmp_path)
    for rank, read in enumerate(("0 1 2", "")):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), EXPECTED)
        assert (tmp_path / f"{rank}.txt").read_text() == read


def test_an_interrupted_count_goes_on_where_it_was(root, monkeypatch, caplog):
    count, read = statistics.count_label, []

    def interrupted(split, index):
        if index == 2:
            raise KeyboardInterrupt
        return count(split, index)

    monkeypatch.setattr(statistics, "INTERVAL", 0.0)
    monkeypatch.setattr(statistics, "count_label", interrupted)
    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        class_statistics(camvid(root), workers=1)
    assert "domain 'camvid': classes of 2 of 3 labels are counted" in caplog.text
    monkeypatch.setattr(statistics, "count_label", lambda split, index: read.append(index) or count(split, index))
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)
    assert read == [2]


def test_only_a_label_that_was_unreadable_is_tried_again(root, monkeypatch):
    count, tried = statistics.count_label, []

    def stumble(whole, index):
        tried.append(index)
        return [UNREADABLE] * len(CITYSCAPES) if index == 1 else count(whole, index)

    monkeypatch.setattr(statistics, "count_label", stumble)  # as by a network drive that is away for a moment
    assert (class_statistics(camvid(root), workers=1)[1] == UNREADABLE).all()
    monkeypatch.setattr(statistics, "count_label", lambda *given: tried.append("again") or count(*given))
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)
    assert tried == [0, 1, 2, "again"]


def test_a_label_that_is_gone_is_marked(root):
    dataset = camvid(root)
    (root / "trainannot/0001TP_000001.png").unlink()
    np.testing.assert_array_equal(class_statistics(dataset)[:, 0] == UNREADABLE, [False, True, False])


@pytest.mark.remedy("disk/cache.py::save_array")
def test_a_cache_that_cannot_be_written_to_names_the_remedy(root, monkeypatch):
    (root / "file").write_text("in the way")
    monkeypatch.setenv("PPAR_CACHE", str(root / "file" / "cache"))
    with pytest.raises(OSError, match=r"file/cache: .*set PPAR_CACHE to a writable folder"):
        class_statistics(camvid(root))
    monkeypatch.setenv("PPAR_CACHE", str(root / "cache"))
    np.testing.assert_array_equal(class_statistics(camvid(root)), EXPECTED)
