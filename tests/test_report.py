"""``ppar report`` on hand-made runs, whose figures are computed by hand."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pandas as pd
import pytest
import yaml

from ppar_lightning.callbacks.results import keep_earlier
from ppar_lightning.cli import main
from ppar_lightning.data.protocols import PROTOCOLS
from ppar_lightning.metrics import UNSEEN
from ppar_lightning.report import seed_report
from ppar_lightning.report.seed_table import ROWS, SeedTable, in_order, read_results
from ppar_lightning.runs.tested_run import TestedRun, read_test

DOCS = Path(__file__).parents[1] / "docs"
# row -> seed -> mIoU of game (source), fog, night
SCORES = {
    "source_only": {0: (0.60, 0.10, 0.20), 1: (0.62, 0.14, 0.20), 2: (0.61, 0.12, 0.20)},
    "otp": {0: (0.60, 0.10, 0.18)},
    "progressive": {0: (0.60, 0.12, 0.20), 1: (0.60, 0.10, 0.20)},
    "ppar": {0: (0.60, 0.14, 0.24), 1: (0.60, 0.12, 0.20), 2: (0.60, 0.18, 0.24)},
}
SESSION = {
    "started": "2026-01-01T00:00:00+00:00",
    "hardware": "2 CPU cores (x86_64)",
    "versions": {"python": "3.12.0", "torch": "2.13.0"},
    "git": "0123456789" * 4,
    "seconds": 60.0,
    "peak_memory": 1.5,
}


def write_run(folder: Path, scores, protocol: str = "full", sessions=(SESSION,), finished: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed_everything: 0\n")
    names = ("game", "fog", "night")
    domains = {
        name: {"unseen": name != "game", "images": 60, "protocol": protocol, "miou": score, "iou": {"road": score}}
        for name, score in zip(names, scores, strict=True)
    }
    test = {"domains": domains, "unseen_miou": sum(scores[1:]) / 2, "target_selection": []}
    (folder / "test.json").write_text(json.dumps(test))
    seed = int(folder.name) if folder.name.isdigit() else 0
    manifest = {"seed": seed, "finished": finished, "sessions": list(sessions)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def demo(tmp_path) -> Path:
    for row, seeds in SCORES.items():
        for seed, scores in seeds.items():
            write_run(tmp_path / "demo" / row / str(seed), scores)
    return tmp_path / "demo"


def table_rows(text: str, heading: str) -> dict[str, list[str]]:
    """The cells of the first table under a heading, by their first."""
    section = text.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in lines}


def test_the_markdown_holds_means_deviations_and_paired_differences(demo, capsys):
    main(["report", str(demo)])
    text = (demo / "results.md").read_text()
    assert text in capsys.readouterr().out
    scores = table_rows(text, "### mIoU")
    assert list(scores)[2:] == ["source_only", "otp", "progressive", "ppar"]
    assert scores["row"] == ["n", "game", "fog", "night", "unseen (mean)"]
    # fog 10, 14, 12: mean 12, deviation sqrt((4 + 4 + 0) / 2) = 2; unseen mean 15, 17, 16
    assert scores["source_only"] == ["3", "61.0 ± 1.0", "12.0 ± 2.0", "20.0 ± 0.0", "16.0 ± 1.0"]
    assert scores["otp"] == ["1", "60.0", "10.0", "18.0", "14.0"]
    gains = table_rows(text, "### Difference to `source_only`, mIoU")
    # fog +4, -2, +6: mean 8 / 3, deviation sqrt((16/9 + 196/9 + 100/9) / 2) = 4.163; unseen 19, 16, 21: +4, -1, +5
    assert gains["ppar"] == [
        *("3", "-1.00 ± 1.00", "+2.67 ± 4.16", "+2.67 ± 2.31", "+2.67 ± 3.21", "2 of 3"),
    ]
    # over the two seeds that both have: unseen 16 - 15, 15 - 17
    assert gains["progressive"] == ["2", "-1.00 ± 1.41", "-1.00 ± 4.24", "+0.00 ± 0.00", "-0.50 ± 2.12", "1 of 2"]
    assert gains["otp"] == ["1", "+0.00", "+0.00", "-2.00", "-1.00", "0 of 1"]
    assert "source_only" not in gains


def test_each_claim_has_its_difference_where_its_rows_exist(demo):
    main(["report", str(demo)])
    claims = table_rows((demo / "results.md").read_text(), "### The claims of the abstract")
    assert claims["progressive alignment beats direct alignment"] == ["progressive - otp", "+2.00", "+2.00", "1 of 1"]
    # unseen means 19, 16 and 16, 15
    assert claims["reweighting limits negative transfer"] == [
        *("ppar - progressive", "+3.00, +1.00", "+2.00 ± 1.41", "2 of 2"),
    ]
    assert not any("naive" in claim for claim in claims)


def test_the_summary_holds_the_same_figures_and_the_chart_is_a_picture(demo, tmp_path):
    main(["report", str(demo), "--output", str(tmp_path / "out")])
    assert not (demo / "results.md").exists()
    with (tmp_path / "out" / "summary.csv").open() as file:
        lines = {(line["row"], line["domain"]): line for line in csv.DictReader(file)}
    ppar = lines["ppar", UNSEEN]
    assert [ppar[name] for name in ("setting", "n", "mean", "deviation")] == ["demo", "3", "18.6667", "2.5166"]
    assert [ppar[name] for name in ("paired_n", "difference", "wins")] == ["3", "2.6667", "2"]
    assert [lines["otp", "fog"][name] for name in ("deviation", "difference_deviation")] == ["", ""]
    assert lines["source_only", "fog"]["wins"] == ""
    assert "](results.png)" in (tmp_path / "out" / "results.md").read_text()
    assert cv2.imread(str(tmp_path / "out" / "results.png")).std() > 10


def test_the_report_is_written_again_from_its_csv(demo, tmp_path):
    main(["report", str(demo)])
    copy = shutil.copy(demo / "results.csv", tmp_path / "results.csv")
    main(["report", str(copy)])
    for name in ("results.md", "results.csv", "summary.csv"):
        assert (tmp_path / name).read_bytes() == (demo / name).read_bytes(), name


def test_the_documentation_is_what_the_report_writes(tmp_path):
    main(["report", str(DOCS / "results.csv"), "--output", str(tmp_path)])
    for name in ("results.md", "results.csv", "summary.csv"):
        assert (tmp_path / name).read_text() == (DOCS / name).read_text(), f"run `ppar report docs/results.csv`: {name}"


def test_time_adds_up_over_sessions_and_memory_is_the_largest(demo):
    shutil.rmtree(demo / "otp")
    other = SESSION | {"seconds": 120.0, "peak_memory": 2.5, "git": None}
    write_run(demo / "otp" / "0", SCORES["otp"][0], sessions=[SESSION, other])
    write_run(demo / "otp" / "1", SCORES["otp"][0])
    main(["report", str(demo)])
    text = (demo / "results.md").read_text()
    # (60 + 120) s and 60 s; 2.5 and 1.5 GiB
    assert table_rows(text, "### Cost")["otp"] == ["2 CPU cores (x86_64)", "0123456789; not stated", "2.0", "2.00"]
    assert "Versions: python 3.12.0, torch 2.13.0." in text


def test_runs_without_a_manifest_have_no_cost(demo):
    for path in demo.glob("ppar/*/manifest.json"):
        path.unlink()
    main(["report", str(demo)])
    assert table_rows((demo / "results.md").read_text(), "### Cost")["ppar"] == ["not stated", "not stated", "-", "-"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "rein"}, "scored on fog with protocol '.*' and '.*'"),
        ({"images": 7}, "scored on fog with images .* and .*"),
        ({"miou_16": 0.1}, "scored on fog with means '.*' and '.*'"),
        (None, "scored on the domains with domains '.*' and '.*'"),
    ],
)
def test_runs_that_were_scored_differently_are_refused(demo, capsys, change, message):
    path = demo / "ppar" / "1" / "test.json"
    test = json.loads(path.read_text())
    test["domains"]["fog"] = (test["domains"].pop("fog") | change) if change else test["domains"].pop("night")
    if change is None:
        test["domains"]["snow"] = test["domains"].pop("fog")
    path.write_text(json.dumps(test))
    with pytest.raises(SystemExit, match="1"):
        main(["report", str(demo)])
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "demo/ppar/1" in error
    assert "do not belong in one column" in error
    assert not (demo / "results.md").exists()


def test_settings_of_different_protocols_have_sections_of_their_own(demo, tmp_path):
    write_run(tmp_path / "other" / "ppar" / "0", (0.5, 0.1, 0.1), protocol="rein")
    main(["report", str(demo), str(tmp_path / "other"), "--output", str(tmp_path)])
    first, second = (tmp_path / "results.md").read_text().split("## other\n")
    assert "| fog | unseen | full | 60 |" in first
    assert "| fog | unseen | rein | 60 |" in second
    assert "Difference" not in second  # there is no baseline


def test_selection_on_targets_is_said(demo):
    path = demo / "ppar" / "1" / "test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_selection": ["val/fog/miou"]}))
    main(["report", str(demo)])
    text = (demo / "results.md").read_text()
    assert "selected on unseen domains, so scores are biased:** ppar/1 (val/fog/miou)" in text


def test_unfinished_runs_are_left_out_and_named(demo, capsys):
    write_run(demo / "naive" / "0", (0.5, 0.1, 0.1), finished=False)
    (demo / "ppar" / "2" / "test.json").unlink()
    write_run(demo / "replaced" / "ppar" / "0-1", (0.9, 0.9, 0.9))
    main(["report", str(demo)])
    printed = capsys.readouterr().out
    assert f"{demo / 'naive' / '0'} is left out" in printed
    assert f"{demo / 'ppar' / '2'} is left out" in printed
    scores = table_rows((demo / "results.md").read_text(), "### mIoU")
    assert "naive" not in scores
    assert scores["ppar"][0] == "2"


@pytest.mark.remedy("report/seed_table.py::read_results")
@pytest.mark.remedy("report/seed_table.py::read_results")
@pytest.mark.remedy("report/seed_table.py::_read_folder")
@pytest.mark.remedy("report/seed_table.py::_read_folder")
@pytest.mark.remedy("report/seed_table.py::SeedTable.__init__")
def test_errors_name_the_remedy(demo, tmp_path, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    main(["report", str(demo)])
    first = write_run(tmp_path / "named" / "ppar" / "first", (0.5, 0.1, 0.1))
    out = ["--output", str(tmp_path / "out")]

    def refused(*sources: Path) -> str:
        with pytest.raises(SystemExit, match="1"):
            main(["report", *map(str, sources), *out])
        return capsys.readouterr().err

    name = "name the folder of a setting that `ppar reproduce` has written"
    assert f"nothing: no tested run in ROW/SEED: {name}" in refused(tmp_path / "nothing")
    main(["report", str(demo), *out])
    assert "none.csv not found: give a results.csv of `ppar report`, or the" in refused(tmp_path / "none.csv")
    assert "other.csv has no column setting, row, " in (said := refused(tmp_path / "other.csv"))
    assert "give a results.csv of `ppar report`" in said
    main(["report", str(demo / "results.csv"), *out])
    assert "is given twice: report a folder or its CSV, not both" in refused(demo, demo / "results.csv")
    main(["report", str(demo), *out])
    (seed,) = re.findall("must have its seed as its name: rename it to (.*)", refused(tmp_path / "named"))
    first.rename(first.with_name(seed))
    main(["report", str(tmp_path / "named"), *out])


def test_a_copy_of_a_run_is_no_further_seed(demo, capsys):
    shutil.copytree(demo / "ppar" / "0", demo / "ppar" / "7")
    with pytest.raises(SystemExit, match="1"):
        main(["report", str(demo)])
    assert "ppar/7: the folder of a run must have its seed as its name: rename it to 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "about",
    [
        {"checkpoint": "checkpoints/step=100.ckpt", "started": "2026-01-02T00:00:00+00:00"},
        {"checkpoint": "checkpoints/last.ckpt", "started": "2025-12-31T00:00:00+00:00"},
    ],
)
def test_scores_of_another_checkpoint_are_left_out(demo, capsys, about):
    path = demo / "ppar" / "2" / "test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    main(["report", str(demo)])
    assert f"{demo / 'ppar' / '2'} is left out: its last checkpoint is not tested" in capsys.readouterr().out
    assert table_rows((demo / "results.md").read_text(), "### mIoU")["ppar"][0] == "2"
    assert "The scores are not those of last.ckpt as it is now." in read_test(path.parent).notes


def test_a_test_that_was_made_while_training_went_on_is_outdated():
    session = {"started": "2026-01-01T23:59:30+00:00", "seconds": 60.9}
    run = TestedRun({}, {}, [], [], "", "", {"sessions": [session], "finished": True})
    times = {"2026-01-01T23:59:50+00:00": True, "2026-01-02T00:00:29+00:00": True, "2026-01-02T00:00:30+00:00": False}
    assert {time: replace(run, started=time).outdated for time in times} == times
    assert not replace(run, started=min(times), manifest={"sessions": [{}], "finished": True}).outdated


@pytest.mark.parametrize("text", ['{"domains": []}', "[]", "{"])
def test_a_damaged_test_is_kept_beside_the_next_one(tmp_path, text):
    (tmp_path / "test.json").write_text(text)
    assert keep_earlier(tmp_path, {"domains": {"fog": {}}}) == tmp_path / "test.1.json"
    assert (tmp_path / "test.1.json").read_text() == text


def test_a_score_that_is_missing_is_never_left_out_of_a_mean(demo, capsys):
    path = demo / "otp" / "0" / "test.json"
    test = json.loads(path.read_text())
    test["domains"]["fog"]["miou"] = None
    path.write_text(json.dumps(test))
    assert math.isnan(read_test(path.parent).unseen_means["miou"])  # not that of night alone
    with pytest.raises(SystemExit, match="1"):
        main(["report", str(demo)])
    assert "were scored on fog with means '' and 'miou': such numbers do not belong in one" in capsys.readouterr().err


def test_runs_that_differ_from_their_setting_are_named(demo, tmp_path):
    main(["report", str(demo)])
    as_planned = (demo / "results.md").read_text()
    for path in demo.glob("ppar/*/manifest.json"):
        changed = {"trainer.max_steps": [300, 8], "data.batch_size": [8, 4]}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"overrides": changed}))
    main(["report", str(demo)])
    text = (demo / "results.md").read_text()
    mark = (
        "**Not the scores of the setting and its protocols, trained with 8 of 300 steps, data.batch_size 4 instead of 8"
    )
    assert f"\n{mark}:** ppar/0, ppar/1, ppar/2.\n" in text
    assert text.replace(f"\n{mark}:** ppar/0, ppar/1, ppar/2.\n", "") == as_planned


def lines(setting: str, row: str, values: dict[int, dict[str, float]], protocol: str = "full", **means) -> pd.DataFrame:
    """Lines of ``results.csv``: seed -> domain -> mIoU; all domains but ``gta`` are unseen."""
    about = {"setting": setting, "row": row, "protocol": protocol, "images": 5, "images_of": 5}
    about |= {"selected_on": "", "departures": ""}
    cost = {"seconds": 60.0, "peak_memory": 1.0, **dict.fromkeys(("hardware", "revision", "versions"), "not stated")}
    return pd.DataFrame(
        {
            **about,
            **cost,
            "seed": seed,
            "domain": domain,
            "unseen": int(domain != "gta"),
            "miou": miou,
            **means,
        }
        for seed, domains in values.items()
        for domain, miou in domains.items()
    )


def test_statistics_over_seeds_by_hand():
    rows = {"source_only": {1: 0.1, 5: 0.9}, "ppar": {0: 0.1, 1: 0.3, 2: -0.1}}
    parts = [lines("demo", row, {seed: {"fog": v} for seed, v in values.items()}) for row, values in rows.items()]
    seeds = SeedTable(pd.concat(parts))
    own = seeds.summary().loc["ppar", "fog"]
    assert own[["n", "mean", "deviation"]].tolist() == pytest.approx([3, 10, 20])
    assert own[["paired_n", "difference", "wins"]].tolist() == pytest.approx([1, 20, 1])
    assert pd.isna(own["difference_deviation"])
    assert seeds.gains().index.tolist() == [("ppar", 1)]


def test_rows_have_one_order():
    assert in_order(["zebra", "style", "ppar", "apple", "source_only"]) == [
        *("source_only", "ppar", "style", "apple", "zebra"),
    ]
    overlays = {path.stem for path in (DOCS.parent / "configs" / "ablations").glob("*.yaml")}
    assert overlays <= set(ROWS)


def test_other_means_have_tables_of_their_own_and_survive_the_csv(tmp_path):
    results = lines("synthia", "ppar", {seed: {"cityscapes": 0.3} for seed in (0, 1)}, miou_16=0.4)
    results.to_csv(tmp_path / "results.csv", index=False)
    main(["report", str(tmp_path / "results.csv")])
    again = read_results(tmp_path / "results.csv")
    assert again[["miou", "miou_16"]].to_numpy().tolist() == [[0.3, 0.4]] * 2
    text = (tmp_path / "results.md").read_text()
    assert table_rows(text, "### mIoU over 16 classes")["ppar"] == ["2", "40.0 ± 0.0", "40.0 ± 0.0"]


def gta(protocol: str) -> pd.DataFrame:
    domains = dict.fromkeys(("gta", "cityscapes", "bdd100k", "mapillary", "synthia"), 0.3)
    return lines("gta", "ppar", {0: domains, 1: domains}, protocol)


def test_published_averages_agree_with_their_numbers_and_name_their_test_and_source():
    path = Path(seed_report.__file__).with_name("published.yaml")
    protocols = yaml.safe_load(path.read_text())["gta"]["protocols"]
    rows = [row for own in protocols.values() for row in own]
    known = [row for row in rows if None not in row]
    assert len(known) > 20
    assert all(abs(sum(row[2:5]) / 3 - row[5]) < 0.07 for row in known)  # rounded to one digit or two
    assert all(len(row) == 10 and all(isinstance(cell, str) and cell for cell in row[6:]) for row in rows)
    assert {*protocols} - {*PROTOCOLS} == {
        "rein, as inferred",
        "dgvfm, refined from 1024x512 to full size",
        "not stated",
    }
    (ppar,) = (row for row in rows if row[0] == "PPAR")
    assert ppar == ["PPAR", "not at hand", None, None, None, None, "?", "?", "?", "not at hand"]


def published(results: pd.DataFrame, folder: Path) -> tuple[str, dict[str, str]]:
    """What is said of the runs, and the table of each protocol."""
    results.to_csv(folder / "results.csv", index=False)
    main(["report", str(folder / "results.csv")])
    said, *tables = (folder / "results.md").read_text().partition("### Published")[2].split("\nProtocol ")
    return said, dict(text.split(":\n", 1) for text in tables)


def test_a_run_stands_beside_published_rows_of_its_own_protocol_alone(tmp_path, capsys):
    said, tables = published(gta("robustnet_exact"), tmp_path)
    assert "the runs above stand in that of protocol robustnet_exact." in said
    row = "| ISW (RobustNet) | ResNet-101 | 37.09 | 35.37 | 38.50 | 37.0 | 2048x1024 | no | 40k x 16 | README |"
    assert row in tables["robustnet_exact"]
    assert "| `ppar`, above | - | 30.0 | 30.0 | 30.0 | 30.0 | - | - | - | this report |" in tables["robustnet_exact"]
    assert [name for name, text in tables.items() if "above" in text] == ["robustnet_exact"]
    assert "| PPAR | not at hand | - | - | - | - | ? | ? | ? | not at hand |" in tables["not stated"]


def test_the_table_says_why_a_run_stands_beside_no_published_row(tmp_path, capsys):
    mixed = gta("rein")
    mixed.loc[mixed["domain"] == "bdd100k", "protocol"] = "rein, scales 0.5 1, flipped"
    part, fewer = gta("rein").assign(departures="scored on a part"), gta("rein")
    said = {
        "no row of protocol rein, scales 0.5 1, flipped is known": gta("rein, scales 0.5 1, flipped"),
        "mapillary by rein, rein, scales 0.5 1, flipped": mixed,
        "mapillary by not at all, rein": fewer[fewer["domain"] != "mapillary"],
        "they are not the scores of the setting, see above": part,
    }
    for why, results in said.items():
        text, tables = published(results, tmp_path)
        assert "the runs above stand in none of them: " in text
        assert why in text
        assert not any("above" in table for table in tables.values())
    two = pd.concat(
        [gta("rein"), lines("gta", "ppar", {seed: {"synthia_train": 0.3} for seed in (0, 1)}, "rein").assign(unseen=0)]
    )
    assert published(two, tmp_path)[1] == {}  # trained on other sources


def test_reading_a_folder_keeps_the_order_of_the_test(demo, capsys):
    results = read_results(demo)
    assert len(results.drop_duplicates(["row", "seed"])) == 9
    assert capsys.readouterr().out == ""  # none is left out
    assert results["domain"].tolist()[:3] == ["game", "fog", "night"]


def test_the_door_of_the_report_loads_nothing_heavy():
    heavy = {"matplotlib", "scipy", "pandas", "wandb", "jinja2", "torch", "lightning"}
    code = f"import sys, ppar_lightning.report.arguments; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
