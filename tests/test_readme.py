"""Every command of the README is run or, if it takes long, parsed; the five from a clone to pictures are run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ppar_lightning.cli import main
from ppar_lightning.cli.words import long_form
from ppar_lightning.console import PlainParser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]
(CLONE,) = (block for block in BLOCKS if block.startswith("git clone"))


def parsed(words: list[str]) -> Namespace:
    """Let ``ppar`` parse the words of ``report``, ``export`` or ``reproduce``, and end it before it does anything."""
    found: list[Namespace] = []

    def parse(parser: ArgumentParser, given: list[str], _: Any = None) -> None:
        known, unknown = ArgumentParser.parse_known_args(parser, given)
        assert not unknown
        found.append(known)
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainParser, "parse_known_args", parse)  # which parse_args calls
        with pytest.raises(SystemExit, match="0"):
            main(words)
    return found[0]


@pytest.mark.slow
def test_from_a_clone_to_own_pictures(tmp_path, monkeypatch):
    """The five commands as they stand, with what is installed here and a short training."""
    first, *others = CLONE.splitlines()
    assert CLONE in (ROOT / "docs" / "index.md").read_text()
    assert len(others) == 4
    clone, run = tmp_path / "ppar_lightning", tmp_path / "ppar_lightning" / "runs" / "demo"
    short = "--trainer.max_steps 2 --data.batch_size 2 --data.sources.game.limit 8 --data.workers 0"
    unseen = " ".join(f"--data.unseen.{name}.limit 2" for name in ("fog", "night", "rain", "snow", "city"))
    monkeypatch.setenv("ARGS", f"{short} {unseen} --trainer.enable_progress_bar false")
    monkeypatch.setenv("REPOSITORY", str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(clone / "src"), prepend=os.pathsep)
    subprocess.run(["bash", "-ec", first], cwd=tmp_path, check=True)
    (clone / ".venv").symlink_to(sys.prefix)
    for name in (
        "pyproject.toml",
        "setup.py",
        "constraints.txt",
    ):  # older than .venv/.installed: there is nothing to install
        os.utime(clone / name, (0, 0))
    shutil.copytree(ROOT / "docs", clone / "pictures", ignore=lambda _, names: {n for n in names if n != "demo.png"})
    for command in others:
        subprocess.run(["bash", "-ec", command], cwd=clone, check=True)
    assert {path.name for path in run.iterdir()} >= {"test.json", "segmenter.onnx", "report.html"}
    with (
        Image.open(run / "predictions" / "demo.png") as written,
        Image.open(clone / "pictures" / "demo.png") as picture,
    ):
        assert written.size == picture.size


def test_the_first_commands_are_two():
    assert BLOCKS[0].splitlines() == ["make demo", "make test"]
    assert len(TEXT.splitlines()) <= 200


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command, monkeypatch, tmp_path, capsys):
    words = shlex.split(command)
    words[0] = Path(words[0]).name
    monkeypatch.chdir(ROOT)
    if words[0] == "git":
        return  # run above
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], check=True, capture_output=True)
        return
    assert words[0] == "ppar"
    if words[1] in ("report", "reproduce"):
        parsed(words[1:])
        return
    if words[1] == "configs":
        main(words[1:3] if ">" in words else words[1:])
        assert capsys.readouterr().out
        return
    if words[1] == "export":
        assert parsed(words[1:]).run == "runs/demo"
        return
    words = [words[0], *(long_form(words[1:]) if words[1] == "predict" else words[1:])]
    if words[1] in ("test", "predict"):  # its config is what fit has saved: make it first
        saved = tmp_path / "config.yaml"
        with pytest.raises(SystemExit, match="0"):
            main(["fit", "--config", "configs/gta.yaml", "--print_config"])
        saved.write_text(capsys.readouterr().out)
        words[words.index("--config") + 1] = str(saved)
    if "--help" in words:
        main(words[1:])
        assert "--help.all" in capsys.readouterr().out
        return
    with pytest.raises(SystemExit, match="0"):
        main(words[1:] if "--help.all" in words else [*words[1:], "--print_config"])


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))
def test_a_link_leads_somewhere(path):
    assert (ROOT / path).exists()
