"""Classes of one's own: every output follows data.classes, and none names or draws a class of Cityscapes."""

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image
from stand_ins import resnet
from trees import cityscapes, synthia

from ppar_lightning.callbacks.results import tabulate
from ppar_lightning.cli import main
from ppar_lightning.images.classes import CITYSCAPES, class_list
from ppar_lightning.images.drawing import text
from ppar_lightning.load import load_segmenter
from ppar_lightning.report.html import MOST, matrix
from ppar_lightning.report.side_by_side import score_lines
from ppar_lightning.runs.changed_options import brief
from ppar_lightning.runs.markdown import table
from ppar_lightning.runs.tested_run import Score, TestedRun, read_confusion, read_test

SIZE = (32, 48)
ORDINARY = {"train", "bus"}
"""Names of Cityscapes that the program also writes for something else."""
STREET = re.compile(rf"\b({'|'.join(name for name in CITYSCAPES if name not in ORDINARY)})\b", re.IGNORECASE)
COLOURS = {colour for colour in CITYSCAPES.colours if len({*colour}) > 1}
"""Without greys, in which captions are written."""
FIVE = [
    {"name": "floor", "colour": [10, 200, 30], "words": ["floor", "concrete floor"], "group": "base"},
    {"name": "shelf | rack", "colour": [200, 10, 30]},
    {"name": "crate, wooden", "words": ["crate"], "group": "goods"},
    {"name": "Stapler für <Paletten>", "group": "goods"},
    {"name": "picture", "colour": [30, 60, 250]},
]
LISTS = {2: ["left over", "thing/part"], 5: FIVE, 19: "cityscapes19", 255: [f"widget {k:03d}" for k in range(255)]}


def write_pairs(root: Path, number: int) -> str:
    """Green images, in which no colour of Cityscapes lies, labelled in stripes with all classes."""
    stripes = np.linspace(0, number - 1, SIZE[0] * SIZE[1]).round().astype(np.uint8).reshape(SIZE)
    for split, count in {"train": 4, "val": 2}.items():
        for index in range(count):
            noise = np.random.default_rng([index, *str(root).encode(), *split.encode()])
            image = noise.integers([0, 200, 0], [40, 255, 40], (*SIZE, 3)).astype(np.uint8)
            for kind, content in (("images", image), ("labels", stripes)):
                path = root / kind / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(path)
    return str(root)


def config(folder: Path, classes: str | list, clip: Path | None = None) -> str:
    """A config that trains two steps, with PPAR if there is a CLIP."""
    number = len(class_list(classes))
    options = {"images": "images/{split}/*.png", "labels": "labels/{split}/*.png", "offset": 0}
    domain = {"dataset": "folder", "options": options}
    written = {
        "trainer": {"accelerator": "cpu", "max_steps": 2, "log_every_n_steps": 1}
        | {"default_root_dir": str(folder / "run"), "enable_progress_bar": False, "enable_model_summary": False},
        "model": {
            "segmenter": {"backbone": resnet(folder / "resnet"), "head": "fpn", "decoder_channels": 8},
            "ppar": {"enabled": clip is not None, "clip": str(clip), "visual_size": 32},
        },
        "data": {
            "classes": classes,
            "sources": {"hall": domain | {"root": write_pairs(folder / "hall", number)}},
            "unseen": {"yard": domain | {"root": write_pairs(folder / "yard", number)}},
            **{"crop": [32, 32], "batch_size": 2, "eval_batch_size": 2, "workers": 0},
        },
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(written, allow_unicode=True))
    return str(folder / "own.yaml")


def show_everything(folder: Path, source: str, diagnosed: bool) -> None:
    """Call the commands that show classes, but for validation and export."""
    run = str(folder / "run")
    with pytest.raises(SystemExit, match="^0$"):
        main(["doctor", "--config", source])
    main(["fit", "--config", source])
    main(["test", "--config", f"{run}/config.yaml"])
    images = str(folder / "hall/images/val")
    main(["predict", images, "--run", run, "--predictions.folder", str(folder / "maps")])
    main(["report", "--html", run])
    for copy in ("other", "setting/ppar/0"):
        shutil.copytree(run, folder / copy, ignore=shutil.ignore_patterns("doctor", "report.html"))
    main(["report", run, str(folder / "other"), "--output", str(folder / "sides")])
    main(["report", str(folder / "setting")])
    if diagnosed:
        main(["report", "--diagnostics", run])
    load_segmenter(run).save_pretrained(folder / "saved")


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and content of the files of text that commands wrote."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".csv", ".md", ".html", ".yaml", ".txt"} and "resnet" not in path.parts:
            content = path.read_text()
            yield str(path.relative_to(folder)), re.sub(r"data:image/\w+;base64,[\w+/=]+", "", content)


def pictures(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Name and content of pictures without loss, those of pages too."""
    for path in sorted(folder.rglob("*.png")):
        yield str(path.relative_to(folder)), Image.open(path)
    for page in folder.rglob("*.html"):
        for content in re.findall(r"data:image/png;base64,([\w+/=]+)", page.read_text()):
            yield str(page.relative_to(folder)), Image.open(io.BytesIO(base64.b64decode(content)))


def of_cityscapes(folder: Path, said: str = "") -> dict[str, set[object]]:
    """Find the places that have names or colours of Cityscapes."""
    found: dict[str, set[object]] = {}
    for name, content in (("said", said), *texts(folder)):
        found.setdefault(name, set()).update(STREET.findall(content))
    for name, picture in pictures(folder):
        palette = picture.getpalette() if picture.mode == "P" else None
        rows = np.reshape(palette, (-1, 3)) if palette else np.asarray(picture.convert("RGB")).reshape(-1, 3)
        found.setdefault(name, set()).update({*map(tuple, np.unique(rows, axis=0).tolist())} & COLOURS)
    return {name: places for name, places in found.items() if places}


def check_run(folder: Path, number: int) -> None:
    """Check that the classes are there, by name and colour."""
    classes = class_list(LISTS[number])
    test = read_test(folder / "run")
    assert test.classes == classes
    assert [*test.scores["yard"].iou] == [*classes]
    with (folder / "maps/shares.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["picture", *classes]
    palette = Image.open(folder / "maps/0.png").getpalette() or []
    assert palette[: 3 * number] == [level for colour in classes.colours for level in colour]
    assert palette[3 * number :] in ([0] * (768 - 3 * number), [])
    page, card = ((folder / name).read_text() for name in ("run/report.html", "saved/README.md"))
    assert all(escape(name) in page and f"`{name}`" in card for name in classes)
    assert load_segmenter(folder / "saved").classes == classes
    assert len(page) < 2_500_000


@pytest.mark.slow
@pytest.mark.parametrize("number", [5, 2, 255])
@pytest.mark.parametrize("ppar", [True, False])
def test_no_output_names_or_draws_a_class_of_cityscapes(number, ppar, clip_folder, tmp_path, capfd, recwarn):
    show_everything(tmp_path, config(tmp_path, LISTS[number], clip_folder if ppar else None), ppar and number != 5)
    assert of_cityscapes(tmp_path, "\n".join([*capfd.readouterr(), *(str(each.message) for each in recwarn)])) == {}
    check_run(tmp_path, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 5, 255])
def test_no_export_names_a_class_of_cityscapes(number, tmp_path, capfd):
    main(["fit", "--config", config(tmp_path, LISTS[number])])
    main(["validate", "--config", str(tmp_path / "run/config.yaml")])
    for form in ("onnx", "torch"):
        main(["export", "--run", str(tmp_path / "run"), "--format", form])
    assert of_cityscapes(tmp_path, "\n".join(capfd.readouterr())) == {}
    kept = {each.key: each.value for each in onnx.load(tmp_path / "run/segmenter.onnx").metadata_props}
    assert json.loads(kept["classes"]) == [*class_list(LISTS[number])]
    image = torch.rand(1, 3, *SIZE)
    exported = torch.export.load(tmp_path / "run/segmenter.pt2").module(check_guards=False)
    assert exported(image).shape == load_segmenter(tmp_path / "run")(image).shape == (1, number, *SIZE)


@pytest.mark.slow
def test_the_names_and_colours_of_cityscapes_are_found_where_they_are(clip_folder, tmp_path, capfd):
    show_everything(tmp_path, config(tmp_path, LISTS[19], clip_folder), diagnosed=True)
    found = of_cityscapes(tmp_path, "\n".join(capfd.readouterr()))
    named = {"said", "run/test.json", "run/test.csv", "run/report.html", "run/diagnostics.csv", "maps/shares.csv"}
    named |= {"sides/compare.md", "sides/compare.csv", "saved/README.md", "saved/config.json"}
    named |= {"run/curves/fit/version_0/metrics.csv", "run/curves/test/version_0/metrics.csv"}
    for name in named:
        assert {*CITYSCAPES} - ORDINARY <= found[name], name
    for name in ("run/pictures/test.png", "run/report.html", "run/doctor/hall.png", "run/doctor/yard.png"):
        assert len(COLOURS & found[name]) > 10, name
    assert found["maps/0.png"] == COLOURS


def test_the_search_finds_what_it_is_to_find(tmp_path):
    assert of_cityscapes(tmp_path, "a widget, to train the bus") == {}
    (tmp_path / "one.csv").write_text("Traffic light,widget\n")
    map_of_ids = Image.fromarray(np.zeros((2, 2), np.uint8))
    map_of_ids.putpalette([0, 0, 142])
    map_of_ids.save(tmp_path / "one.png")
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (128, 64, 128)).save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    (tmp_path / "one.html").write_text(f'<img src="data:image/png;base64,{source}">')
    found = {"one.csv": {"Traffic light"}, "one.png": {(0, 0, 142)}, "one.html": {(128, 64, 128)}}
    assert of_cityscapes(tmp_path, "a road") == found | {"said": {"road"}}


NAMES = (
    "domain",
    "protocol",
    "images",
    "role",
    "miou",
    "class",
    "iou",
    "picture",
    "ignored",
    "measure",
    "a/b",
    "x|y,z",
)


def test_a_class_may_be_named_like_a_column(tmp_path):
    value = {name: index / 20 for index, name in enumerate(NAMES)}
    score = Score(True, "full", 3, 3, {"miou": 0.9}, value)
    row = tabulate({"fog": score}).iloc[0]
    assert row[["domain", "role", "images", "miou"]].tolist() == ["fog", "unseen", 3, 0.9]
    assert [row["iou/domain"], row["iou/miou"], row["class"]] == [0, 0.2, 0.25]
    run = TestedRun({"fog": score}, {}, [], [], "", "", None, class_list([*NAMES]))
    lines = score_lines({"one": run, "other": run}).set_index(["run", "score"])["value"]
    assert lines["one"].tolist() == pytest.approx([90, *(100 * each for each in value.values())])


def test_names_of_any_letters_are_written_and_drawn():
    assert table(["class"], [["shelf | <rack>"]]).splitlines()[-1] == r"| shelf \| \<rack> |"
    drawn = [text(word, 60) for word in ("", "Tür", "дом", "Tur")]
    assert len({each.tobytes() for each in drawn}) == 4
    assert tuple(text("", 60, (1, 2, 3))[9, 10]) == (1, 2, 3)
    assert brief(class_list(FIVE).entries()) == "5 (floor, shelf | rack, crate, wooden, ...)"
    assert brief("cityscapes19") == "cityscapes19"


def test_a_matrix_of_many_classes_is_cut_to_the_largest():
    counts = np.diag(np.arange(255)).astype(float)
    shown = matrix(counts, [str(k) for k in range(255)], counts.sum(axis=1))
    assert [*shown.index] == [*shown.columns] == [str(k) for k in range(255 - MOST, 255)]
    other = matrix(np.array([[3, 1, 2], [0, 4, 0], [0, 0, 0]]), ["one", "two"], np.ones(3))
    assert [*other] == ["one", "two", "other classes"]
    assert other.to_numpy().tolist() == [[3, 1, 2], [0, 4, 0]]


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """A run of the 19 classes of Cityscapes, whose data sets say what they are labelled in."""
    folder = tmp_path_factory.mktemp("street")
    source = Path(config(folder, "cityscapes19"))
    given = yaml.safe_load(source.read_text())
    for domain in (given["data"]["sources"]["hall"], given["data"]["unseen"]["yard"]):
        domain["options"]["classes"] = "cityscapes19"
    source.write_text(yaml.safe_dump(given))
    main(["fit", "--config", str(source)])
    main(["test", "--config", str(folder / "run/config.yaml")])
    return folder / "run"


@pytest.mark.parametrize("name", ["cityscapes_categories7", "synthia16"])
def test_a_run_is_scored_in_other_classes(name, street, tmp_path, capfd, recwarn):
    """The counts are those of the 19 classes, added up by hand."""
    folder, scored = shutil.copytree(street, tmp_path / "run"), class_list(name)
    before = read_confusion(street)["yard"]
    words = ["--trainer.default_root_dir", str(folder), "--data.classes", name]
    main(["test", "--config", str(folder / "config.yaml"), *words])
    known = f"scored on {len(scored)} of {len(scored)} classes, which the segmenter knows: {scored[0]},"
    assert any(str(each.message).startswith(known) for each in recwarn)
    said = " ".join(capfd.readouterr().out.split())
    assert f"data.classes: cityscapes19 in training, {name} now" in said
    ids = np.array(CITYSCAPES.ids_in(scored, missing=len(scored)))
    expected = np.zeros((len(scored) + 1, len(scored) + 1), np.int64)
    np.add.at(expected, (ids[:, None], ids[None]), before)
    expected[-1] = 0  # pixels of a class that the list lacks are ignored
    after = read_confusion(folder)["yard"]
    assert after.tolist() == expected.tolist()
    union = expected.sum(axis=0) + expected.sum(axis=1) - np.diag(expected)
    iou = np.diag(expected)[:-1] / union[:-1]
    test = read_test(folder)
    assert test.classes.names == scored.names
    assert list(test.scores["yard"].iou.values()) == pytest.approx(iou.tolist(), nan_ok=True)
    with (folder / "test.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["domain", "role", "protocol", "images", "images_of", "miou", *scored]
    with pytest.raises(SystemExit, match="^1$"):
        main(["report", str(street), str(folder)])
    assert "run were scored on hall with classes" in capfd.readouterr().err
    main(["report", "--html", str(folder), "--images", "0"])
    page = (folder / "report.html").read_text()
    assert page.count("other classes</th>") == 2
    assert "data.classes: cityscapes19 in training" in page


def test_a_run_of_synthia_is_scored_on_the_labels_of_cityscapes(tmp_path, recwarn):
    source = Path(config(tmp_path, "synthia16"))
    given = yaml.safe_load(source.read_text())
    given["trainer"] |= {"limit_test_batches": 1, "limit_val_batches": 0}
    given["data"]["sources"] = {"synthia": {"root": str(synthia(tmp_path / "synthia", 10))}}
    given["data"]["unseen"] = {"cityscapes": {"root": str(cityscapes(tmp_path / "cityscapes", {"val": 1}))}}
    source.write_text(yaml.safe_dump(given))
    main(["fit", "--config", str(source)])
    main(["test", "--config", str(tmp_path / "run/config.yaml")])
    line = "domain 'cityscapes': terrain, truck, train: not among data.classes, so their pixels are ignored"
    assert line in [str(each.message) for each in recwarn]
    score = read_test(tmp_path / "run").scores["cityscapes"]
    assert [*score.means] == ["miou", "miou_13"]
    assert [*score.iou] == [*class_list("synthia16")]
    absent = ("wall", "fence", "pole")
    means = [np.nanmean([value for name, value in score.iou.items() if name not in left]) for left in ((), absent)]
    assert [*score.means.values()] == pytest.approx(means, abs=1e-6)


def test_colours_of_many_classes_differ():
    colours = np.array(class_list([str(k) for k in range(255)]).colours)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 999 * np.eye(255)
    assert distance.min() > 4


def test_labels_of_a_folder_stay_in_their_list_where_a_test_has_another(tmp_path):
    (tmp_path / "own_classes.yaml").write_text(yaml.safe_dump(FIVE, allow_unicode=True))
    main(["fit", "--config", config(tmp_path, str(tmp_path / "own_classes.yaml"))])
    (tmp_path / "own_classes.yaml").unlink()  # the run keeps its own
    run, tested = tmp_path / "run", ["test", "--config", str(tmp_path / "run/config.yaml")]
    main(tested)
    first, counts = read_test(run).scores["yard"], read_confusion(run)["yard"]
    names = [each["name"] for each in FIVE]
    main([*tested, "--data.classes", json.dumps(names[::-1])])
    again = read_test(run)
    assert list(again.classes) == names[::-1]
    assert again.scores["yard"].iou == pytest.approx(first.iou)
    assert again.scores["yard"].means == pytest.approx(first.means)
    with pytest.warns(UserWarning, match="scored on 2 of 3 classes, .*: base, goods; its predictions of shelf"):
        main([*tested, "--data.classes", '["base", "goods", "hat"]'])
    grouped = read_test(run)
    hit, labelled, predicted = counts[2:4, 2:4].sum(), counts[2:4].sum(), counts[[0, 2, 3], 2:4].sum()
    assert grouped.scores["yard"].iou["goods"] == pytest.approx(hit / (labelled + predicted - hit), abs=1e-6)
    assert grouped.known == ["base", "goods"]
    assert any("scored on 2 of 3 classes (base, goods)" in line for line in grouped.departures)
