"""The baselines through the command line, and as overlays on every setting."""

from pathlib import Path

import pytest
import torch
import yaml
from test_cli import evaluate, fit, rows, weights

from ppar_lightning.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"
SETTINGS = ("demo", "cityscapes_256", "gta")
METHOD = {
    "source_only": {"enabled": False},
    "naive": {"order": "naive", "reweighting": "off"},
    "random": {"order": "otp", "random_text": True, "reweighting": "off"},
    "otp": {"order": "otp", "reweighting": "off"},
    "vtp": {"order": "vtp", "reweighting": "off"},
    "progressive": {"order": "vtp_to_otp", "reweighting": "off"},
    "reversed": {"order": "otp_to_vtp", "reweighting": "off"},
    "reweighting": {"align_segmenter": False},
    "ppar": {},
}
BASELINES = {  # isw, style, PPAR
    "isw": (True, 0.0, False),
    "isw_ppar": (True, 0.0, True),
    "style": (False, 0.8, False),
    "style_ppar": (False, 0.8, True),
}

TRAINING = {
    "ema": ("model", "ema", {"decay": 0.99, "start": 0}),
    "class_uniform": ("data", "sampling", {"kind": "class_uniform"}),
    "rare_class": ("data", "sampling", {"kind": "rare_class"}),
}
"""Overlay -> part of the config, group and options."""


def printed(capsys, *files: str) -> dict:
    """The config that files make together."""
    words = [word for name in files for word in ("--config", str(CONFIGS / f"{name}.yaml"))]
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *words, "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)


def test_every_overlay_is_known_here():
    assert {path.stem for path in (CONFIGS / "ablations").glob("*.yaml")} == {*METHOD, *BASELINES, *TRAINING}


@pytest.mark.parametrize("row", METHOD)
def test_an_overlay_of_the_method_changes_its_options_alone(row, capsys):
    expected, found = printed(capsys, "demo"), printed(capsys, "demo", f"ablations/{row}")
    expected["model"]["ppar"] |= METHOD[row]
    assert found == expected


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("row", BASELINES)
def test_an_overlay_changes_what_it_names_alone(setting, row, capsys):
    expected, found = printed(capsys, setting), printed(capsys, setting, f"ablations/{row}")
    isw, style, ppar = BASELINES[row]
    expected["model"]["isw"]["enabled"] = isw
    expected["model"]["segmenter"]["early_stages"] = 2 if isw else 1
    if isw:
        expected["model"]["segmenter"]["freeze_stages"] = 0  # frozen stages cannot be whitened
    expected["model"]["ppar"]["enabled"] = ppar
    expected["data"]["augmentation"]["style"] = style
    assert found == expected


def test_an_overlay_of_the_training_changes_its_group_alone(capsys):
    plain = printed(capsys, "demo")
    for row, (part, group, options) in TRAINING.items():
        changed = plain[part] | {group: (plain[part][group] or {}) | options}
        assert printed(capsys, "demo", f"ablations/{row}") == plain | {part: changed}


@pytest.mark.slow
@pytest.mark.parametrize("row", ["isw_ppar", "style_ppar"])
def test_a_baseline_trains_beside_ppar(row, tmp_path):
    folder = fit(tmp_path, "--config", str(CONFIGS / "ablations" / f"{row}.yaml"))
    terms = {key for key in losses(folder)[-1] if key.startswith("train/loss/")}
    assert terms >= {"train/loss/ce", "train/loss/align"}
    assert ("train/loss/isw" in terms) == (row == "isw_ppar")


ISW = [
    *("--model.isw.enabled", "true", "--model.ppar.enabled", "false"),
    *("--model.segmenter.early_stages", "2", "--model.segmenter.freeze_stages", "0"),
]


def losses(folder) -> list[dict[str, str]]:
    logged = rows(folder / "curves" / "fit" / "version_0" / "metrics.csv")
    return [{k: v for k, v in row.items() if k.startswith("train/loss") or k == "step"} for row in logged]


@pytest.mark.slow
def test_a_run_resumes_in_the_midst_of_the_statistics_and_is_tested_as_the_plain_segmenter(tmp_path):
    words = (
        *ISW,
        "--model.isw.statistics",
        "[0.3, 0.7]",
        "--trainer.max_steps",
        "8",
        "--trainer.limit_val_batches",
        "0",
    )
    saved = ("--checkpoint.every_n_train_steps", "4", "--checkpoint.save_top_k", "-1")
    whole = fit(tmp_path / "whole", *words, *saved)
    (halfway,) = whole.glob("checkpoints/*step=4.ckpt")
    resumed = fit(tmp_path / "resumed", *words, "--ckpt_path", str(halfway))
    state, expected = weights(resumed), weights(whole)
    assert state.keys() == expected.keys()
    assert expected["whitening.fixed"]
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    curve = losses(whole)
    assert [float(row["train/loss/isw"]) > 0 for row in curve] == [False] * 6 + [True] * 2
    for row in curve:
        total = float(row["train/loss/ce"]) + float(row["train/loss/isw"])
        assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)
    plain = ("--model.ppar.enabled", "false", "--model.segmenter.freeze_stages", "0")
    baseline = losses(fit(tmp_path / "baseline", *plain, *words[-4:]))
    assert [row["train/loss/ce"] for row in curve[:7]] == [row["train/loss/ce"] for row in baseline[:7]]
    assert evaluate(whole)["unseen_miou"] >= 0
