"""A run folder that 0.1.0 wrote: it is tested, continued, loaded and reported by this version."""

import json
import lzma
import shutil
from pathlib import Path

import pytest
import torch

from ppar_lightning import load_segmenter
from ppar_lightning.cli import main, resolve
from ppar_lightning.reproduce import Planned
from ppar_lightning.runs.manifest import read_manifest

OLD = Path(__file__).parent / "data" / "run_0_1_0"  # six steps of a ResNet of 12,580 weights; VTP's decoder is zeroed
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The run, its relative folders found from the working directory."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    packed = Path("run/checkpoints/last.ckpt.xz")
    packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    return Path("run")


def test_it_is_tested_as_it_was(run, capsys):
    before = json.loads((run / "test.json").read_text())
    main(["test", "--config", str(run / "config.yaml"), *QUIET])
    after = json.loads((run / "test.json").read_text())
    assert [each.pop("images_of") for each in after["domains"].values()] == [60] * 3  # not recorded by 0.1.0
    assert after["domains"] == before["domains"]
    assert after["unseen_miou"] == before["unseen_miou"]
    said = capsys.readouterr().out
    assert "Differs: versions.ppar-lightning: 0.1.0 in training" in said
    assert "Differs: model" not in said
    assert "config.yaml" not in said


def test_its_config_is_the_one_that_is_saved_now(run):
    words = ["--config", str(run / "config.yaml")]
    assert Planned(run, words, resolve(words)).state == "done"
    assert "for_training" not in resolve(words)["model"]
    assert resolve(words)["model"]["ppar"]["context_every"] == 1  # which was no option


def test_its_training_goes_on(run, capsys):
    main(["fit", "--config", str(run / "config.yaml"), "--ckpt_path", "last", "--trainer.max_steps", "8", *QUIET])
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 8
    manifest = read_manifest(run)
    assert manifest is not None
    assert len(manifest["sessions"]) == 2
    rates = [group["lr"] for group in state["optimizer_states"][0]["param_groups"]]
    assert rates == pytest.approx([0.0, 0.0])  # the last step of eight


def test_its_segmenter_is_loaded(run):
    segmenter = load_segmenter(run)
    assert segmenter.predict(torch.rand(3, 40, 56)).shape == (40, 56)
    assert "Training" in (segmenter.training_summary or "")


def test_its_page_is_written(run):
    main(["report", "--html", str(run), "--images", "2"])
    assert "fog" in (run / "report.html").read_text()


def test_copies_are_named_wherever_scores_are(run, capsys):
    one = run.with_name("one")
    shutil.copytree(run, one)
    main(["test", "--config", str(run / "config.yaml"), *QUIET, "--data.tta", "{scales: [0.5, 1.0], flip: true}"])
    title = "full, scales 0.5 1, flipped"
    tested = json.loads((run / "test.json").read_text())
    assert {each["protocol"] for each in tested["domains"].values()} == {title}
    assert "data.tta.flip: None in training, True now" in tested["changes"]
    assert f",{title}," in (run / "test.csv").read_text().replace('"', "")
    assert "scales 0.5" in capsys.readouterr().out
    before = json.loads((one / "test.json").read_text())["domains"]
    assert all(tested["domains"][name]["miou"] != each["miou"] for name, each in before.items())
    with pytest.raises(SystemExit, match="1"):
        main(["report", str(run), str(one)])
    assert f"with protocol {title!r} and 'full': such numbers do not belong" in capsys.readouterr().err
    main(["report", str(run), "--html", "--images", "2"])
    assert title in (run / "report.html").read_text()
