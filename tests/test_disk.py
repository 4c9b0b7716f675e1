"""Arrays and pictures on full or read-only disks; folders that vanish or link to themselves; two writers at once."""

import errno
import multiprocessing
import os
import re
import resource
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import trees

from ppar_lightning.console import leave
from ppar_lightning.data import statistics
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.statistics import class_statistics
from ppar_lightning.disk import files
from ppar_lightning.disk.cache import cache_folder, load_array, save_array
from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.drawing import write_picture
from ppar_lightning.method import text
from ppar_lightning.method.text import cached_embeddings
from ppar_lightning.shortage import shortage


@contextmanager
def small_files():
    """No file may grow over 4 KiB, as on a disk that is full; what pytest writes neither, so not for a whole test."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


class Disk:
    """A disk of 2 MB of its own; where nobody may mount one, a folder in which opening for writing fails alike."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder, self.monkeypatch = folder, monkeypatch
        self.mounted = self.mount("-t", "tmpfs", "-o", "size=2m", "tmpfs")

    def mount(self, *words: str) -> bool:
        try:
            return subprocess.run(["mount", *words, str(self.folder)], capture_output=True).returncode == 0
        except OSError:
            return False

    def fill(self) -> None:
        if not self.mounted:
            return self.refuse(errno.ENOSPC)
        state = os.statvfs(self.folder)
        (self.folder / "rest").write_bytes(bytes(state.f_bavail * state.f_frsize))

    def lock(self) -> None:
        if not self.mounted:
            return self.refuse(errno.EROFS)
        assert self.mount("-o", "remount,ro")  # root may write where permissions forbid it

    def refuse(self, number: int) -> None:
        opened = Path.open

        def refusing(path: Path, mode: str = "r", *rest, **named):
            if "r" not in mode and path.is_relative_to(self.folder):
                raise OSError(number, os.strerror(number), str(path))
            return opened(path, mode, *rest, **named)

        self.monkeypatch.setattr(Path, "open", refusing)


@pytest.fixture(params=["mounted", "refusing"])
def disk(tmp_path, monkeypatch, request):
    if request.param == "refusing":
        monkeypatch.setattr(Disk, "mount", lambda *_: False)
    disk = Disk(tmp_path / "disk", monkeypatch)
    yield disk
    if disk.mounted:
        subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_what_does_not_fit_leaves_the_earlier_file(tmp_path):
    for write, name, fault in (
        (lambda path: save_array(path, NOISE), "a.npy", "File too large.*set PPAR_CACHE"),
        (lambda path: write_picture(path, NOISE), "a.png", "File too large.*a.png"),
    ):
        path = tmp_path / "folder" / name
        write_whole(path, b"before")
        with pytest.raises(OSError, match=fault), small_files():
            write(path)
        assert path.read_bytes() == b"before"
        assert list(path.parent.iterdir()) == [path]
        path.unlink()


@pytest.mark.remedy("disk/cache.py::save_array")
def test_a_cache_that_cannot_be_written_may_be_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PPAR_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"file: .*; set PPAR_CACHE to a writable folder"):
        save_array(cache_folder() / "a.npy", NOISE)
    monkeypatch.setenv("PPAR_CACHE", str(tmp_path / "writable"))
    save_array(cache_folder() / "a.npy", NOISE)
    np.testing.assert_array_equal(load_array(cache_folder() / "a.npy"), NOISE)


@pytest.mark.remedy("disk/cache.py::load_array")
def test_an_array_that_is_none(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"a.npy is no .npy array of numbers \(.*\); save one with numpy.save"):
        load_array(path)
    np.save(path, NOISE)
    np.testing.assert_array_equal(load_array(path), NOISE)


@pytest.mark.parametrize("number", files.NO_SPACE)
def test_a_full_disk_is_one_line_with_a_remedy(capsys, number):
    error = OSError(number, os.strerror(number), "runs/a.csv")
    with pytest.raises(SystemExit):
        leave(error, said=shortage(error))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(r"the disk is full .*runs/a.csv.*: free some space, or move the run folder .* --ckpt_path", said)


@pytest.fixture
def camvid(tmp_path):
    root = trees.camvid(tmp_path / "Straßen & Häuser 道路", {"train": 3, "val": 1, "test": 1})
    return lambda: Domain(dataset="camvid", root=str(root)).open("camvid", "train"), root


@pytest.mark.parametrize("happens", [Disk.fill, Disk.lock])
def test_statistics_of_data_on_a_disk_that_is_full_or_read_only(disk, happens):
    root = trees.camvid(disk.folder / "data", {"train": 3, "val": 1, "test": 1})
    happens(disk)
    for _ in range(2):
        assert class_statistics(Domain(dataset="camvid", root=str(root)).open("camvid", "train")).sum() > 0
    assert len(list(cache_folder().glob("*.npy"))) == 1


def test_names_with_blanks_and_of_any_script(camvid, monkeypatch):
    dataset = camvid[0]()
    monkeypatch.setenv("PPAR_CACHE", str(camvid[1] / "Zwischen speicher é"))
    assert dataset[0]["image"].shape == (*trees.SIZE, 3)
    assert len(class_statistics(dataset)) == 3
    write_picture(camvid[1] / "läufe 1" / "Bild é.png", NOISE)
    assert (camvid[1] / "läufe 1" / "Bild é.png").stat().st_size > 4096


def test_links_in_a_circle_find_no_image_twice(tmp_path):
    trees.write_image(tmp_path / "images/ulm/a.png")
    trees.write_label(tmp_path / "labels/ulm/a.png", trees.stripes([1]))
    options = {"images": "images/*.png", "labels": "labels/*.png", "ids": {1: "sky"}}
    for kind in ("images", "labels"):
        (tmp_path / kind / "ulm" / "up").symlink_to(tmp_path / kind)
        (tmp_path / kind / "self").symlink_to("self")
        (tmp_path / kind / "twin").symlink_to(tmp_path / kind / "ulm")  # no circle: another name for the same
    assert DATASETS["folder"](tmp_path, "all", "own", **options).names == ["twin/a", "ulm/a"]


def test_a_root_that_links_to_itself_is_not_found(tmp_path):
    (tmp_path / "data").symlink_to("data")
    domain = Domain(dataset="camvid", root=str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match="data, which is no folder"):
        domain.open("a", "train")


def test_an_image_that_links_to_itself_is_named(tmp_path, camvid):
    dataset, root = camvid[0](), camvid[1]
    (root / "train/0001TP_000000.png").unlink()
    (root / "train/0001TP_000000.png").symlink_to("0001TP_000000.png")
    with pytest.raises(ValueError, match="0001TP_000000.png cannot be read .Too many levels of symbolic links"):
        dataset[0]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"half")])
def test_text_prototypes_that_are_lost_or_damaged_are_made_anew(monkeypatch, damage):
    monkeypatch.setattr(text, "embed_texts", lambda clip, texts: torch.eye(len(texts), 4))
    first = cached_embeddings("tinyclip", "bare", [["road"], ["sky"]])
    (path,) = cache_folder().iterdir()
    whole = path.read_bytes()
    damage(path)
    assert torch.equal(cached_embeddings("tinyclip", "bare", [["road"], ["sky"]]), first)
    assert path.read_bytes() == whole
    monkeypatch.delattr(text, "embed_texts")
    assert torch.equal(cached_embeddings("tinyclip", "bare", [["road"], ["sky"]]), first)


def test_a_reader_never_sees_half_of_what_many_write(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow where others write, and not what this is about
    path, size = tmp_path / "a.npy", 20_000

    def write(number: int) -> None:
        for _ in range(4):
            save_array(path, np.full(size, number))

    save_array(path, np.zeros(size))
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        while not all(writer.done() for writer in writers):
            found = load_array(path)
            assert found.shape == (size,)
            assert (found == found[0]).all()
    assert [writer.result() for writer in writers] == [None] * 4
    assert list(tmp_path.iterdir()) == [path]


def test_two_runs_that_start_at_once_share_a_cache(camvid, monkeypatch):
    fork = multiprocessing.get_context("fork")
    start, dataset = fork.Barrier(2), camvid[0]()

    def count() -> None:
        start.wait()
        class_statistics(dataset)

    runs = [fork.Process(target=count) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert len(list(cache_folder().iterdir())) == 1
    monkeypatch.delattr(statistics, "count_label")
    assert class_statistics(dataset).sum() > 0
