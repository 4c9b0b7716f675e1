"""Every command of the README is run: ``ppar`` as it stands but for size and folders, ``make`` as a dry run."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ppar_lightning.cli import main
from ppar_lightning.commands import spelt_out
from ppar_lightning.export import parser
from ppar_lightning.report.command import parse

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command, monkeypatch, tmp_path, capsys):
    words = shlex.split(command)
    monkeypatch.chdir(ROOT)
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], check=True, capture_output=True)
        return
    assert words[0] == "ppar"
    if words[1] == "report":
        parse(words[2:])
        return
    if words[1] == "export":
        assert parser().parse_args(words[2:]).run == "runs/demo"
        return
    words = [words[0], *spelt_out(words[1:])]
    if words[1] in ("test", "predict"):  # its config is what fit has saved: make it first
        saved = tmp_path / "config.yaml"
        with pytest.raises(SystemExit, match="0"):
            main(["fit", "--config", "configs/gta.yaml", "--print_config"])
        saved.write_text(capsys.readouterr().out)
        words[words.index("--config") + 1] = str(saved)
    with pytest.raises(SystemExit, match="0"):
        main([*words[1:], "--print_config"] if "--help" not in words else words[1:])


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))
def test_a_link_leads_somewhere(path):
    assert (ROOT / path).exists()
