"""What others have made, scored as a run is: models of transformers, maps of any program, and intervals."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from stand_ins import foreign, small_config

from ppar_lightning.cli import main
from ppar_lightning.cli.words import split_off
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.images.decoding import read_image
from ppar_lightning.metrics import UNSEEN
from ppar_lightning.runs.tested_run import read_test
from ppar_lightning.score.map_reader import matched
from ppar_lightning.segmenter.foreign import ForeignSegmenter


@pytest.fixture(scope="module")
def segformer(tmp_path_factory) -> str:
    return foreign("segformer", tmp_path_factory.mktemp("models") / "segformer")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a small Cityscapes, in which a test starts."""
    monkeypatch.chdir(tmp_path)
    trees.cityscapes(tmp_path / "cityscapes", {"train": 1, "val": 4})
    return tmp_path


def unseen(domain: str, root: Path) -> str:
    return json.dumps({domain: {"root": str(root)}})


def write_maps(name: str, root: Path, folder: Path, ending: str = "") -> None:
    """Let a program of somebody else write what a model predicts."""
    segmenter = ForeignSegmenter(name, CITYSCAPES)
    folder.mkdir()
    for path in (root / "leftImg8bit" / "val").rglob("*.png"):
        scores = segmenter(torch.tensor(read_image(path)).permute(2, 0, 1)[None] / 255)
        Image.fromarray(scores.argmax(1)[0].byte().numpy()).save(folder / f"{path.stem}{ending}.png")


def test_a_model_and_its_maps_have_equal_scores(place, segformer, capsys):
    config = small_config(place)
    other = ["--data.unseen", unseen("cityscapes", place / "cityscapes"), "--ci", "50"]
    main(["test", "--config", config, f"--model={segformer}", *other])
    printed = capsys.readouterr().out
    assert f"Others have made what was scored:{segformer}." in printed.replace("\n", "").replace(": ", ":")
    write_maps(segformer, place / "cityscapes", place / "maps", "_pred")
    main(["score", "maps", "cityscapes", "--dataset", "cityscapes", "--ci", "50"])
    model, maps = (read_test(place / "runs" / name) for name in ("segformer", "maps"))
    assert maps.scores["cityscapes"] == model.scores["cityscapes"]
    assert 0 < maps.scores["cityscapes"].means["miou"] < 1
    assert maps.intervals["cityscapes"] == maps.intervals[UNSEEN] == model.intervals["cityscapes"]
    low, high = maps.intervals["cityscapes"]["miou"]
    assert low < maps.scores["cityscapes"].means["miou"] < high
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in printed
    assert (maps.data["cityscapes/eval"], maps.model) == (model.data["cityscapes/eval"], "maps")
    with np.load("runs/segformer/confusion.npz") as one, np.load("runs/maps/confusion.npz") as two:
        assert np.array_equal(one["cityscapes"], two["cityscapes"][:19, :19])
    record = json.loads(Path("runs/segformer/test.json").read_text())
    assert record["model"]["name"] == segformer
    assert len(record["model"]["revision"]) == 64  # a hash of the folder's files
    assert {path.name for path in Path("runs/segformer").iterdir()} == {"test.json", "test.csv", "confusion.npz"}
    main(["report", "runs/maps", "runs/segformer"])
    shown = capsys.readouterr().out
    assert "cityscapes" in shown
    assert "segformer: Others have made what was scored" in " ".join(shown.split())


def test_a_model_of_other_classes_is_scored_over_the_common_ones(place):
    name = foreign("segformer", place / "ade", ["road, route", "tree", "ceiling"])
    words = ["--model.segmenter.backbone", "nobody/nothing", "--model.ppar.ensemble", "0.5"]  # none of which is read
    with pytest.warns(UserWarning, match="scored on 2 of 19 classes, which the segmenter knows: road, vegetation"):
        main(["test", "--config", small_config(place), "--model", name, *words, "--trainer.default_root_dir", "scores"])
    (score,) = (each for each in read_test(place / "scores").scores.values() if each.unseen)
    assert [name for name, value in score.iou.items() if value == value] == ["road", "vegetation"]
    assert score.means["miou"] == pytest.approx(np.mean([score.iou[name] for name in ("road", "vegetation")]), abs=1e-6)


@pytest.mark.remedy("score/__init__.py::main")
def test_a_split_is_one_of_a_data_set(place, capsys):
    for folder in ("maps", "labels"):
        trees.write_label(place / folder / "a.png", trees.stripes([0, 1]))
    with pytest.raises(SystemExit, match="1"):
        main(["score", "maps", "labels", "--split", "night"])
    line = "--split names a split of a data set: give its name as --dataset, or leave --split out"
    assert line in capsys.readouterr().err
    main(["score", "maps", "labels"])
    assert read_test(Path("runs/maps")).unseen_means == {"miou": 1}


@pytest.mark.remedy("runs/run_folder.py::refuse_run")
def test_the_folder_of_a_run_is_not_written_to(place, capsys):
    for folder in ("maps", "labels"):
        trees.write_label(place / folder / "a.png", trees.stripes([0, 1]))
    Path("runs/maps").mkdir(parents=True)
    Path("runs/maps/config.yaml").write_text("{}")
    with pytest.raises(SystemExit, match="1"):
        main(["score", "maps", "labels"])
    assert "runs/maps holds a run of `ppar fit`: give another folder with --output" in capsys.readouterr().err
    main(["score", "maps", "labels", "--output", "elsewhere"])
    assert read_test(Path("elsewhere")).unseen_means == {"miou": 1}


@pytest.mark.remedy("cli/words.py::split_off")
def test_a_model_and_a_checkpoint_are_not_given_both():
    words = ["test", "--config", "gta", "--model", "theirs"]
    with pytest.raises(ValueError, match="--model and --ckpt_path both name a network to score: give only one"):
        split_off([*words, "--ckpt_path=last"])
    given, others = split_off([*words, "--ci"])
    assert (given.model, given.ci, others) == ("theirs", 1000, ["test", "--config", "gta"])
    assert split_off(["fit", "--model", "model.yaml"])[1] == ["fit", "--model", "model.yaml"]


@pytest.mark.remedy("console.py::positive")
@pytest.mark.parametrize("number", ["-5", "0", "maps"])
def test_a_number_of_resamples_is_at_least_one(number, capsys):
    with pytest.raises(SystemExit):
        split_off(["test", "--ci", number])
    said = capsys.readouterr().err
    example = re.search(f"argument --ci: '{number}' is no number of resamples: give 1 or more, such as (\\d+)\n", said)
    assert split_off(["test", "--ci", example[1]])[0].ci == 1000


def test_maps_and_labels_in_plain_folders(place):
    label = trees.stripes([0, 1, 2, 255], (8, 16))
    for number in range(3):
        trees.write_label(place / f"labels/day/{number}.png", label)
        wrong = np.where(label == 1, number, label)  # 1 as 0, as itself, and as 2
        trees.write_label(place / f"theirs/day/{number}_pred.png", np.where(wrong == 2, 255, wrong).astype(np.uint8))
    (place / "classes.yaml").write_text("[box, lid, tape]")
    main(["score", "theirs", "labels", "--classes", "classes.yaml", "--name", "hall", "--output", "out"])
    score = read_test(place / "out").scores["hall"]
    assert (score.images, score.protocol, score.unseen) == (3, "full", True)
    assert score.iou == pytest.approx({"box": 3 / 4, "lid": 1 / 3, "tape": 0})  # no class is wrong for tape, too
    with np.load("out/confusion.npz") as counts:
        assert counts["hall"].tolist() == [[96, 0, 0, 0], [32, 32, 0, 32], [0, 0, 0, 96], [0, 0, 0, 0]]


@pytest.mark.parametrize("folder", ["theirs", "labels"])
def test_a_map_that_holds_no_train_ids_is_named_with_a_remedy(folder, place, capsys):
    for each in ("theirs", "labels"):
        trees.write_label(place / each / "a.png", trees.stripes([0, 40 if each == folder else 1]))
    with pytest.raises(SystemExit, match="1"):
        main(["score", "theirs", "labels"])
    said = capsys.readouterr().err
    assert f"{folder}/a.png: label value 40 is not among" in said
    assert "write train ids of --classes in its place, and 255 for no class" in said
    trees.write_label(place / folder / "a.png", trees.stripes([0, 255]))
    main(["score", "theirs", "labels"])


@pytest.mark.remedy("score/map_reader.py::MapReader.test_step")
def test_a_map_of_another_size_is_refused_and_the_protocols_size_is_named(place, capsys):
    root = trees.mapillary(place / "mapillary", {"validation": 2})
    maps = {path.stem: np.array(Image.open(path)) % 19 for path in (root / "validation/labels").glob("*.png")}
    for name, each in maps.items():
        trees.write_label(place / f"maps/{name}.png", each.astype(np.uint8))
    words = ["score", "maps", "mapillary", "--dataset", "mapillary", "--protocol", "rein"]
    with pytest.raises(SystemExit, match="1"):
        main(words)
    fault = capsys.readouterr().err
    assert "maps/validation_0.png is 80x48, but the label of validation_0 is 40x24 in protocol rein: write " in fault
    for name, each in maps.items():
        trees.write_label(place / f"maps/{name}.png", each[::2, ::2].astype(np.uint8))
    main(words)
    assert read_test(Path("runs/maps")).scores["mapillary"].protocol == "rein"


def test_maps_are_found_by_name():
    samples = ["a/x_1", "a/x_12", "b/x_1", "b/y"]
    maps = ["a/x_1_pred", "a/x_12", "b/x_1-leftImg8bit", "y.final"]
    assert matched(samples, maps) == {"a/x_1": 0, "a/x_12": 1, "b/x_1": 2, "b/y": 3}


@pytest.mark.remedy("score/map_reader.py::matched")
@pytest.mark.parametrize(
    ("maps", "fault"),
    [
        (["a/x"], "a/y has no map (1 samples and 0 maps without a counterpart)"),
        (["a/x", "y", "a/z"], "a/z is a map of no other sample (0 samples and 1 maps"),
        (["a/x", "a/y", "a/y_pred"], "a/y_pred is a map of no other sample (0 samples and 1 maps"),
    ],
)
def test_maps_without_a_counterpart_are_named(maps, fault):
    with pytest.raises(ValueError, match="name each map after its sample, NAME.png or NAME_pred.png") as error:
        matched(["a/x", "a/y"], maps)
    assert fault in str(error.value)
    assert matched(["a/x", "a/y"], ["a/x", "y_pred"]) == {"a/x": 0, "a/y": 1}


def test_an_earlier_test_with_intervals_is_kept(place, segformer, capsys):
    write_maps(segformer, place / "cityscapes", place / "maps")
    words = ["score", "maps", "cityscapes", "--dataset", "cityscapes"]
    main([*words, "--ci"])
    first = json.loads(Path("runs/maps/test.json").read_text())
    assert first["ci"]["resamples"] == 1000
    main(words)
    assert json.loads(Path("runs/maps/test.1.json").read_text()) == first
    assert read_test(Path("runs/maps")).intervals == {}
    main([*words, "--ci", "100"])
    assert not Path("runs/maps/test.2.json").exists()  # nothing was lost
