"""The tutorial on a data set of one's own, word by word: five classes with labels in colours, and short trainings."""

import csv
import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import trees
import yaml
from PIL import Image, ImageDraw
from test_configs import QUICK

from ppar_lightning.cli import main
from ppar_lightning.images.classes import CITYSCAPES, class_list

TEXT = (Path(__file__).parents[1] / "docs" / "tutorials" / "own_data_set.md").read_text()
FILES = re.findall(r"Write this to `([\w.]+)`.*?```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).splitlines()
CLASSES = class_list(yaml.safe_load(dict(FILES)["classes.yaml"]))


def photograph(path: Path, light: float) -> None:
    """A warehouse: shelves behind a floor with crates, a forklift and a person on it; and its label in colours."""
    rng = np.random.default_rng(list(path.stem.encode()))
    label = Image.new("RGB", (160, 96), CLASSES.colours[1])
    pen = ImageDraw.Draw(label)
    pen.rectangle((0, 50, 160, 96), CLASSES.colours[0])
    for train_id, (width, height) in ((2, (22, 16)), (2, (18, 20)), (3, (34, 30)), (4, (10, 32))):
        left, foot = rng.integers(4, 120), rng.integers(60, 92)
        pen.rectangle((left, foot - height, left + width, foot), CLASSES.colours[train_id])
    pen.rectangle((0, 0, 6, 6), "black")
    trees.write_label(Path(str(path).replace("photos", "colours")).with_suffix(".png"), np.asarray(label))
    noise = rng.normal(0, 12, (96, 160, 3))
    picture = (light * (0.5 * np.asarray(label) + 60) + noise).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def hall(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for split, light, count in (("day", 1.0, 4), ("day_val", 1.0, 2), ("night", 0.4, 2)):
        for number in range(count):
            photograph(tmp_path / f"hall/photos/{split}/{split}_{number:04d}.jpg", light)
    for name, content in FILES:
        (tmp_path / name).write_text(content)
    return tmp_path


def follow(commands: list[str], *clip: str) -> None:
    """Run commands of the page, those that name its config with a short training."""
    for command in commands:
        words = shlex.split(command)[1:] + ([*QUICK, *clip] if "--config hall.yaml" in command else [])
        with pytest.raises(SystemExit, match="0") if words[0] == "doctor" else nullcontext():
            main(words)


@pytest.mark.slow
def test_the_tutorial_word_by_word(hall, clip_folder):
    assert [name for name, _ in FILES] == ["classes.yaml", "hall.yaml"]
    assert [command.split()[1] for command in COMMANDS] == ["doctor", "fit", "test", "predict", "fit", "test"]
    follow(COMMANDS[:4], "--model.ppar.clip", str(clip_folder))
    run = hall / "runs/hall"
    assert {path.name for path in (run / "doctor").glob("*.png")} == {"hall.png", "hall_night.png"}
    table = rows(run / "test.csv")
    assert [row["domain"] for row in table] == ["hall", "hall_night"]
    assert set(CLASSES) <= set(table[0])
    assert set(CITYSCAPES) & set(table[0]) == {"person"}
    assert (run / "pictures/test.png").is_file()
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["classes"] == CLASSES.entries()
    maps = sorted((run / "predictions").glob("night_*.png"))
    assert len(maps) == len(list((run / "predictions/overlays").glob("*.jpg"))) == 2
    with Image.open(maps[0]) as drawn:
        shown = {tuple(colour) for colour in np.asarray(drawn.convert("RGB")).reshape(-1, 3).tolist()}
    assert shown <= set(CLASSES.colours)
    assert set(CLASSES) <= set(rows(run / "predictions/shares.csv")[0])


@pytest.mark.slow
def test_the_comparison_of_the_tutorial(hall):
    follow(COMMANDS[4:])
    assert [row["domain"] for row in rows(hall / "runs/hall_source_only/test.csv")] == ["hall", "hall_night"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))
