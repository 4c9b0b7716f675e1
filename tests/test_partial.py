"""Scores of a part of the images, and of trainings shorter than their setting, say so wherever they are shown."""

import json
import os
import re
import shlex
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from test_cli import CONFIG, SMALL, evaluate, fit, rows
from test_evaluation_ranks import ByColour
from test_report import table_rows
from torch.utils.data import DataLoader

from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.cli import main
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.reproduce import Planned
from ppar_lightning.runs.changed_options import carried, described, overrides
from ppar_lightning.runs.run_folder import read_config
from ppar_lightning.runs.training_summary import describe_run
from ppar_lightning.segmenter.segmenter import Segmenter

GIVEN = ("--data.classes", "cityscapes19")
ONE = ("--trainer.limit_test_batches", "1", "--data.eval_batch_size", "1")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two of the demo's 300 steps, in the folder of a setting; its domains are limited to 8 and 2 of 60 images."""
    os.environ["PPAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return fit(tmp_path_factory.mktemp("partial") / "demo" / "ppar" / "0", "--trainer.max_steps", "2", *GIVEN)


def copied(run: Path, place: Path) -> Path:
    """The run in the folder of another setting."""
    return shutil.copytree(run, place / "demo" / "ppar" / "0")


@pytest.fixture(scope="module")
def part(run, tmp_path_factory) -> Path:
    """The run, tested on one image of each domain."""
    folder = copied(run, tmp_path_factory.mktemp("part"))
    with (folder / "printed.txt").open("w") as file, redirect_stdout(file):
        evaluate(folder, *ONE)
    return folder


def state(folder: Path) -> str:
    return Planned(folder, [], read_config(folder)).state


def complaint(capsys, *words: str) -> str:
    """The one line with which a command ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(list(words))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ppar: error")]
    return line


def command(line: str) -> list[str]:
    """The command that an error names."""
    (quoted,) = re.findall("`ppar ([^`]*)`", line)
    return shlex.split(quoted)


def test_a_training_records_what_the_command_line_changes_in_its_setting(run):
    changed = json.loads((run / "manifest.json").read_text())["overrides"]
    assert changed["trainer.max_steps"] == [300, 2]
    assert changed["data.crop"] == [[128, 256], [64, 128]]
    assert changed["data.sources.game.limit"] == [None, 8]
    assert not {"data.workers", "trainer.log_every_n_steps", "trainer.default_root_dir", "seed_everything"} & set(
        changed
    )
    assert "Trained with 2 of 300 steps, data.sources.game.limit 8 instead of None" in describe_run(run)


def test_overrides_are_those_of_the_first_setting_whatever_a_run_continues_with():
    setting = [
        {"trainer": {"max_steps": -1}, "model": {"optimizer": {"init_args": {"lr": 0.1}}}, "data": {"crop": [9, 9]}}
    ]
    setting += [{"trainer": {"max_steps": 300}, "data": {"sources": {"gta": {"root": "a"}}}}]
    config = {
        "trainer": {"max_steps": 8, "devices": 1},
        "model": {"optimizer": {"init_args": {"lr": 0.2}}},
        "data": {"crop": [9, 9], "sources": {"gta": {"root": "b"}}},
    }
    named = {"trainer.max_steps", "model.optimizer.lr", "data.crop", "data.sources"}
    first = overrides(setting, named, config)
    assert first == {"trainer.max_steps": [300, 8], "model.optimizer.init_args.lr": [0.1, 0.2]}
    assert overrides(setting, {*named, "model.optimizer.init_args.lr"} - {"model.optimizer.lr"}, config) == first
    assert described(first) == "8 of 300 steps, model.optimizer.init_args.lr 0.2 instead of 0.1"
    config["trainer"]["max_steps"] = 16
    later = carried(first, overrides([config | {"trainer": {"max_steps": 8}}], named, config), config)
    assert described(later) == "16 of 300 steps, model.optimizer.init_args.lr 0.2 instead of 0.1"
    config["trainer"]["max_steps"] = 600
    assert described(carried(later, {}, config)).startswith("trainer.max_steps 600 instead of 300")
    config["trainer"]["max_steps"] = 300
    assert "steps" not in described(carried(later, {}, config))


def test_of_domains_that_are_replaced_the_names_are_given():
    camvid, gta = ({"root": name, "options": {}} for name in ("a", "b"))
    setting = [{"data": {"sources": {"camvid": camvid, "urbansyn": {"limit": 8}}}}]
    config = {"data": {"sources": {"gta": gta | {"limit": 2}, "camvid": camvid | {"limit": 4}}, "unseen": {}}}
    found = overrides(setting, {"data.sources", "data.unseen"}, config)
    line = "data.sources.camvid.limit 4 instead of None, data.sources camvid, gta instead of camvid, urbansyn"
    assert described(found) == described(carried(found, {}, config)) == line


def test_a_test_of_a_part_is_marked_and_counts_as_none(part):
    record, printed = json.loads((part / "test.json").read_text()), (part / "printed.txt").read_text()
    assert [record["domains"]["fog"][key] for key in ("images", "images_of")] == [1, 60]
    assert "trainer.limit_test_batches: None in training, 1 now" in record["changes"]
    assert re.search(r"fog +│ unseen │ full +│ +1 of 60 │", printed)
    assert re.search(r"unseen \(mean\) │ +│ +│ +of parts │", printed)
    assert "Scored on a part of the images (game 1 of 60, fog 1 of 60, " in " ".join(printed.split())
    assert "Trained with 2 of 300 steps, " in printed
    assert [rows(part / "test.csv")[1][key] for key in ("domain", "images", "images_of")] == ["fog", "1", "60"]
    with np.load(part / "confusion.npz") as counts:
        assert counts["fog"].sum() == 128 * 256  # the pixels of one image
    assert state(part) == "untested"
    card = describe_run(part)
    assert "| fog | unseen | full | 1 of 60 |" in card
    assert "| unseen (mean) |  |  | of parts |" in card
    assert "Scored on a part of the images (game 1 of 60" in card
    assert "Tested with other options (trainer.limit_test_batches: None in training, 1 now; " in card


def test_the_table_over_seeds_names_parts_and_short_runs(part, tmp_path):
    main(["report", str(part.parents[1]), "--output", str(tmp_path)])
    text = (tmp_path / "results.md").read_text()
    assert table_rows(text, "## demo")["fog"] == ["unseen", "full", "1 of 60"]
    (mark,) = re.findall(r"\*\*Not the scores of the setting and its protocols, (.*):\*\* (.*)\.", text)
    assert mark[0].startswith("trained with 2 of 300 steps, ")
    assert "fog 1 of 60" in mark[0]
    assert mark[1] == "ppar/0"
    main(["report", str(tmp_path / "results.csv")])
    assert (tmp_path / "results.md").read_text() == text


@pytest.mark.slow
def test_the_page_names_parts_and_short_runs(part, tmp_path):
    main(["report", "--html", str(part), "--images", "0", "--output", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert '<td class="number">1 of 60</td>' in page
    assert "Confusion on fog (unseen, protocol full, 1 of 60 images)" in page
    assert "<strong>Trained with 2 of 300 steps" in page


@pytest.mark.slow
@pytest.mark.remedy("report/seed_table.py::check_comparable")
@pytest.mark.remedy("runs/tested_run.py::read_test")
@pytest.mark.remedy("runs/tested_run.py::read_test")
def test_a_part_is_not_compared_with_more_of_the_images(run, part, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    less, more = shutil.copytree(part, tmp_path / "less"), copied(run, tmp_path / "more")
    line = complaint(capsys, "report", str(less), str(more))
    assert f"{more}/test.json not found: run `ppar test" in line
    main(command(line))
    table = capsys.readouterr().out
    line = complaint(capsys, "report", str(less), str(more))
    assert "were scored on game with images '1 of 60' and '8 of 60'" in line
    assert "test the runs again in the same way" in line
    (less / "test.json").write_text("[]")
    line = complaint(capsys, "report", str(less), str(more))
    assert "test.json is not what `ppar test` writes" in line
    main(command(line.rpartition(": ")[2]))
    assert state(less) == "done"  # a part, as the run's own config says
    main(["report", str(less), str(more)])
    assert "less: Scored on a part of the images (game 8 of 60" in capsys.readouterr().out
    main(["validate", "--config", str(more / "config.yaml")])
    printed = capsys.readouterr().out
    source = r"game +│ source │ full +│ +8 of 60 │ +([0-9.]+) │"
    assert len(re.findall(source, printed)) == 1
    assert re.findall(source, printed) == re.findall(source, table)
    assert "unseen" not in printed
    assert "fog" not in printed


@pytest.mark.remedy("module.py::PPARModule.on_load_checkpoint")
def test_a_training_is_not_continued_with_other_classes(run, tmp_path, capsys):
    words = ["fit", "--config", CONFIG, "--trainer.default_root_dir", str(tmp_path / "run"), *SMALL]
    words += ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    line = complaint(capsys, *words, "--data.classes", "[road, sky]")
    assert "trained on 19 classes (road, sidewalk, building, ...), not on those of data.classes: give its list" in line
    main([*words, "--data.classes", "cityscapes19"])
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def quiet_trainer(**options) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(accelerator="cpu", **quiet | {"max_steps": 1} | options)


@pytest.mark.remedy("data/scored_classes.py::scored_as")
def test_segmenter_and_data_must_have_the_same_classes_to_train():
    def build() -> PPARModule:
        segmenter = Segmenter("resnet_small", "fpn", classes=["road", "sky"], pretrained=False, decoder_channels=8)
        return PPARModule(segmenter, PPAROptions(enabled=False))

    game = Domain(options={"size": [32, 64], "length": 2})
    data = DomainDataModule({"game": game}, crop=(32, 32), batch_size=1, workers=0)
    line = r"predicts 2 classes \(road, ...\), but data.classes are 19 \(road, ...\): give Segmenter and data.classes"
    with pytest.raises(ValueError, match=line):
        quiet_trainer().fit(build(), datamodule=data)
    both = DomainDataModule({"game": game}, classes=["road", "sky"], crop=(32, 32), batch_size=1, workers=0)
    quiet_trainer(limit_val_batches=0).fit(build(), datamodule=both)
    sample = {"image": torch.rand(3, 32, 32), "label": torch.randint(0, 2, (32, 32))}
    trainer = quiet_trainer()
    trainer.fit(build(), DataLoader([sample] * 2, batch_size=2))
    assert trainer.global_step == 1


@pytest.mark.remedy("callbacks/scores.py::DomainScores.setup")
def test_a_validation_of_a_part_counts_its_images_and_one_of_nothing_is_refused():
    game = Domain(options={"size": [32, 64], "length": 5})
    data = DomainDataModule({"game": game}, crop=(16, 16), batch_size=1, workers=0)
    scores = DomainScores()
    options = {"callbacks": [scores], "max_steps": 2, "max_epochs": 2, "limit_train_batches": 1}
    trainer = quiet_trainer(limit_val_batches=2, **options)
    trainer.fit(ByColour(), datamodule=data)
    assert scores.scores["game"].counted == "2 of 5"
    assert trainer.callback_metrics["val/game/miou"] == pytest.approx(scores.scores["game"].means["miou"])
    with pytest.raises(ValueError, match="trainer.limit_val_batches is 0, .*: give 1.0 to score all images"):
        quiet_trainer(limit_val_batches=0, **options).validate(ByColour(), datamodule=data)
    quiet_trainer(limit_val_batches=1.0, **options).validate(ByColour(), datamodule=data)
    assert scores.scores["game"].counted == "5"
