"""A run is tested, predicted with and loaded after the models that it was trained from are gone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import fit
from transformers import ResNetConfig, ResNetModel

from ppar_lightning import load_segmenter
from ppar_lightning.analysis.loaded_run import load_run
from ppar_lightning.cli import main

SMALL_RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], layer_type="basic")
ENSEMBLE = ("--model.ppar.ensemble", "1.0")
FEW = ("--data.unseen", "{fog: {limit: 2}}", "--data.sources.game.limit", "2")


def figures(run: Path, *words: str) -> dict:
    """Test a run and return the scores of its domains."""
    main(["test", "--config", str(run / "config.yaml"), *words])
    return json.loads((run / "test.json").read_text())["domains"]


@pytest.mark.slow
def test_an_evaluation_takes_all_weights_from_the_checkpoint(tmp_path, clip_folder, monkeypatch, capsys):
    home, away = tmp_path / "home", tmp_path / "away"
    for folder in (home, away):
        folder.mkdir()
    monkeypatch.chdir(home)
    ResNetModel(SMALL_RESNET).save_pretrained("net")
    shutil.copytree(clip_folder, "clip")
    np.save("text.npy", np.random.default_rng(0).normal(size=(19, 16)))
    named = ("--model.segmenter.backbone", "net", "--model.segmenter.freeze_stages", "0", "--model.ppar.clip", "clip")
    file = ("--model.ppar.text_embeddings", "text.npy")
    fit(Path("run"), "--trainer.max_steps", "1", *named, *file, *FEW)
    plain, ensemble = figures(Path("run")), figures(Path("run"), *ENSEMBLE)
    assert plain != ensemble

    for name in ("net", "clip"):
        shutil.rmtree(name)
    Path("text.npy").unlink()
    monkeypatch.chdir(away)
    capsys.readouterr()
    run = home / "run"
    assert figures(run) == plain
    assert "Differs: model" not in capsys.readouterr().out
    assert figures(run, *ENSEMBLE) == ensemble
    main(["validate", "--config", str(run / "config.yaml"), *ENSEMBLE])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save("a.png")
    main(["predict", "a.png", "--run", str(run), "--data.workers", "0"])
    label = load_segmenter(run).predict("a.png").numpy()
    np.testing.assert_array_equal(np.asarray(Image.open(run / "predictions" / "a.png")), label)
    loaded = load_run(run)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(loaded.objective.prototypes.otp, state["objective.prototypes.otp"])
