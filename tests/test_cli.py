"""The main job through the real command line, on a small version of the demo."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
import wandb
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trees import write_image

from ppar_lightning.callbacks import CONFIGURED
from ppar_lightning.callbacks.finite_guard import FiniteGuard
from ppar_lightning.callbacks.last_checkpoint import LastCheckpoint
from ppar_lightning.cli import main, resolve, training
from ppar_lightning.data.domain import Domain
from ppar_lightning.images.classes import CITYSCAPES, class_list

UNSEEN = ("fog", "night", "rain", "snow", "city")
CONFIG = str(Path(__file__).parents[1] / "configs" / "demo.yaml")
SMALL = [
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.max_steps", "4", "--trainer.log_every_n_steps", "1"),
    *("--data.sources.game.limit", "8", "--data.batch_size", "2", "--data.crop", "[64, 128]", "--data.workers", "0"),
    *(word for name in UNSEEN for word in (f"--data.unseen.{name}.limit", "2")),
]


def fit(folder: Path, *words: str) -> Path:
    """Train a small demo into a folder."""
    main(["fit", "--config", CONFIG, "--trainer.default_root_dir", str(folder), *SMALL, *words])
    return folder


def evaluate(folder: Path, *words: str) -> dict:
    """Test a run from its own config and return its figures."""
    main(["test", "--config", str(folder / "config.yaml"), *words])
    return json.loads((folder / "test.json").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    os.environ["PPAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return fit(tmp_path_factory.mktemp("runs") / "demo")


def test_fit_leaves_a_run_folder(run):
    assert {path.name for path in run.iterdir()} >= {"config.yaml", "checkpoints", "curves", "pictures"}
    state = weights(run)
    assert {"objective.prototypes.otp", "objective.prototypes.bank", "objective.visual_bank.bank"} <= set(state)
    assert not any("clip" in name for name in state)
    assert json.loads((run / "manifest.json").read_text())["sessions"][-1]["clip_tower"] == "eager"
    assert cv2.imread(str(run / "pictures" / "val.png")) is not None


def test_fit_logs_every_term_by_name_and_only_the_source(run):
    logged = rows(run / "curves" / "fit" / "version_0" / "metrics.csv")
    names = {name for row in logged for name, value in row.items() if value}
    terms = {f"train/loss/{term}" for term in ("ce", "align", "vtp", "anchor")}
    state = {"train/rho", "train/eta", "train/weight/spread", "train/distance/otp", "train/distance/vtp"}
    assert terms | state | {"train/loss", "prototypes/vtp_otp/mean", "prototypes/vtp_otp/road"} <= names
    assert {"val/game/miou", "val/game/iou/road"} <= names
    assert not any(f"/{name}/" in column for column in names for name in (*UNSEEN, "unseen"))
    steps = [row for row in logged if row["train/loss"]]
    for row in steps:
        total = sum(float(row[name]) for name in terms)
        assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)
    assert len(steps) == 4


def test_rates_and_prototypes_are_logged_when_the_trainer_logs(tmp_path):
    """Also where an epoch, of 4 batches here, is shorter than the interval."""
    five = ("--trainer.max_steps", "5", "--trainer.log_every_n_steps", "5")
    folder = fit(tmp_path / "run", "--model.segmenter.freeze_stages", "0", *five)
    (row,) = [row for row in rows(folder / "curves" / "fit" / "version_0" / "metrics.csv") if row["train/loss"]]
    assert row["step"] == "4"
    assert -1 <= float(row["prototypes/vtp_otp/mean"]) <= 1
    config = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    factor = (1 - 4 / 5) ** config["power"] * min(1, 5 / max(1, config["warmup_steps"]))
    assert float(row["lr/head"]) == pytest.approx(factor * config["optimizer"]["init_args"]["lr"])
    assert float(row["lr/backbone"]) == pytest.approx(float(row["lr/head"]) * config["backbone_lr"])


def test_test_scores_source_and_unseen_domains_by_name(run, capsys):
    record = evaluate(run)
    table = capsys.readouterr().out
    assert list(record["domains"]) == ["game", *UNSEEN]
    assert [record["domains"][name]["images"] for name in ("game", *UNSEEN)] == [8, 2, 2, 2, 2, 2]
    unseen = [record["domains"][name]["miou"] for name in UNSEEN]
    assert record["unseen_miou"] == pytest.approx(sum(unseen) / 5)
    for name in ("game", *UNSEEN):
        domain = record["domains"][name]
        assert domain["unseen"] == (name in UNSEEN)
        known = [value for value in domain["iou"].values() if value is not None]
        assert domain["miou"] == pytest.approx(sum(known) / len(known))
        assert f"{100 * domain['miou']:.1f}" in table
    assert all(label in table for label in CITYSCAPES)
    by_domain = {row["domain"]: row for row in rows(run / "test.csv")}
    assert float(by_domain["fog"]["miou"]) == pytest.approx(record["domains"]["fog"]["miou"], abs=1e-6)
    logged = rows(run / "curves" / "test" / "version_0" / "metrics.csv")[-1]
    assert float(logged["test/fog/miou"]) == pytest.approx(record["domains"]["fog"]["miou"], rel=1e-4)
    assert float(logged["test/unseen/miou"]) == pytest.approx(record["unseen_miou"], rel=1e-4)
    assert {"test/fog/iou/road", "test/game/miou"} <= set(logged)
    assert cv2.imread(str(run / "pictures" / "test.png")).shape[1] > 3 * 256


@pytest.mark.slow
def test_the_record_says_what_was_trained_on_what_and_the_test_what_differs(run, capsys):
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["seed"] == 0
    assert {split: each["images"] for split, each in manifest["data"].items()} == {"game/train": 8, "game/eval": 8}
    assert manifest["protocol"]["fog"] == "full"
    assert manifest["target_selection"] == []
    assert set(manifest["sessions"][0]) >= {
        "started",
        "seconds",
        "peak_memory",
        "hardware",
        "versions",
        "git",
        "config",
    }
    capsys.readouterr()
    evaluate(run, "--data.sources.game.limit", "2")
    assert "Differs: images of game/eval: 8 in training, 2 now.\n" in capsys.readouterr().out
    evaluate(run, "--data.protocol", "rein", "--data.workers", "1", "--data.unseen.fog.limit", "1")
    said = capsys.readouterr().out
    (options,) = re.findall(r"Tested with other options \((.*?)\)\.", " ".join(said.split()))
    assert {*options.split("; ")} == {
        "data.protocol: full in training, rein now",
        "data.unseen.fog.limit: 2 in training, 1 now",
    }
    assert "Differs: images of fog/eval: 2 in the previous test, 1 now.\n" in said
    assert "workers" not in said
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("width: 256", "width: 128"))
    capsys.readouterr()
    evaluate(run)
    assert f"Differs: config: {manifest['sessions'][0]['config']} in training, " in capsys.readouterr().out
    (run / "config.yaml").write_text(config)
    figures = evaluate(run)
    assert "Differs" not in capsys.readouterr().out
    assert set(figures["data"]) == {f"{name}/eval" for name in ("game", *UNSEEN)}
    assert figures["versions"]["torch"] == torch.__version__


def test_the_test_runs_the_plain_segmenter_of_the_last_checkpoint(run, monkeypatch):
    plain = evaluate(run)
    monkeypatch.setattr("ppar_lightning.module.PPAR", None)
    assert evaluate(run, "--ckpt_path", str(run / "checkpoints" / "last.ckpt"))["domains"] == plain["domains"]


@pytest.mark.slow
def test_the_text_logit_ensemble_is_an_option(run):
    assert evaluate(run, "--model.ppar.ensemble", "1.0") != evaluate(run)


def test_the_baseline_starts_from_the_same_weights_and_sees_the_same_crops(run, tmp_path):
    baseline = fit(tmp_path / "baseline", "--model.ppar.enabled", "false")
    first = [rows(folder / "curves" / "fit" / "version_0" / "metrics.csv")[0] for folder in (run, baseline)]
    assert first[0]["train/loss/ce"] == first[1]["train/loss/ce"]
    assert float(first[1]["train/loss"]) == float(first[1]["train/loss/ce"])
    assert not any(name.startswith("objective") for name in weights(baseline))


@pytest.mark.slow
def test_eta_zero_and_no_alignment_train_the_very_baseline(tmp_path):
    off = ("--model.ppar.eta", "0", "--model.ppar.align_segmenter", "false")
    folders = [fit(tmp_path / "off", *off), fit(tmp_path / "baseline", "--model.ppar.enabled", "false")]
    ours, baseline = (weights(folder) for folder in folders)
    for name, tensor in baseline.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [[], ["--model.ema", "{decay: 0.9, start: 2}", "--model.layer_decay", "0.9", "--model.weight_decay_end", "0.001"]],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, words):
    # 8 images in batches of 2: step 6 lies in the second epoch, in the ramps of reweighting and of rho
    long = ("--trainer.max_steps", "12", "--trainer.check_val_every_n_epoch", "3", *words)
    whole = fit(tmp_path / "whole", *long, "--checkpoint.every_n_train_steps", "6", "--checkpoint.save_top_k", "-1")
    (halfway,) = whole.glob("checkpoints/*step=6.ckpt")
    resumed = fit(tmp_path / "resumed", *long, "--ckpt_path", str(halfway))
    expected = weights(whole)
    assert not torch.equal(
        expected["segmenter.classifier.weight"], torch.load(halfway)["state_dict"]["segmenter.classifier.weight"]
    )
    for name, tensor in weights(resumed).items():
        assert torch.equal(tensor, expected[name]), name
    trained = [
        torch.load(folder / "checkpoints" / "last.ckpt").get("current_model_state", {}) for folder in (whole, resumed)
    ]
    assert bool(trained[0]) == bool(words)
    assert all(torch.equal(tensor, trained[1][name]) for name, tensor in trained[0].items())
    curves = [rows(folder / "curves" / "fit" / "version_0" / "metrics.csv") for folder in (whole, resumed)]
    losses = [[(row["step"], row["train/loss"]) for row in each if row["train/loss"]] for each in curves]
    assert losses[0][6:] == losses[1]


def test_a_run_is_not_written_over(run, capsys):
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(SystemExit, match="1"):
        fit(run)
    assert "already holds a run: continue it with --ckpt_path last" in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before


SGD = "{class_path: torch.optim.SGD, init_args: {lr: 0.01, momentum: 0.9, weight_decay: 0.0005}}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.optimizer", "torch.optim.AdamW"], {"lr": 0.001, "weight_decay": 0.01}),
        (["--model.optimizer", "AdamW", "--model.optimizer.lr", "0.0001"], {"lr": 0.0001, "weight_decay": 0.01}),
        (["--model.optimizer.lr", "0.0001"], {"lr": 0.0001, "weight_decay": 0.0005, "momentum": 0.9}),
        (["--model.optimizer", "SGD"], {"lr": 0.01, "weight_decay": 0.0005, "momentum": 0.9}),
        (["--model.optimizer.lr", "3", "--model.optimizer", "Adam"], {"lr": 0.001, "weight_decay": 0}),
    ],
)
def test_another_class_takes_no_options_of_the_former(words, expected, capsys, recwarn):
    options = resolve(["--config", "gta", *words])["model"]["optimizer"]["init_args"]
    assert {name: options[name] for name in expected} == expected
    said = [str(each.message) for each in recwarn if "takes none of its options" in str(each.message)]
    dropped = "lr 3.0" if "3" in words else "lr 0.01"
    changed = (words[:1] == ["--model.optimizer"] and "SGD" not in words) or "Adam" in words
    assert len(said) == changed
    assert not said or f"replaces SGD and takes none of its options: {dropped}, momentum 0.9, weight_decay" in said[0]


def test_a_class_in_a_list_and_in_another_config_takes_no_options_of_the_former(tmp_path):
    callback = "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.%s, init_args: {%s}}]}"
    (tmp_path / "a.yaml").write_text(callback % ("EarlyStopping", "monitor: train/loss, mode: max"))
    (tmp_path / "b.yaml").write_text(callback % ("ModelCheckpoint", "monitor: val/game/miou"))
    configs = ["--config", CONFIG, "--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml")]
    with pytest.warns(UserWarning, match="replaces EarlyStopping .*: monitor train/loss, mode max dropped; give those"):
        (found,) = resolve(configs)["trainer"]["callbacks"]
    assert (found["init_args"]["monitor"], found["init_args"]["mode"]) == ("val/game/miou", "min")


def test_the_optimiser_is_built_without_options_of_the_former_and_says_if_a_run_goes_on(tmp_path, capsys):
    words = ("--model.segmenter.backbone", "resnet_small", "--model.segmenter.pretrained", "false")
    words += ("--trainer.max_steps", "1", "--model.ppar.enabled", "false", "--trainer.limit_val_batches", "0")
    with pytest.warns(UserWarning, match="AdamW replaces SGD"):
        folder = fit(tmp_path / "run", *words, "--model.optimizer", SGD, "--model.optimizer", "AdamW")
    (state,) = torch.load(folder / "checkpoints" / "last.ckpt")["optimizer_states"]
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.01}
    again = ["fit", "--config", str(folder / "config.yaml"), "--ckpt_path", "last", "--trainer.max_steps", "2"]
    with pytest.raises(SystemExit):
        main([*again, "--model.optimizer", SGD])
    assert "holds the state of another optimizer than SGD: leave --model.optimizer" in capsys.readouterr().err
    main(again)
    assert torch.load(folder / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_a_run_that_goes_on_with_other_options_says_so(tmp_path, monkeypatch):
    folder = fit(tmp_path / "run", "--trainer.max_steps", "1")
    first = (folder / "config.yaml").read_bytes()
    words = ["fit", "--config", str(folder / "config.yaml"), "--ckpt_path", "last"]
    main([*words, "--trainer.max_steps", "2"])
    assert (folder / "config.1.yaml").read_bytes() == first
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_steps"] == 2
    main(words)  # as it says itself when it is stopped; there is nothing left to do
    assert not (folder / "config.2.yaml").exists()
    sessions = json.loads((folder / "manifest.json").read_text())["sessions"]
    assert [each["config"] == sessions[0]["config"] for each in sessions] == [True, False]


def test_a_run_is_not_gone_on_with_in_the_folder_of_another(run, tmp_path, capsys):
    other = fit(tmp_path / "other", "--trainer.max_steps", "1")
    with pytest.raises(SystemExit, match="1"):
        fit(other, "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--trainer.max_steps", "6")
    assert f"{other} already holds a run: continue it with --ckpt_path last, or give another" in capsys.readouterr().err
    assert torch.load(other / "checkpoints" / "last.ckpt")["global_step"] == 1


@pytest.mark.slow
def test_unseen_domains_can_be_watched(tmp_path):
    folder = fit(tmp_path / "watched", "--data.watch_unseen", "true")
    names = rows(folder / "curves" / "fit" / "version_0" / "metrics.csv")[-1]
    assert {"val/fog/miou", "val/unseen/miou", "val/game/miou"} <= set(names)


def test_a_callback_of_ones_own_joins_those_of_every_run(tmp_path, monkeypatch):
    joined = []
    monkeypatch.setattr(LearningRateMonitor, "on_fit_start", lambda self, trainer, *_: joined.extend(trainer.callbacks))
    fit(
        tmp_path / "run",
        "--trainer.max_steps",
        "1",
        "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor",
    )
    assert {*map(type, joined)} >= {LearningRateMonitor, *CONFIGURED.values(), LastCheckpoint, FiniteGuard}


LOGGERS = "lightning.pytorch.loggers"


def test_a_trial_writes_nothing_into_the_run_folder(run, capsys):
    maps = ["--predictions.folder", str(run.parent / "maps")]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    config = ["--config", str(run / "config.yaml"), "--trainer.fast_dev_run", "true"]
    pictures = ["--data.predict_dir", str(run.parent / "pictures")]
    write_image(run.parent / "pictures" / "a.png")
    for words in (["fit", *config], ["test", *config], ["predict", *config, *pictures, *maps]):
        main(words)
    assert not (run.parent / "maps").exists()
    said = capsys.readouterr().out
    assert "Figures" not in said
    assert "1 map" not in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_config_may_be_yaml_itself_and_last_without_a_checkpoint_begins_anew(tmp_path, monkeypatch):
    noted = {}

    def note(record, checkpoint, changes):
        noted.update(changes=changes)
        raise ValueError("enough")

    monkeypatch.setattr(training, "run_loggers", lambda *given: noted.update(resumed=given[-1]))
    monkeypatch.setattr(training, "Provenance", note)
    words = ["--config", "{trainer: {max_steps: 1}}", *SMALL, "--trainer.max_steps", "2", "--ckpt_path", "last"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", CONFIG, *words, "--trainer.default_root_dir", str(tmp_path)])
    assert noted["changes"]["trainer.max_steps"] == [300, 2]  # in the file and on the command line
    assert noted["resumed"] is False


def test_without_a_logger(tmp_path):
    folder = fit(tmp_path / "run", "--trainer.logger", "false")
    assert not (folder / "curves").exists()
    assert math.isfinite(evaluate(folder)["unseen_miou"])


@pytest.mark.slow
def test_tensorboard(tmp_path):
    folder = tmp_path / "run"
    fit(folder, "--trainer.logger", f"{LOGGERS}.TensorBoardLogger", "--trainer.logger.save_dir", str(folder))
    evaluate(folder)
    assert len(list(folder.rglob("events.out.tfevents.*"))) == 2
    curves = EventAccumulator(str(folder / "lightning_logs" / "version_0")).Reload()
    assert [event.step for event in curves.Scalars("lr/head")] == [0, 1, 2, 3]


@pytest.mark.slow
def test_wandb_without_an_account_runs_offline_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "run"
    logged, cards, curves, log = [], [], [], wandb.Run.log

    def log_artifact(_, artifact):
        logged.append(artifact)
        cards.append(Path(artifact.manifest.entries["README.md"].local_path).read_text())

    monkeypatch.setattr(wandb.Run, "log_artifact", log_artifact)
    monkeypatch.setattr(wandb.Run, "log", lambda run, row, *a, **k: (curves.append(row), log(run, row, *a, **k)))
    words = ["--trainer.logger", f"{LOGGERS}.WandbLogger", "--trainer.logger.save_dir", str(folder)]
    fit(folder, *words, "--trainer.logger.log_model", "true")
    (model,) = logged
    assert model.type == "model"
    assert "## Training" in cards[0]
    assert "not finished" not in cards[0]
    assert set(model.manifest.entries) == {"README.md", "config.json", "model.safetensors"}
    assert [row["trainer/global_step"] for row in curves if "lr/head" in row] == [0, 1, 2, 3]
    assert os.environ["WANDB_MODE"] == "offline"
    assert "W&B: no account on this machine, logging offline" in capsys.readouterr().out
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert list(folder.glob("wandb/offline-run-*/files/media/images/**/*.png"))


def shown(capsys, *words: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--print_config"])
    return capsys.readouterr().out


def test_a_renamed_option_is_accepted_with_a_line_that_names_the_new_one(tmp_path, capsys):
    new = shown(capsys, "fit", "--config", CONFIG, "--prediction_grid.images", "5")
    assert yaml.safe_load(new)["prediction_grid"]["images"] == 5
    old = "pictures: {images: 5}\ndetect_nan: raise\nfinite: {policy: raise}\nmodel: {ppar: {min_stride: 8}}\n"
    (tmp_path / "old.yaml").write_text(old)
    for words in (["--pictures.images", "5"], ["--pictures.images=5"], ["--config", str(tmp_path / "old.yaml")]):
        with pytest.warns(FutureWarning, match="option pictures is now prediction_grid"):
            assert shown(capsys, "fit", "--config", CONFIG, *words, "--detect_nan", "raise") == new


def test_words_of_0_1_0_become_those_of_the_classes(tmp_path, capsys):
    names = ["asphalt", *CITYSCAPES[1:]]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"model": {"ppar": {"class_names": names}}}))
    for words in (["--config", str(tmp_path / "old.yaml")], ["--model.ppar.class_names", str(names)]):
        with pytest.warns(FutureWarning, match="option model.ppar.class_names is dropped: data.classes gives names"):
            config = yaml.safe_load(shown(capsys, "fit", "--config", CONFIG, *words))
        classes = class_list(config["data"]["classes"])
        assert classes.names == CITYSCAPES.names
        assert classes.words == (("asphalt",), *CITYSCAPES.words[1:])
    same = ["--model.ppar.class_names", str([*CITYSCAPES]), "--model.segmenter.num_classes", "19"]
    with pytest.warns(FutureWarning, match="option model.segmenter.num_classes is dropped: data.classes gives names"):
        assert yaml.safe_load(shown(capsys, "fit", "--config", CONFIG, *same))["data"]["classes"] == "cityscapes19"


@pytest.mark.remedy("runs/renamed.py::refuse_others")
@pytest.mark.parametrize("form", ["word", "file"])
def test_a_withdrawn_value_is_refused_in_one_line(tmp_path, capsys, form):
    (tmp_path / "old.yaml").write_text("detect_nan: skip\n")
    words = ["--detect_nan=skip"] if form == "word" else ["--config", str(tmp_path / "old.yaml")]
    with pytest.raises(SystemExit, match="1"):
        main(["fit", "--config", CONFIG, *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ppar: error: option detect_nan was withdrawn, and 'skip' is no longer supported: leave the")
    assert "leave the option out" in line
    assert "detect_nan" not in shown(capsys, "fit", "--config", CONFIG)


def test_the_config_of_0_1_0_is_read(capsys):
    old = Path(__file__).parent / "data" / "run_0_1_0" / "run" / "config.yaml"
    with pytest.warns(FutureWarning, match="prediction_grid"):
        assert "prediction_grid" in yaml.safe_load(shown(capsys, "test", "--config", str(old)))


def test_the_help_shows_options_that_exist_with_their_defaults(capsys):
    main(["fit", "--help"])
    page = capsys.readouterr().out
    assert len(page.splitlines()) < 65
    config = yaml.safe_load(shown(capsys, "fit", "--data.sources", "{game: {}}", "--data.unseen", "{fog: {}}"))
    lines = re.findall(r"^  --(\S+) (\S+)", page.partition("Only for predict")[0], flags=re.MULTILINE)
    assert len(lines) >= 24
    for option, text in lines:
        found = config
        for key in option.split("."):
            if key != "NAME" and option != "config":
                found = found[key] if key in found else Domain.__dataclass_fields__[key]
        if text != text.upper() or text[0] in "[-0123456789":
            value = found["class_path"] if isinstance(found, dict) else found
            assert yaml.safe_load(text) == value, option


def test_all_options_and_those_of_a_class_are_shown_on_demand(capsys):
    for words, option in (
        (["--help.all"], "--trainer.profiler"),
        (["--model.optimizer.help", "torch.optim.SGD"], "--model.optimizer.nesterov"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(["fit", *words])
        assert option in capsys.readouterr().out


LOADING = {"torch", "transformers", "scipy", "cv2"}
DOORS = {
    "import ppar_lightning": set(),
    "main(['--help'])": set(),
    "main(['fit', '--help'])": set(),
    "main(['configs'])": set(),
    "main(['reproduce', '--help'])": set(),
    "main(['report', '--help'])": set(),
    "from ppar_lightning import load_segmenter": LOADING,
    "load_segmenter(RUN)": LOADING,
    "main(['export', '--help'])": LOADING,
}
"""What a process imports that opens these doors one after the other."""
HEAVY = ("torch", "transformers", "lightning", "albumentations", "matplotlib", "scipy", "wandb", "pandas", "cv2")


def test_a_door_loads_no_more_than_it_needs(run):
    code = f"import sys\nfrom ppar_lightning.cli import main\nRUN = {str(run)!r}\n"
    for door in DOORS:
        code += f"try: {door}\nexcept SystemExit as end: assert not end.code\n"
        code += (
            f"print('door', {door!r}, *(name for name in {HEAVY} if name in sys.modules), sep='|', file=sys.stderr)\n"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    opened = [line.split("|")[1:] for line in done.stderr.splitlines() if line.startswith("door|")]
    assert {door: set(loaded) for door, *loaded in opened} == DOORS


def test_a_training_door_loads_nothing_that_only_others_need():
    others = {"albumentations", "wandb", "onnx", "onnxscript", "onnxruntime", "tensorboard", "scipy.io"}
    others |= {f"ppar_lightning.{name}" for name in ("report", "export", "reproduce")}
    code = "import sys\nfrom ppar_lightning.cli import main\n"
    for door in ("fit", "test", "predict", "doctor"):
        code += f"try: main([{door!r}, '--config', 'demo', '--print_config'])\n"
        code += "except SystemExit as end: assert not end.code\n"
    code += f"print(sorted({others} & set(sys.modules)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] True"


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given, expected):
    code = (
        "import os, sys; from ppar_lightning.cli import main; assert 'torch' not in sys.modules\n"
        "main(['--help']); print(os.environ['OMP_WAIT_POLICY'], file=sys.stderr)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr.split() == [expected]


@pytest.mark.parametrize("words", [["--config", CONFIG, "fit"], ["fitt"]])
def test_what_is_no_subcommand_is_one_line(capsys, words):
    with pytest.raises(SystemExit, match="1"):
        main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ppar: error: there is no subcommand {words[0]!r}; `ppar --help` lists them, and options")


@pytest.mark.remedy("cli/__init__.py::main")
def test_the_help_lists_the_subcommands_and_options_follow_them(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["fitt"])
    remedy = capsys.readouterr().err
    main(["--help"])
    assert "ppar fit --config CONFIG" in capsys.readouterr().out
    command = re.search("`ppar (fit --config gta)`", remedy)[1].split()
    assert yaml.safe_load(shown(capsys, *command))["data"]["sources"].keys() == {"gta"}


@pytest.mark.remedy("cli/__init__.py::main")
def test_an_interrupted_command_is_one_line_and_may_be_given_again(capsys, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ppar_lightning.shipped_configs.main", interrupt)
        with pytest.raises(SystemExit, match="130"):
            main(["configs"])
    assert capsys.readouterr().err == "ppar: error: interrupted\n"
    main(["configs"])
    assert "demo" in capsys.readouterr().out


def test_a_config_that_is_not_there_is_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--config", "gtaa"])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"ppar: error: .*File does not exist: \S+/gtaa'; `ppar configs` lists those of the package$", line)


def test_words_from_python_are_no_reason_to_warn(capsys, recwarn):
    shown(capsys, "fit", "--config", CONFIG)
    assert not [each for each in recwarn if "args parameter" in str(each.message)]
