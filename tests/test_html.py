"""``ppar report --html``: one page that holds everything and asks nobody; and what it is made of, by hand."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from test_cli import evaluate, fit

from ppar_lightning.callbacks.results import log_tables
from ppar_lightning.cli import main
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.metrics import UNSEEN, class_iou
from ppar_lightning.report.chart import draw_curves
from ppar_lightning.report.html import shade
from ppar_lightning.runs.curves import read_metrics
from ppar_lightning.runs.tested_run import Score

DOMAINS = ("game", "fog", "night", "rain", "snow", "city")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """A page's elements by tag, the text of each section, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, str] = {}
        self.tags: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.section = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "section":
            self.section = dict(attrs)["id"]
        self.tags.setdefault(self.section, []).append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text[self.section] = f"{self.text.get(self.section, '')} {data}"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = fit(tmp_path_factory.mktemp("html") / "<run>")
    evaluate(folder, "--ci", "20")
    return folder


@pytest.fixture(scope="module")
def page(run) -> Page:
    main(["report", "--html", str(run), "--images", "3"])
    return Page((run / "report.html").read_text())


def test_the_test_keeps_the_matrices_that_its_scores_are_taken_from(run):
    record = json.loads((run / "test.json").read_text())["domains"]
    with np.load(run / "confusion.npz") as kept:
        assert set(kept) == set(DOMAINS)
        for domain, counts in kept.items():
            assert counts.shape == (19, 19)
            assert counts.dtype == np.int64
            iou = class_iou(torch.from_numpy(counts)).tolist()
            known = [0.0 if value is None else value for value in record[domain]["iou"].values()]
            assert np.nan_to_num(iou).tolist() == pytest.approx(known)


def test_the_page_holds_every_part(page, run):
    assert page.open == []
    assert "<run>" in page.text[""]
    record = json.loads((run / "test.json").read_text())
    for domain in DOMAINS:
        score = record["domains"][domain]
        assert f"{100 * score['miou']:.1f}" in page.text["domains"]
        for section in ("domains", "classes", "confusion", "predictions"):
            assert domain in page.text[section]
    low, high = record["ci"]["intervals"][UNSEEN]["miou"]
    assert f"{100 * record['unseen_miou']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in page.text["domains"]
    for caption in ("worst of 3: ", "2nd best of 3: ", "best of 3: "):
        assert page.text["predictions"].count(caption) >= 1
    assert "peak_memory (GiB)" in page.text["manifest"]
    assert page.text["confusion"].count("Confusion on") == len(DOMAINS)
    for section in ("domains", "classes", "confusion", "predictions", "curves"):
        assert "full" in page.text[section]  # the protocol
    assert page.tags["predictions"].count("img") == 4 * (
        3 + 5 * 2
    )  # 3 of the source, as --images says, 2 of the others
    assert page.tags["prototypes"].count("table") == 3
    shades = [
        float(style.removeprefix("--v:")) for tag, name, style in page.attributes if (tag, name) == ("td", "style")
    ]
    assert len(shades) == 19 * (len(DOMAINS) * 20 + 19 + 19 + 1)  # classes and confusion of each domain; cosines
    assert max(shades) == 1
    assert page.tags["weights"].count("img") == 3 * 2  # as a training batch has
    assert page.tags["curves"].count("svg") == 3
    assert str(json.loads((run / "manifest.json").read_text())["sessions"][0]["config"]) in page.text["manifest"]
    assert "not in the curves" not in page.text["curves"]


def test_the_page_asks_nobody(page, run):
    text = (run / "report.html").read_text()
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tags in page.tags.values() for tag in tags}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert value.startswith(("data:", "#")), (tag, name, value[:80])
        assert not re.search(r"url\((?!#)", value), (tag, name, value)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(text) < 2_000_000


def test_the_page_suits_phones_and_the_dark(page, run):
    text = (run / "report.html").read_text()
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert "prefers-color-scheme: dark" in text
    assert "overflow-x: auto" in text
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))
    assert "<run>" not in text  # escaped


@pytest.mark.slow
def test_parts_that_a_run_lacks_are_a_line(run, tmp_path):
    folder = tmp_path / "bare"
    fit(folder, "--model.ppar.enabled", "false", "--trainer.logger", "false")
    (folder / "manifest.json").unlink()
    main(["report", "--html", str(folder), "--images", "1", "--output", str(tmp_path / "pages" / "bare.html")])
    page = Page((tmp_path / "pages" / "bare.html").read_text())
    for section in ("domains", "classes", "confusion"):
        assert f"run `ppar test --config {folder}/config.yaml` first" in page.text[section]
    assert "trained without PPAR" in page.text["prototypes"]
    assert "trained without PPAR" in page.text["weights"]
    assert "left no curves" in page.text["curves"]
    assert "has no manifest.json" in page.text["manifest"]
    assert not (folder / "report.html").exists()


def test_a_run_tested_before_matrices_were_kept_is_told_so(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "old")
    (folder / "confusion.npz").unlink()
    main(["report", "--html", str(folder), "--images", "0"])
    page = Page((folder / "report.html").read_text())
    assert "tested before confusion matrices were kept: run `ppar test" in page.text["confusion"]
    assert "No labelled image was read." in page.text["predictions"]
    assert page.tags["classes"].count("table") == 1


@pytest.mark.remedy("report/html.py::write_page")
def test_a_page_is_a_file(run, tmp_path, capsys):
    words = ["report", "--html", str(run), "--images", "0", "--output"]
    with pytest.raises(SystemExit, match="1"):
        main([*words, str(tmp_path)])
    (file,) = re.findall("is a folder: name the file with --output, (.*) for example", capsys.readouterr().err)
    assert Path(file).parent == tmp_path
    main([*words, file])
    assert Page(Path(file).read_text()).text["domains"]


@pytest.mark.slow
@pytest.mark.remedy("report/html.py::write_page")
@pytest.mark.remedy("report/arguments.py::main")
def test_what_the_messages_of_the_page_say_works(run, tmp_path, capsys):
    def refused(*words: str) -> str:
        with pytest.raises(SystemExit, match="1"):
            main(["report", *words])
        return capsys.readouterr().err

    said = refused("--html", str(run), "--images", "0", "--output", str(tmp_path))
    (path,) = re.findall("name the file with --output, (.*) for example", said)
    main(["report", "--html", str(run), "--images", "0", "--output", path])
    assert Path(path).is_file()
    assert "name one folder, and give --images of at least 0" in refused("--html", str(run), "--images", "-1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--html", "{run}", "{run}"], "name one folder"),
        (["--html", "{tmp}"], "config.yaml not found: name the folder of a run"),
        (["--html", "{run}", "--images", "-1"], "--images of at least 0"),
        (["--html", "--diagnostics", "{run}"], "not allowed with"),
        (["{run}"], "is one run: give --html"),
        (["{run}", "{tmp}"], "is no run"),
    ],
)
def test_mistakes_are_one_line(words, message, run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", *(word.format(run=run, tmp=tmp_path) for word in words)])
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_cells_know_their_colour():
    assert [shade(value, 100) for value in (75, 250, float("nan"))] == [0.75, 1.0, 0.0]
    assert shade(-0.5, 1) == -0.5


def test_curves_of_a_continued_run_are_one(tmp_path):
    for version, lines in ((2, "0,49,2.0\n0,99,1.5"), (10, "1,99,1.4\n1,149,1.0")):
        folder = tmp_path / "curves" / "fit" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(f"epoch,step,train/loss\n{lines}\n")
    assert read_metrics(tmp_path) == {"train/loss": {49: 2.0, 99: 1.4, 149: 1.0}}
    assert list(draw_curves(tmp_path)) == ["Losses on training crops"]
    assert draw_curves(tmp_path / "curves") == {}


def test_tables_go_to_wandb_and_to_no_other_logger(tmp_path):
    score = Score(True, "full", 3, 5, {"miou": 0.5}, dict.fromkeys(CITYSCAPES, 0.5) | {"train": float("nan")})
    wandb.finish()  # a run of another test would be gone on with
    loggers = [CSVLogger(tmp_path), WandbLogger(save_dir=tmp_path, offline=True)]
    log_tables(loggers, {"fog": score})
    loggers[1].experiment.finish()
    tables = {
        path.name.split("_")[0]: json.loads(path.read_text())
        for path in tmp_path.glob("wandb/*/files/media/table/**/*.json")
    }
    assert tables["domains"]["columns"] == ["domain", "role", "protocol", "images", "images_of", "miou"]
    assert tables["domains"]["data"] == [["fog", "unseen", "full", 3, 5, 0.5]]
    assert tables["classes"]["data"][0] == ["fog", "full", 3, 5, "road", 0.5]
    assert ["fog", "full", 3, 5, "train", None] in tables["classes"]["data"]
