"""``ppar doctor`` through the real command line, on small trees: good ones, and each fault with its one line."""

import json
import re
import shutil
import socket
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import trees
import yaml
from huggingface_hub import constants
from PIL import Image

from ppar_lightning.cli import main
from ppar_lightning.cli.training import DoctorCLI
from ppar_lightning.data.domain import Domain
from ppar_lightning.images.classes import CITYSCAPES, IGNORE
from ppar_lightning.images.drawing import COLUMNS, TILE, fit, overlay, sheet
from ppar_lightning.module import PPARModule

DEMO = str(Path(__file__).parents[1] / "configs" / "demo.yaml")


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch, request):
    """No model, plan and connection, whatever the config says, except in the tests of the trial and of the plan."""
    if "plan" in request.node.name:
        return
    monkeypatch.setattr("ppar_lightning.doctor.examination.plan", lambda _: [])
    if "trial" in request.node.name:
        return
    monkeypatch.setattr(DoctorCLI, "first_step", lambda _: "was not asked for")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the doctor builds no model and asks no network")

    monkeypatch.setattr("ppar_lightning.segmenter.segmenter.Backbone", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", refuse)


@pytest.fixture
def roots(tmp_path) -> Path:
    """A small Cityscapes and a small CamVid, to be damaged."""
    trees.cityscapes(tmp_path / "city")
    trees.camvid(tmp_path / "camvid")
    return tmp_path


def doctor(capsys, folder: Path, *words: str, config: str = DEMO) -> tuple[int, list[str]]:
    """Examine the two trees; return the exit status and what is printed, by lines."""
    domains = ("--data.sources", f"{{city: {{dataset: cityscapes, root: '{folder}/city'}}}}")
    domains += ("--data.unseen", f"{{camvid: {{root: '{folder}/camvid'}}}}", "--data.batch_size", "2")
    with pytest.raises(SystemExit) as leaving:
        main(["doctor", "--config", config, "--trainer.default_root_dir", f"{folder}/run", *domains, *words])
    said = capsys.readouterr()
    assert not said.err.replace("Seed set to 0", "").strip(), said.err
    return leaving.value.code, said.out.splitlines()


def errors(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("error")]


def test_good_folders(roots, capsys):
    status, lines = doctor(capsys, roots, "--samples", "3")
    assert status == 0
    said = "\n".join(lines)
    assert not errors(lines)
    for split, count, folder in (("city/train", 6, "city"), ("city/eval", 3, "city"), ("camvid/eval", 3, "camvid")):
        assert re.search(
            rf"^ok     {split}: {count} images of split '\w+' \([\d,]+ are known\) in .*/{folder}: ", said, re.M
        )
        assert re.search(rf"^note   {split}: {count} images .* are known; ", said, re.M)
        assert re.search(rf"^ok     {split} samples: 3 pairs decoded in [\d.]+ ms each, 80x48$", said, re.M)
    assert re.search(r"^ok     devices: \d+ CPU cores .*, python 3\.\d+\.\d+, .*torch \d", said, re.M)
    assert "ok     CLIP: tinyclip, comes with the package" in lines
    assert "ok     batches: 6 training images for 1 x 2 a step" in lines
    assert any(line.startswith("note ") and "the crop" in line for line in lines)  # the images are small
    assert lines[-1] == "0 errors, 5 notes: ready to train"
    written = (roots / "run/doctor/findings.txt").read_text().splitlines()
    assert written == [line for line in lines if line.startswith(("ok  ", "note", "error"))]


def test_class_shares(roots, capsys):
    for path in roots.glob("city/gtFine/*/*/*_labelIds.png"):
        trees.write_label(path, trees.stripes([7, 7, 11, 0]))  # road, building and a quarter ignored
    _, lines = doctor(capsys, roots)
    table = {row[1]: row[-4] for row in map(str.split, lines) if len(row) > 4 and row[0] == "│"}
    assert (table["road"], table["building"], table["sky"], table["ignored"]) == ("66.67", "33.33", "-", "25.00")


def test_picture(roots, capsys):
    for path in roots.glob("camvid/test/*.png"):
        cv2.imwrite(str(path), np.full((*trees.SIZE, 3), 100, np.uint8))
    doctor(capsys, roots, "--samples", "2", "--output", str(roots / "pictures"))
    assert {path.name for path in (roots / "pictures").iterdir()} == {"city.png", "camvid.png", "findings.txt"}
    picture = cv2.imread(str(roots / "pictures/camvid.png"))[..., ::-1]
    assert picture.shape == (18 + 192 + 3 * 18, COLUMNS * TILE, 3)  # caption, tile, legend
    assert picture[18 + 100, 5].tolist() == [85, 115, 140]  # grey under sky, (70, 130, 180)
    assert picture[18 + 100, TILE + 5].tolist() == [85, 115, 140]
    assert picture[18 + 100, TILE - 5].tolist() == [100, 100, 100]  # ignored
    assert picture[18 + 192 + 9, 10].tolist() == CITYSCAPES.palette[0].tolist()
    assert cv2.imread(str(roots / "pictures/city.png")).shape == picture.shape  # two of each split, four in a row


def test_overlay_and_sheet_of_many_shapes():
    image, label = np.full((64, 32, 3), 51, np.uint8), np.full((64, 32), 13, np.uint8)
    label[:32] = IGNORE
    mixed = overlay(fit(image, 16), fit(label, 16, sharp=True), CITYSCAPES)
    assert mixed.shape == (32, 16, 3)
    assert mixed[8, 8].tolist() == [51, 51, 51]
    assert mixed[24, 8].tolist() == [26, 26, 96]  # (51 + 0) / 2 and (51 + 142) / 2, halves to even
    tiles = [("wide", np.zeros((100, TILE, 3), np.uint8)), ("high", np.zeros((300, TILE, 3), np.uint8))]
    assert sheet(tiles * 3, CITYSCAPES).shape == (2 * 318 + 54, COLUMNS * TILE, 3)


def remove_folder(root: Path) -> None:
    shutil.rmtree(root)


def empty_folder(root: Path) -> None:
    shutil.rmtree(root / "test")


def remove_label(root: Path) -> None:
    (root / "testannot/0001TP_000001.png").unlink()


def remove_image(root: Path) -> None:
    (root / "test/0001TP_000001.png").unlink()


def cut_image_short(root: Path) -> None:
    path = root / "test/0001TP_000001.png"
    path.write_bytes(path.read_bytes()[:-40])


def write_unknown_id(root: Path) -> None:
    trees.write_label(root / "testannot/0001TP_000001.png", trees.stripes([0, 77]))


def shrink_label(root: Path) -> None:
    trees.write_label(root / "testannot/0001TP_000001.png", trees.stripes([0], (24, 40)))


FAULTS = [
    (
        remove_folder,
        r"camvid/eval: root is \S+/camvid, which is no folder; .*testannot.* \(settings: --data.unseen.camvid\)",
    ),
    (empty_folder, r"camvid/eval: no labelled images of split 'test' in .*; expected test/"),
    (remove_label, r"camvid/eval pairs: \S+/test/0001TP_000001.png has no label; .*on_bad_sample skip leaves it out"),
    (
        remove_image,
        r"camvid/eval pairs: \S+/testannot/0001TP_000001.png has no image; .*on_bad_sample skip leaves it out",
    ),
    (
        cut_image_short,
        r"camvid/eval samples: \S+/0001TP_000001.png: no image that can be decoded .*; restore it from where it came",
    ),
    (write_unknown_id, r"camvid/eval samples: \S+/0001TP_000001.png: label value 77 is not among .* ids 0, .*, 11; "),
    (shrink_label, r"camvid/eval samples: \S+ is 80x48 but \S+ is 40x24; put a label of the image's size in its"),
]


@pytest.mark.parametrize(("damage", "said"), FAULTS, ids=[damage.__name__ for damage, _ in FAULTS])
def test_a_fault_of_a_folder(roots, capsys, damage, said):
    damage(roots / "camvid")
    status, lines = doctor(capsys, roots)
    assert status == 1
    (line,) = errors(lines)
    assert re.match(f"error  {said}", line)
    assert any(line.startswith("ok     city/eval samples: 3 pairs") for line in lines)
    assert lines[-1].startswith("1 error, ")


@pytest.mark.parametrize("damage", ["label", "image"])
def test_bad_samples_are_notes_where_they_are_skipped(roots, capsys, damage):
    if damage == "label":
        (roots / "city/gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    else:
        (roots / "city/leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png").write_bytes(b"")
    status, lines = doctor(capsys, roots, "--data.on_bad_sample", "skip")
    assert status == 0
    assert any(re.match(r"note   city/train \w+: \S+aachen_000001_000019_leftImg8bit.png", line) for line in lines)
    assert any(line.startswith("ok     city/train samples: 5 pairs decoded") for line in lines)


@pytest.mark.parametrize("damage", [remove_label, cut_image_short])
def test_bad_samples_are_errors_where_they_are_scored(roots, capsys, damage):
    damage(roots / "camvid")
    status, lines = doctor(capsys, roots, "--data.on_bad_sample", "skip")
    assert status == 1
    (line,) = errors(lines)
    assert re.match(r"error  camvid/eval \w+: \S+0001TP_000001.png", line)
    assert any(line.startswith("ok     camvid/eval samples: 2 pairs decoded") for line in lines)


def test_nothing_that_can_be_read_is_an_error_even_then(roots, capsys):
    for path in roots.glob("city/leftImg8bit/train/*/*.png"):
        path.write_bytes(b"")
    status, lines = doctor(capsys, roots, "--data.on_bad_sample", "skip")
    assert (status, len(errors(lines))) == (1, 1)
    assert "city/train samples: none of the samples can be read" in errors(lines)[0]


def test_every_data_set(tmp_path, capsys):
    trees.cityscapes(tmp_path / "city")
    roots = {name: {"root": str(write(tmp_path / "trees" / name))} for name, write in trees.TREES.items()}
    status, lines = doctor(capsys, tmp_path, "--data.unseen", str(roots), "--samples", "1")
    assert status == 0
    decoded = {line.split()[1] for line in lines if " samples: 1 pairs decoded" in line}
    assert decoded == {"city/train", "city/eval", *(f"{name}/eval" for name in trees.TREES)}
    assert {path.stem for path in (tmp_path / "run/doctor").glob("*.png")} == {"city", *trees.TREES}


def test_every_domain_is_reported_when_the_first_is_broken(roots, capsys):
    shutil.rmtree(roots / "city")
    status, lines = doctor(capsys, roots)
    assert status == 1
    assert [line.split(":")[0] for line in errors(lines)] == ["error  city/train", "error  city/eval"]
    assert any(line.startswith("ok     camvid/eval samples: 3 pairs") for line in lines)


def test_an_error_of_another_kind_does_not_stop_it_either(roots, capsys, monkeypatch):
    opened = Domain.open

    def stumble(self: Domain, name: str, *words: object, **options: object) -> object:
        if name == "city":
            raise RuntimeError("of\nmany lines")
        return opened(self, name, *words, **options)

    monkeypatch.setattr(Domain, "open", stumble)
    status, lines = doctor(capsys, roots)
    assert status == 1
    assert all("RuntimeError: of many lines; PPAR_TRACEBACK=1" in line for line in errors(lines))
    assert any(line.startswith("ok     camvid/eval samples: 3 pairs") for line in lines)


def test_many_findings_of_a_kind_are_cut_short_and_all_in_the_file(tmp_path, capsys):
    trees.cityscapes(tmp_path / "city")
    trees.camvid(tmp_path / "camvid", {"test": 9})
    for path in sorted((tmp_path / "camvid/testannot").iterdir())[1:]:
        path.unlink()
    _, lines = doctor(capsys, tmp_path)
    file = tmp_path / "run/doctor/findings.txt"
    assert errors(lines)[-1] == f"error  camvid/eval pairs: and 3 more, all in {file}"
    assert len(errors(lines)) == 6
    assert len(errors(file.read_text().splitlines())) == 8


def test_labels_that_are_all_ignored(roots, capsys):
    for path in roots.glob("city/gtFine/train/*/*_labelIds.png"):
        trees.write_label(path, trees.stripes([0]))
    status, lines = doctor(capsys, roots)
    assert status == 1
    (line,) = errors(lines)
    assert "city/train samples: none of its 6 labels has a pixel of a class, all are ignored; correct" in line
    trees.write_label(path, trees.stripes([7]))  # the last, which the samples do not show
    status, lines = doctor(capsys, roots, "--samples", "1")
    assert status == 0
    assert any("city/train samples: 1 pairs decoded" in line for line in lines)


def test_images_with_an_orientation_tag_are_a_note(roots, capsys):
    for path in roots.glob("camvid/test/*.png"):
        with Image.open(path) as picture:
            tags = picture.getexif()
            tags[274] = 3  # half a turn keeps the size
            picture.save(path, exif=tags)
    status, lines = doctor(capsys, roots)
    assert status == 0
    (line,) = (line for line in lines if "orientation" in line)
    assert line.startswith(
        "note   camvid/eval samples: 3 of 3 images have an orientation tag and are read upright; see"
    )
    assert line.endswith("see in camvid.png that their labels are upright too")


def test_images_that_are_trained_on_and_scored(roots, capsys):
    (roots / "twin").symlink_to(roots / "city")
    twin = f"{{twin: {{dataset: cityscapes, root: '{roots}/twin', eval_split: train}}}}"
    options = "{images: 'leftImg8bit/train/*_leftImg8bit.png', labels: 'gtFine/train/*_gtFine_labelIds.png', ids: ids}"
    (roots / "city/ids").write_text("\n".join(f"{i}: road" for i in (*range(34), 255)))
    source = f"{{city: {{dataset: folder, root: '{roots}/city', options: {options}}}}}"
    status, lines = doctor(capsys, roots, "--data.unseen", twin, "--data.sources", source)
    assert status == 1
    (line,) = errors(lines)
    assert line.startswith("error  twin/eval: source 'city' trains on 6 of the 6 images that it is scored on, such as ")
    assert any(line.startswith("note   city/eval: source 'city' trains on 6 of the 6 images") for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data.batch_size", "7"), "batches: 6 training images per device are fewer than a batch of 7; lower"),
        (("--trainer.accelerator", "gpu", "--trainer.devices", "4"), "devices: .*--trainer.devices 4: give what"),
    ],
)
def test_what_training_would_lack(roots, capsys, words, said):
    status, lines = doctor(capsys, roots, *words)
    assert status == 1
    (line,) = errors(lines)
    assert re.match(f"error  {said}", line)


@pytest.mark.parametrize("option", ["batch_size", "eval_batch_size", "crop", "augmentation.flip", "augmentation.scale"])
def test_a_number_outside_its_range_is_one_line(roots, capsys, option):
    value = {"crop": "[0,0]", "augmentation.flip": "2", "augmentation.scale": "[2,0.5]"}.get(option, "0")
    with pytest.raises(SystemExit) as leaving:
        main(["doctor", "--config", DEMO, "--trainer.default_root_dir", f"{roots}/run", f"--data.{option}", value])
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "ppar: error" in line)
    assert leaving.value.code != 0
    name = option.rpartition(".")[2]
    assert re.search(rf"{name}[= ].*; give ", line)


def test_processes_share_the_training_images(roots, capsys):
    status, lines = doctor(capsys, roots, "--trainer.devices", "4", "--trainer.strategy", "ddp")
    assert status == 1
    assert "1 training images per device are fewer than a batch of 2" in errors(lines)[0]


def test_images_of_many_sizes_are_fine(roots, capsys):
    trees.mapillary(roots / "mapillary")
    domain = ("--data.unseen", f"{{mapillary: {{root: '{roots}/mapillary'}}}}")
    status, lines = doctor(capsys, roots, *domain, "--data.eval_batch_size", "2")
    assert status == 0
    assert any("mapillary/eval samples" in line and "2 sizes from 80x48 to 48x80" in line for line in lines)


def test_a_clip_that_knows_only_rendered_streets_is_a_note_on_others(roots, capsys):
    fault = "tinyclip has learnt only from this package's rendered streets, and city shows others: set --model."
    status, lines = doctor(capsys, roots)
    (line,) = (line for line in lines if "tinyclip:" in line)
    assert line == f"note   tinyclip: {fault}ppar.clip openai/clip-vit-base-patch16"
    assert status == 0
    words = ("--model.segmenter.backbone", "tinyclip", "--model.segmenter.head", "pyramid")
    named = ("--model.ppar.clip", "openai/clip-vit-base-patch16")
    _, lines = doctor(capsys, roots, *words, "--model.segmenter.freeze_stages", "0", *named)
    (line,) = (line for line in lines if "tinyclip:" in line)
    remedy = "segmenter.backbone microsoft/resnet-50 --model.segmenter.head deeplabv3plus"
    assert line == f"note   tinyclip: {fault}{remedy}"
    _, lines = doctor(capsys, roots, *f"--model.{remedy}".split(), *named)
    assert not any("tinyclip:" in line for line in lines)
    domains = {"game": Domain(), "city": Domain("cityscapes"), "own": Domain("night"), "none": Domain("no such")}
    assert [name for name, domain in domains.items() if domain.rendered(name)] == ["game", "own"]


def test_no_clip_is_looked_for_where_none_is_used(roots, capsys):
    status, lines = doctor(capsys, roots, "--model.ppar.clip", "no/such", "--model.ppar.enabled", "false")
    assert status == 0
    assert not any("CLIP" in line for line in lines)


def test_weights_that_a_first_run_downloads_are_a_note(roots, capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    status, lines = doctor(capsys, roots, "--model.ppar.clip", "no/such")
    assert status == 0
    (line,) = (line for line in lines if "CLIP" in line)
    assert line.startswith("note   CLIP: the weights of no/such are not in the cache: the first run downloads them")


def test_weights_in_the_cache_are_found(roots, capsys, monkeypatch):
    snapshot = roots / "hub/models--some--clip/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(bytes(2_000_000))
    (roots / "hub/models--some--clip/refs").mkdir()
    (roots / "hub/models--some--clip/refs/main").write_text("0123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(roots / "hub"))
    status, lines = doctor(capsys, roots, "--model.ppar.clip", "some/clip")
    assert status == 0
    assert f"ok     CLIP: some/clip, weights in {snapshot}" in lines


def test_a_run_s_own_config_is_examined(roots, capsys):
    (roots / "run").mkdir()
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", DEMO, "--trainer.default_root_dir", f"{roots}/run", "--print_config"])
    (roots / "run/config.yaml").write_text(capsys.readouterr().out)
    status, lines = doctor(capsys, roots, config=f"{roots}/run/config.yaml")
    assert status == 0
    assert any(line.startswith(f"note   run folder: {roots}/run already holds a run") for line in lines)
    status, lines = doctor(capsys, roots)  # which would start another run there
    assert status == 1
    assert errors(lines)[0].startswith(f"error  run folder: {roots}/run already holds a run: continue it with")
    assert doctor(capsys, roots, "--ckpt_path", "last")[0] == 0


@pytest.mark.parametrize("words", [("--samples", "0"), ("--data.sorces", "1"), ("--config", "none.yaml")])
def test_a_config_that_does_not_parse_is_one_line(roots, capsys, words):
    with pytest.raises(SystemExit) as leaving:
        main(["doctor", "--config", DEMO, *words])
    said = capsys.readouterr()
    assert leaving.value.code != 0
    assert said.out == ""
    assert len([line for line in said.err.splitlines() if "ppar: error" in line]) == 1


def test_the_help_lists_it(capsys):
    main(["--help"])
    assert re.search(r"doctor .* +Check the data and the machine", capsys.readouterr().out)


ONE_STEP = (
    *("--model.segmenter.backbone", "resnet_small", "--model.segmenter.pretrained", "false", "--data.crop", "[32, 64]"),
    *("--data.workers", "0", "--trainer.max_steps", "1", "--prediction_grid.images", "0", "--samples", "1"),
)
"""With these options one step takes a second."""


def trained(capsys, folder: Path, *words: str) -> str:
    """Train on the same trees with the same options; return the line of the error, empty if there is none."""
    domains = ("--data.sources", f"{{city: {{dataset: cityscapes, root: '{folder}/city'}}}}", "--data.unseen", "{}")
    domains += ("--data.batch_size", "2")
    options = [word for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != "--samples" for word in pair]
    capsys.readouterr()
    try:
        main(["fit", "--config", DEMO, "--trainer.default_root_dir", f"{folder}/trained", *domains, *options])
    except SystemExit:
        said = capsys.readouterr().err
        (line,) = (line for line in said.splitlines() if "ppar: error: " in line)
        return line.removeprefix("ppar: error: ")
    return ""


STOPPED = [
    ("--data.batch_size", "7"),
    ("--data.sampling", "{kind: rare_class, min_pixels: 100000}"),
    ("--trainer.val_check_interval", "50"),
    ("--trainer.precision", "64-true"),
    ("--model.segmenter.freeze_stages", "9"),
    ("--trainer.max_steps", "-1", "--trainer.max_time", "00:08:00:00"),
    ("--model.ppar.text_embeddings", "wide.npy"),
    ("--model.segmenter.head", "pyramid"),
    ("--checkpoint.monitor", "val/unseen/miou"),
    ("--model.ppar.clip", "no/such"),
    ("--model.ppar.clip", "no/such/folder"),
    ("--model.segmenter.backbone", "no/such"),
    ("--model.segmenter.pretrained", "true"),
]
"""Options with which `fit` would fail, whatever makes it fail."""


@pytest.mark.parametrize(
    "words", [STOPPED[1], *(pytest.param(each, marks=pytest.mark.slow) for each in (STOPPED[0], *STOPPED[2:]))]
)
def test_what_stops_a_training_is_what_the_trial_finds(roots, capsys, monkeypatch, words):
    monkeypatch.chdir(roots)
    np.save("wide.npy", np.ones((19, 16)))
    line = trained(capsys, roots, *ONE_STEP, *words)
    status, lines = doctor(capsys, roots, *ONE_STEP, *words)
    assert status == 1
    assert line
    assert line in errors(lines)[0]


def test_the_trial_makes_a_step_and_leaves_nothing_behind(roots, capsys):
    status, lines = doctor(capsys, roots, *ONE_STEP)
    assert status == 0
    assert any(re.match(r"ok     trial: the first step took [\d.]+ s and [\d.]+ GiB of memory", line) for line in lines)
    assert {path.name for path in (roots / "run").iterdir()} == {"doctor"}
    assert trained(capsys, roots, *ONE_STEP) == ""


@pytest.mark.parametrize(("free", "level"), [(1_000, "error"), pytest.param(100_000_000, "ok", marks=pytest.mark.slow)])
def test_the_trial_finds_a_disk_without_room_for_the_checkpoints(roots, capsys, monkeypatch, free, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    status, lines = doctor(capsys, roots)
    assert status == (level == "error")
    (line,) = (line for line in lines if "checkpoints need" in line)
    expected = (
        rf"{level}\s+trial: .*/\S* has 0.\d\d GB free, .* need .*: make room there, or .*--trainer.default_root_dir"
    )
    assert re.match(expected, line)


def test_a_trial_without_memory_says_what_to_lower(roots, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(PPARModule, "training_step", full)
        status, lines = doctor(capsys, roots, *ONE_STEP)
    assert status == 1
    assert errors(lines)[0].startswith("error  trial: not enough memory (MemoryError): lower --data.batch_size, ")


def test_the_plan_is_printed_as_a_table_and_kept(roots, capsys, monkeypatch):
    monkeypatch.setattr("ppar_lightning.doctor.examination.plan", lambda _: [["memory", "1.0 / 2.0 GiB"], ["a", "b"]])
    monkeypatch.setattr(DoctorCLI, "first_step", lambda _: "was not asked for")
    status, lines = doctor(capsys, roots)
    assert status == 0
    assert ["memory", "1.0 / 2.0 GiB"] in [[cell.strip() for cell in line.split("│")[1:3]] for line in lines]
    written = (roots / "run/doctor/findings.txt").read_text().splitlines()
    assert [line for line in written if "  plan: " in line] == [
        "ok     plan: memory: 1.0 / 2.0 GiB",
        "ok     plan: a: b",
    ]


def test_a_plan_reads_neither_weights_nor_the_network_and_says_what_it_lacks(roots, capsys, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    status, lines = doctor(capsys, roots, "--model.segmenter.backbone", "no/such")
    assert status == 0
    (line,) = (line for line in lines if " plan: " in line)
    assert line.startswith("note   plan: left out: model 'no/such' cannot be loaded (")
    assert "run `hf download no/such" in line


@pytest.mark.slow
def test_a_plan_leaves_nothing_behind_that_the_step_after_it_stumbles_over(roots, capsys):
    status, lines = doctor(capsys, roots, *ONE_STEP)
    assert (status, lines[-1].endswith("ready to train")) == (0, True)
    assert any("peak memory in bf16-mixed" in line for line in lines)


@pytest.mark.parametrize("started", [True, False])
def test_the_trial_goes_on_from_the_checkpoint_of_the_run(roots, capsys, monkeypatch, started):
    def ended(_: object, words: list[str]) -> None:
        (config,) = (Path(word) for before, word in pairwise(words) if before == "--config")
        asked.append(yaml.safe_load(config.read_text())["ckpt_path"])

    asked: list[str] = []
    monkeypatch.setattr("ppar_lightning.cli.training.call", ended)
    last = roots / "run/checkpoints/last.ckpt"
    if started:
        last.parent.mkdir(parents=True)
        torch.save({}, last)
    lines = doctor(capsys, roots, "--ckpt_path", "last", "--samples", "1")[1]
    assert asked == [str(last) if started else "last"]
    assert any(line.startswith("note   trial: no step is left to train; give more with --train") for line in lines)


def test_an_evaluation_split_that_no_training_scores_is_not_looked_for(roots, capsys):
    trees.gta5(roots / "gta", split_mat=False)
    words = ("--data.sources", f"{{gta: {{root: '{roots}/gta', train_split: all}}}}", "--samples", "1")
    status, lines = doctor(capsys, roots, *words)
    assert status == 1
    assert "put it there, or set train_split and eval_split to all (settings" in errors(lines)[0]
    assert doctor(capsys, roots, *words, "--trainer.limit_val_batches", "0")[0] == 0


def test_a_crop_larger_than_every_image_is_a_note(roots, capsys):
    def notes(*words: str) -> list[str]:
        return [line for line in doctor(capsys, roots, "--samples", "1", *words)[1] if "the crop" in line]

    scale = ("--data.augmentation.scale", "[0.5, 2.0]")
    (note,) = notes("--data.crop", f"[{2 * trees.SIZE[0] + 1}, 8]", *scale)
    assert note.startswith("note   city/train: the crop")
    assert note.endswith("all are padded; lower --data.crop")
    assert not notes("--data.crop", f"[{2 * trees.SIZE[0]}, {2 * trees.SIZE[1]}]", *scale)


def test_masks_of_which_one_value_is_ignored_are_a_note(tmp_path, capsys):
    for split in ("train", "val"):
        trees.write_image(tmp_path / split / "photos/1.jpg")
        trees.write_label(tmp_path / split / "masks/1.png", trees.stripes([0, 255]))
    options = {"images": "{split}/photos/*.jpg", "labels": "{split}/masks/*.png"}
    sources = {"own": {"dataset": "folder", "root": str(tmp_path), "options": options}}
    data = {"sources": sources, "unseen": {}, "classes": "binary", "batch_size": 1, "crop": [32, 64], "workers": 0}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"data": data, "trainer": {"max_steps": 1}}))
    for ids, noted in ((None, True), ({0: "background", 255: "object"}, False)):
        words = ["--data.sources", json.dumps({"own": sources["own"] | {"options": options | {"ids": ids}}})]
        with pytest.raises(SystemExit, match="0"):
            main(["doctor", "--config", DEMO, "--config", str(tmp_path / "own.yaml"), *(words if ids else [])])
        said = capsys.readouterr().out
        assert (
            "no other class than background occurs in the samples, and 50% of the pixels are ignored" in said
        ) == noted
