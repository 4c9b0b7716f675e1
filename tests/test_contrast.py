"""Runs side by side, on hand-written run folders."""

import csv
import json
import re
from pathlib import Path

import pytest

from ppar_lightning.cli import main

FULL = {"protocol": "full", "unseen": True, "images": 60}


def write_run(folder: Path, domains: dict, finished: bool = True) -> Path:
    """Write a run; a domain is its mIoU and the IoU of the road, or the whole of what stands in ``test.json``."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed_everything: 0\n")
    (folder / "manifest.json").write_text(json.dumps({"finished": finished, "sessions": []}))
    written = {
        name: value if isinstance(value, dict) else {**FULL, "miou": value[0], "iou": {"road": value[1], "train": None}}
        for name, value in domains.items()
    }
    written = {name: value | {"unseen": name != "game"} for name, value in written.items()}
    (folder / "test.json").write_text(json.dumps({"domains": written}))
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    first = write_run(tmp_path / "runs" / "a", {"game": (0.6, 0.9), "fog": (0.4, 0.8), "night": (0.2, 0.5)})
    other = write_run(tmp_path / "runs" / "b" / "0", {"game": (0.58, 0.9), "fog": (0.45, 0.7), "snow": (0.3, 0.1)})
    return [first, other]


def tables(text: str) -> dict[str, dict[str, list[str]]]:
    """Title -> first cell -> the other cells."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            rows = found.setdefault(line[3:], {})
        elif line.startswith("| "):
            head, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows[head] = cells
    return found


def test_scores_and_differences_by_domain_and_class(runs, tmp_path):
    main(["report", *map(str, runs), "--output", str(tmp_path / "out")])
    scores, gains = tables((tmp_path / "out" / "compare.md").read_text()).values()
    assert scores["domain"] == ["role", "protocol", "images", "a", "b/0"]
    assert scores["game"] == ["source", "full", "60", "60.0", "58.0"]
    assert scores["night"] == ["unseen", "full", "60", "20.0", "-"]
    assert scores["snow"] == ["unseen", "full", "60", "-", "30.0"]
    assert scores["unseen in all (mean)"] == ["", "full", "", "40.0", "45.0"]  # of fog alone
    assert gains["class"] == ["game", "fog", "night", "snow", "unseen in all (mean)"]
    assert gains["protocol"] == ["full"] * 5
    assert gains["mIoU"] == ["-2.0", "+5.0", "-", "-", "+5.0"]
    assert gains["road"] == ["+0.0", "-10.0", "-", "-", "-10.0"]
    assert gains["train"] == ["-"] * 5
    with (tmp_path / "out" / "compare.csv").open() as file:
        lines = {(line["run"], line["domain"], line["score"]): line for line in csv.DictReader(file)}
    assert len(lines) == 2 * 3 * 3
    assert lines["b/0", "fog", "road"] | {"run": ""} == {
        **{"run": "", "domain": "fog", "protocol": "full", "images": "60", "score": "road"},
        **{"value": "70.0000", "difference": "-10.0000"},
    }
    assert lines["b/0", "snow", "miou"]["difference"] == ""


def test_nothing_is_written_without_a_folder(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    before = sorted(tmp_path.rglob("*"))
    main(["report", *map(str, runs)])
    printed = capsys.readouterr().out
    assert "IoU, b/0 minus a (points)" in printed
    assert "-10.0" in printed
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("key", "value"), [("protocol", "rein"), ("images", 20)])
def test_a_domain_scored_otherwise_is_refused(key, value, runs, tmp_path, capsys):
    fog = {**FULL, "miou": 0.5, "iou": {"road": 0.5}, key: value}
    third = write_run(tmp_path / "runs" / "c", {"game": (0.5, 0.5), "fog": fog})
    with pytest.raises(SystemExit):
        main(["report", *map(str, (*runs, third))])
    values = f"{str(FULL[key])!r} and {str(value)!r}"
    message = f"a and c were scored on fog with {key} {values}: such numbers do not belong in one"
    assert message in capsys.readouterr().err


def test_what_a_reader_has_to_know_is_said(runs, tmp_path, capsys):
    third = write_run(tmp_path / "runs" / "c", {"fog": (0.5, 0.5)}, finished=False)
    main(["report", str(runs[0]), str(third)])
    assert "c: Training is not finished." in capsys.readouterr().out


@pytest.mark.remedy("report/side_by_side.py::print_side_by_side")
@pytest.mark.remedy("report/side_by_side.py::print_side_by_side")
def test_a_run_that_cannot_be_read_is_named(runs, tmp_path, capsys):
    untested = tmp_path / "untested"
    untested.mkdir()
    (untested / "config.yaml").touch()
    for words, message in (
        ([runs[0], untested], "test.json not found: run `ppar test --config"),
        ([runs[0], runs[0]], "is one run: give --html for its page, or further runs"),
        ([runs[0], tmp_path / "nowhere"], "nowhere is no run, .*: name only runs, or only folders of settings"),
        ([runs[0]], "is one run: give --html for its page, or further runs to compare it with"),
    ):
        with pytest.raises(SystemExit):
            main(["report", *map(str, words)])
        assert re.search(message, capsys.readouterr().err)
        main(["report", *map(str, runs)])  # what the messages say
    (runs[1] / "test.json").write_text("[]")
    with pytest.raises(SystemExit):
        main(["report", *map(str, runs)])
    assert "test.json is not what `ppar test` writes" in capsys.readouterr().err
