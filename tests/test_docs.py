"""The pages: commands, numbers and examples of docs/datasets.md and protocols.md; files, names and tests of all."""

import ast
import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import trees
import yaml

from ppar_lightning.cli import main
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.datasets.folder import Folder
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.protocols import PROTOCOLS
from ppar_lightning.images.classes import class_list

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "datasets.md").read_text()
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
SECTIONS = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE)


OWN = dict(SECTIONS)["A folder of your own: `folder`"]
RECIPES = [yaml.safe_load(block)["data"] for block in re.findall(r"```yaml\n(.*?)```", OWN, flags=re.DOTALL)]


@pytest.mark.parametrize("command", [command for command in COMMANDS if "convert" not in command])
def test_the_options_of_a_command_are_accepted(command, monkeypatch, capsys, tmp_path):
    (tmp_path / "hall.yaml").write_text(yaml.safe_dump({"data": RECIPES[1]}))
    places = {"runs/hall/config.yaml": "configs/gta.yaml", "hall.yaml": str(tmp_path / "hall.yaml")}
    program, subcommand, *words = (places.get(word, word) for word in shlex.split(command))
    assert program == "ppar"
    assert subcommand == "doctor" or command.endswith("runs/hall/config.yaml --config hall.yaml")
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match="0"):
        main([subcommand, *words, "--print_config"])
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert all(domain["dataset"] or name in DATASETS for name, domain in (data["sources"] | data["unseen"]).items())


@pytest.mark.parametrize("key", trees.TREES)
def test_every_data_set_has_its_section_with_known_counts_and_a_command(key):
    (section,) = (body for title, body in SECTIONS if f"`{key}`" in title)
    for count in DATASETS[key].counts.values():
        assert re.search(rf"\b{count:,}\b", section), f"{count:,}"
    assert "ppar doctor" in section
    assert f"`{key}`" in TEXT.partition("\n## ")[0]


def test_every_name_of_the_table_is_in_the_text():
    assert [name for name in DATASETS if f"`{name}`" not in TEXT] == []


def test_every_domain_of_a_config_in_the_text_exists():
    for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL):
        data = yaml.safe_load(block)["data"]
        for name, domain in (data.get("sources", {}) | data["unseen"]).items():
            assert domain.get("dataset", name) in DATASETS


def outlines_of(labels: dict[str, tuple[int, int]], tool: str) -> dict:
    """What a tool writes about upright boxes: name -> first and last column."""
    corners = {name: [[a, 0], [b, 0], [b, 47], [a, 47]] for name, (a, b) in labels.items()}
    if tool == "coco":
        boxes = {name: [[a, 0, b + 0.8, 0, b + 0.8, 48, a, 48]] for name, (a, b) in labels.items()}
        drawn = [
            {"id": k, "image_id": 1, "category_id": k, "segmentation": box} for k, box in enumerate(boxes.values())
        ]
        names = [{"id": k, "name": name} for k, name in enumerate(boxes)]
        image = {"id": 1, "file_name": "1.jpg", "height": 48, "width": 80}
        return {"images": [image], "categories": names, "annotations": drawn}
    if tool == "labelme":
        shapes = [{"label": name, "points": points, "shape_type": "polygon"} for name, points in corners.items()]
        return {"imageHeight": 48, "imageWidth": 80, "shapes": shapes}
    objects = [{"label": name, "polygon": points} for name, points in corners.items()]
    return {"imgHeight": 48, "imgWidth": 80, "objects": objects}


CRATE, PERSON = (20, 39), (40, 59)
"""Columns of a crate and of a person."""
BOXES = {"crate": CRATE, "person": PERSON}
MADE = [
    ("photos/night/1.jpg", "maps/night/1.png", trees.stripes([1, 2, 5, 0]), [0, 1, 11, 255]),
    ("photos/1.jpg", "maps/1.png", trees.stripes([1, 3, 5, 0]), [0, 2, 4, 255]),
    ("photos/1.jpg", "masks/1.png", trees.stripes([0, 255]), [0, 1]),
    (
        "photos/1.webp",
        "colours/1.png",
        np.array([(90, 90, 90), (255, 0, 255), (218, 24, 63), (255, 255, 255)], np.uint8)[trees.stripes(range(4))],
        [0, 1, 2, 255],
    ),
    (
        "val/1.jpg",
        "annotations/instances_val.json",
        outlines_of({"wooden crate": CRATE, "person": PERSON}, "coco"),
        [0, 1, 2, 0],
    ),
    ("photos/1.jpg", "photos/1.json", outlines_of(BOXES, "labelme"), [0, 1, 2, 0]),
    (
        "leftImg8bit/val/ulm/1_leftImg8bit.png",
        "gtFine/val/ulm/1_gtFine_polygons.json",
        outlines_of({"road": (0, 79), "cargroup": CRATE, "person": PERSON, "static": (60, 79)}, "cityscapes"),
        [0, 13, 11, 255],
    ),
    ("a/x.jpg", "b/y.png", trees.stripes([0, 1, 2]), [0, 1, 2]),
]
"""Of each recipe an image, a label, what is in it, and the stripes of train ids that it stands for."""


def make(number: int, root: Path) -> tuple[dict, dict]:
    """Write the files of a recipe; return its data options with this root, and those of its domain."""
    image, label, content, _ = MADE[number]
    trees.write_image(root / image)
    (root / label).parent.mkdir(parents=True, exist_ok=True)
    if label.endswith(".json"):
        (root / label).write_text(json.dumps(content))
    else:
        trees.write_label(root / label, content)
    (root / "pairs.csv").write_text(f"image,label,split\n{image},{label},val\n")
    ((name, domain),) = RECIPES[number]["unseen"].items()
    domain = domain | {"root": str(root)}
    return {"classes": "cityscapes19"} | RECIPES[number] | {"unseen": {name: domain}}, domain


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_the_recipe_for_labels_of_ones_own_reads_them(number, tmp_path):
    assert len(RECIPES) == len(MADE)
    data, domain = make(number, tmp_path)
    split = Domain(**domain).open("hall", "eval", classes=class_list(data["classes"]))
    assert len(split) == 1
    found = split[0]["label"]
    np.testing.assert_array_equal(found, trees.stripes(MADE[number][-1]))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_the_recipe_for_labels_of_ones_own_leads_to_a_table(number, tmp_path, capsys):
    data, _ = make(number, tmp_path / "data")
    _, source = make(number, tmp_path / "source")
    recipe, run = tmp_path / "hall.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump({"data": data}))
    sources = {"base": source | {"train_split": source.get("eval_split", "train")}}
    options = {
        "sources": sources,
        "unseen": {},
        "classes": data["classes"],
        "crop": [32, 64],
        "batch_size": 1,
        "workers": 0,
    }
    trainer = {"max_steps": 1, "default_root_dir": str(run)}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"data": options, "trainer": trainer}))
    main(["fit", "--config", "demo", "--config", str(tmp_path / "base.yaml")])
    main(["test", "--config", str(run / "config.yaml"), "--config", str(recipe)])
    scores = json.loads((run / "test.json").read_text())["domains"]
    assert [(name, score["unseen"]) for name, score in scores.items()] == [
        ("base", False),
        (next(iter(data["unseen"])), True),
    ]
    known = {k for k in MADE[number][-1] if k != 255}
    own = class_list(data["classes"])
    assert {own[k] for k in known} <= {name for name, iou in scores["base"]["iou"].items() if iou is not None}
    assert "unseen (mean)" in capsys.readouterr().out


def test_the_command_that_converts_labels_writes_what_folder_reads(tmp_path, capsys):
    (command,) = (each for each in COMMANDS if "convert" in each)
    classes = RECIPES[3]["classes"]
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(classes))
    trees.write_image(tmp_path / "hall/photos/1.jpg")
    trees.write_label(tmp_path / "hall/colours/1.png", class_list(classes).colourise(trees.stripes([0, 1, 2, 255])))
    words = command.replace("/data/", f"{tmp_path}/").replace("classes.yaml", str(tmp_path / "classes.yaml"))
    main(shlex.split(words)[1:])
    label = Folder(tmp_path, "all", "own", "hall/photos/*.jpg", "maps/*.png", classes=classes)[0]["label"]
    np.testing.assert_array_equal(label, trees.stripes([0, 1, 2, 255]))


def test_the_data_set_that_is_added_works(tmp_path, monkeypatch):
    example, line = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    table = dict(DATASETS)
    scope = {"DATASETS": table}
    exec(example, scope)
    exec(line, scope)
    monkeypatch.setattr("ppar_lightning.data.domain.DATASETS", table)
    for name in ("quay", "mole", "pier"):
        trees.write_image(tmp_path / f"camera/{name}_rgb.png")
        trees.write_label(tmp_path / f"truth/{name}_ids.png", trees.stripes([0, 1, 2, 3, 4, 7]))
    (tmp_path / "train.txt").write_text("mole\nquay\n")
    (tmp_path / "val.txt").write_text("pier\n")
    train = Domain(root=str(tmp_path)).open("harbour", "train")
    assert train.scored_classes == (0, 1, 2, 10, 13)
    assert [train[index]["name"] for index in range(len(train))] == ["mole", "quay"]
    np.testing.assert_array_equal(train[0]["label"], trees.stripes([255, 0, 1, 2, 10, 13]))


PROTOCOL_TEXT = (ROOT / "docs" / "protocols.md").read_text()


def test_the_table_of_protocols_is_that_of_the_code():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PROTOCOL_TEXT, flags=re.MULTILINE))
    assert [*rows] == [*PROTOCOLS]
    for name, protocol in PROTOCOLS.items():
        slides = re.findall(r"window (\d+), stride (\d+)", rows[name])
        assert slides == ([(str(protocol.window.size), str(protocol.window.stride))] if protocol.window else [])
        assert ("Mapillary" in rows[name]) == ("mapillary" in {*protocol.views, *protocol.options})


@pytest.mark.parametrize("command", re.findall(r"^ppar test .*$", PROTOCOL_TEXT, flags=re.MULTILINE))
def test_a_protocol_can_be_chosen_by_the_command(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = [word.replace("runs/gta/config.yaml", "configs/gta.yaml") for word in shlex.split(command)]
    with pytest.raises(SystemExit, match="0"):
        main([*words[1:], "--print_config"])
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert {data["protocol"], data["unseen"]["mapillary"]["protocol"]} & {"robustnet_exact", "rein", "full", "tqdm"}
    assert (data["tta"]["scales"] != [1.0]) == ("--data.tta" in command)


PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.name != "results.md"  # `ppar report` writes it
}


def resolve(name: str) -> object:
    """Import the longest prefix of a dotted name that is a module; take the rest as attributes.

    Raises:
        AttributeError, ModuleNotFoundError: The name does not exist.
    """
    module, found = import_module("ppar_lightning"), "ppar_lightning"
    value: object = module
    for part in name.split(".")[1:]:
        found = f"{found}.{part}"
        try:
            value = import_module(found)
        except ModuleNotFoundError as error:
            if error.name not in (found, found.rpartition(".")[0]):
                raise
            value = getattr(value, part)
    return value


@pytest.mark.parametrize("page", PAGES)
def test_every_path_and_dotted_name_of_a_page_exists(page):
    paths = re.findall(r"(?<![\w/])(?:src|tests|configs|benchmarks|tools|notebooks)/[\w/.-]*", PAGES[page])
    assert [path for path in paths if not (ROOT / path.rstrip(".")).exists()] == []
    for name in re.findall(r"\bppar_lightning(?:\.[A-Za-z_]\w*)+", PAGES[page]):
        resolve(name)


def test_a_dotted_name_that_does_not_exist_is_noticed():
    for name in (
        "ppar_lightning.nothing",
        "ppar_lightning.metrics.nothing",
        "ppar_lightning.data.domain.Domain.nothing",
    ):
        with pytest.raises((AttributeError, ModuleNotFoundError)):
            resolve(name)


def test_every_test_that_the_reliability_page_names_exists():
    rows = re.findall(
        r"^\| (?!situation|---)(.*) \| (.*) \| (.*) \|$", PAGES["docs/reliability.md"], flags=re.MULTILINE
    )
    assert len(rows) > 40
    for situation, _, checks in rows:
        named = re.findall(r"`(?:(test_\w+\.py)::(test_\w+)|benchmarks/\w+\.(?:py|sh))`", checks)
        assert named, situation
        for file, test in named:
            names = (
                {
                    node.name
                    for node in ast.walk(ast.parse((ROOT / "tests" / file).read_text()))
                    if hasattr(node, "name")
                }
                if file
                else {test}
            )
            assert test in names, f"{file}::{test}"
