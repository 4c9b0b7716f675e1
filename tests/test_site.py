"""The documentation: built without warnings, loading nothing from elsewhere; its figure; changelog and citation."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from test_house import FILES, ROOMS, own_imports, room

from ppar_lightning.cli import PAGES

ROOT = Path(__file__).parents[1]
COMMANDS = re.findall(r"^  ppar (\w+)", (PAGES / "overview.txt").read_text(), flags=re.MULTILINE)
DOCS = ROOT / "docs"
SVG = "{http://www.w3.org/2000/svg}"
FIGURES = {path.name: ElementTree.parse(path).getroot() for path in sorted(DOCS.glob("*.svg"))}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_there_and_the_reference_is_filled_in(site):
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("")
        assert (site / ("" if name.name == "index" else name) / "index.html").is_file()
    text = (site / "reference" / "index.html").read_text()
    for directive in re.findall(r"^::: (\S+)", (DOCS / "reference.md").read_text(), flags=re.MULTILINE):
        assert f'id="{directive}"' in text, directive
    for words in ("Temperature of every softmax over cosines", "Segment one picture of any size", "Size and stride"):
        assert words in text


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)", page.read_text()
        )
        assert loaded == [], page
    assert [sheet for sheet in site.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//", sheet.read_text())] == []


def test_the_table_of_commands_is_the_command():
    rows = re.findall(r"^\| `ppar (\w+)` \|", (DOCS / "reference.md").read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)


def styles(text: str) -> dict[str, str]:
    """Class -> fill, of the rules of one scheme."""
    return dict(re.findall(r"(?:^|\s)\.?(\w+) \{[^}]*?fill: (#\w{6})", text))


def luminance(colour: str) -> float:
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_can_be_read(figure, scheme):
    sheet = FIGURES[figure].find(f"{SVG}style").text
    light, dark = sheet.split("@media (prefers-color-scheme: dark)")
    fills = styles(light) | (styles(dark) if scheme == "dark" else {})
    assert not set(styles(light)) ^ set(styles(dark))
    for ink, ground in product(("text", "note", "chained"), ("panel", "box", "ours", "network")):
        high, low = sorted((luminance(fills[ink]), luminance(fills[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_lies_within_its_frame_and_loads_nothing(figure):
    width, height = map(float, FIGURES[figure].get("viewBox").split()[2:])
    for box in FIGURES[figure].iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height
    assert not re.search(r"<script|href=|url\((?!#)|@import", (DOCS / figure).read_text())


def words(figure: str, kind: str = "") -> list[str]:
    """Texts of a figure, of one class if it is named."""
    return [text.text for text in FIGURES[figure].iter(f"{SVG}text") if kind in text.get("class").split() or not kind]


def test_the_figure_of_the_method_shows_its_parts():
    assert {"VTP", "OTP", "reweighting: w", "features z", "cross entropy"} <= set(words("method.svg"))
    assert words("method.svg").count("segmenter") == 2  # in training and at test


def test_the_figure_of_the_architecture_has_every_room_on_its_floor():
    boxes = {box.get("y"): [] for box in FIGURES["architecture.svg"].iter(f"{SVG}rect") if "box" in box.get("class")}
    floors = sorted(boxes, key=float)
    rooms: list[list[str]] = [[] for _ in floors]
    for text in FIGURES["architecture.svg"].iter(f"{SVG}text"):
        if text.get("class") == "name":
            (floor,) = (k for k, top in enumerate(floors) if 0 < float(text.get("y")) - float(top) < 50)
            rooms[floor].append(text.text.removesuffix(".py").rstrip("/"))
    drawn = [name for floor in rooms for name in floor]
    assert sorted(drawn) == sorted(ROOMS)
    above = {
        name: {each for floor in rooms[: k + 1] for each in floor} - {name}
        for k, floor in enumerate(rooms)
        for name in floor
    }
    for module, path in FILES.items():
        assert not {room(other) for other in own_imports(path)} & above[room(module)], module


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["title"] in " ".join((DOCS / "index.md").read_text().replace("*", "").split())
    assert "2507.11955" in paper["url"]
    for authors in (citation["authors"], paper["authors"]):  # the format wants them to differ
        assert len({str(author) for author in authors}) == len(authors)


def test_the_changelog_names_every_command_and_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] in text
    assert [name for name in COMMANDS if f"`{name}`" not in text and f"ppar {name}" not in text] == []
