"""Fingerprints: the same for the same files wherever they lie, another for other names, sizes or numbers."""

import json
import os
import shutil
from pathlib import Path

import pytest
import trees

from ppar_lightning.data.domain import Domain
from ppar_lightning.data.fingerprint import fingerprint


def of(root, **domain):
    return fingerprint(Domain(dataset="camvid", root=str(root), **domain).open("camvid", "train"))


@pytest.fixture
def root(tmp_path):
    trees.camvid(tmp_path / "data", {"train": 3, "val": 1, "test": 1})
    return tmp_path / "data"


def test_a_copy_elsewhere_has_the_same_and_a_part_another(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    assert of(tmp_path / "copy") == of(root)
    assert of(root)["images"] == 3
    assert of(root, limit=2)["images"] == 2
    assert of(root, limit=2)["hash"] != of(root)["hash"]


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_another_size_of_an_image_or_a_label_is_noticed(root, folder):
    before = of(root)
    with next((root / folder).iterdir()).open("ab") as file:
        file.write(b" ")
    assert of(root)["images"] == before["images"]
    assert of(root)["hash"] != before["hash"]


@pytest.mark.parametrize("name", [b"other", b"\xff"])  # the second is no UTF-8
def test_another_name_is_noticed(root, name):
    before = of(root)
    for folder in ("train", "trainannot"):
        path = sorted((root / folder).iterdir())[0]
        path.rename(path.with_name(os.fsdecode(name) + path.suffix))
    assert of(root)["hash"] != before["hash"]


def test_another_meaning_of_a_label_id_is_noticed(root):
    """A file of ids is an option only by its name, so the config does not show what it holds."""
    options = {"images": "train/*.png", "labels": "trainannot/*.png", "ids": "ids.yaml"}
    domain = Domain(dataset="folder", root=str(root), options=options)
    found = []
    for names in ("3: road\n8: car\n", "8: car\n3: road\n", "3: car\n8: road\n"):
        (root / "ids.yaml").write_text(names)
        found.append(fingerprint(domain.open("own", "train")))
    assert found[0] == found[1]
    assert {part: found[0][part] == found[2][part] for part in found[0]} == {"images": True, "hash": True, "ids": False}


def test_a_rendered_domain_is_known_by_what_its_images_depend_on():
    game, again, fog = (Domain().open(name, "train") for name in ("game", "game", "fog"))
    assert fingerprint(game) == fingerprint(again)
    assert fingerprint(game)["hash"] != fingerprint(fog)["hash"]


def test_a_rendered_domain_has_the_fingerprint_that_version_0_1_0_took():
    manifest = json.loads((Path(__file__).parent / "data" / "run_0_1_0" / "run" / "manifest.json").read_text())
    splits = {f"game/{role}": fingerprint(Domain(limit=8).open("game", role)) for role in ("train", "eval")}
    assert splits == manifest["data"]
