"""Tutorials and how-tos: every command is accepted, every file they name exists, what they show is run."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_readme import parsed

import ppar_lightning
from ppar_lightning.callbacks.last_checkpoint import INTERVAL
from ppar_lightning.cli import main
from ppar_lightning.cli.words import long_form
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.images.classes import CITYSCAPES, class_list
from ppar_lightning.load import load_segmenter
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.text import TEMPLATES, read_embeddings, text_prototypes
from ppar_lightning.segmenter.segmenter import Segmenter
from ppar_lightning.shipped_configs import names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "index.md", *sorted((ROOT / "docs").glob("*/*.md")), ROOT / "CONTRIBUTING.md"]
TEXTS = {page.stem: page.read_text() for page in PAGES}
OTHERS = {"git": "clone", "hf": "download", "wandb": "sync"}
"""Other programs -> the subcommand that is used."""
WRITTEN = {"hall.yaml": "own_data_set", "names.yaml": "own_prototypes"}
"""Files that a page asks to write -> the page."""


def blocks(stem: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXTS[stem], flags=re.DOTALL)


COMMANDS = [(stem, line) for stem in TEXTS for block in blocks(stem, "bash") for line in block.splitlines()]


def printed(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--print_config"])
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("configs")


def config_file(name: str, folder: Path, capsys) -> str:
    """A config that a page names: one of the repository, one that a page writes, or the one that a run would save."""
    if name.startswith("configs/") or name in names():
        return name
    file = folder / name.replace("/", "_")
    if name in WRITTEN:
        (folder / "classes.yaml").write_text(blocks("own_data_set", "yaml")[0])
        file.write_text(blocks(WRITTEN[name], "yaml")[-1].replace("classes.yaml", str(folder / "classes.yaml")))
    elif not file.exists():
        setting = name.split("/")[1].removesuffix("_source_only")
        base = "hall.yaml" if setting == "hall" else f"configs/{setting}.yaml"
        file.write_text(printed(["fit", "--config", config_file(base, folder, capsys)], capsys))
    return str(file)


@pytest.mark.parametrize(("stem", "command"), COMMANDS)
def test_a_command_is_accepted(stem, command, monkeypatch, folder, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(re.sub(r"^(\w+=\S+ )+", "", command))
    program = Path(words[0]).name
    if program in OTHERS:
        assert words[1] == OTHERS[program]
    elif program == "make":
        subprocess.run(["make", "-n", *words[1:]], check=True, capture_output=True)
    elif words[1] in ("report", "export", "convert", "score", "reproduce"):
        parsed(words[1:])
    else:
        assert program == "ppar"
        words = long_form(words[1:]) if words[1] == "predict" else words[1:]
        for place in (index + 1 for index, word in enumerate(words) if word == "--config"):
            words[place] = config_file(words[place], folder, capsys)
        assert yaml.safe_load(printed(words, capsys))["data"]["sources"]


@pytest.mark.parametrize("stem", TEXTS)
def test_a_file_that_is_named_is_there(stem):
    named = re.findall(r"`((?:src|tests|configs|docs)/[\w/.]+)`", TEXTS[stem])
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_contributing_guide_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)", TEXTS["CONTRIBUTING"])
    assert links
    assert all((ROOT / link).is_file() for link in links)
    for name, place in (
        ("TREES", "tests/trees.py"),
        ("CONFIGS", "tests/test_segmenter.py"),
        ("FAMILIES", "tests/test_segmenter.py"),
        ("SHIPPED", "src/ppar_lightning/segmenter/pretrained.py"),
    ):
        assert f"`{name}`" in TEXTS["CONTRIBUTING"]
        assert f"`{place}`" in TEXTS["CONTRIBUTING"]
        assert re.search(rf"^{name}\b", (ROOT / place).read_text(), flags=re.MULTILINE)


def test_the_options_of_the_memory_table_exist(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    table = re.findall(r"^\| (`--.*?) \|", TEXTS["out_of_memory"], flags=re.MULTILINE)
    assert len(table) == 9
    words = [word for cell in table for option in re.findall(r"`([^`]+)`", cell) for word in shlex.split(option)]
    config = yaml.safe_load(printed(["fit", "--config", "configs/gta.yaml", *words], capsys))
    assert config["model"]["segmenter"]["output_stride"] == 32


def test_the_backbone_of_the_tutorial_is_built(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("own_backbone", "python")
    scope: dict = {}
    exec(example, scope)
    weight = scope["segmenter"].backbone.state_dict()["network.embedder.embedder.convolution.weight"]
    np.testing.assert_array_equal(weight, scope["network"].embedder.embedder.convolution.weight.detach())


def test_the_file_of_embeddings_of_the_tutorial_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("own_prototypes", "python")
    exec(example, {})
    own = read_embeddings(tmp_path / "text.npy", len(CITYSCAPES))
    bare = text_prototypes(PPAROptions(prompts="bare"), CITYSCAPES.words)
    alike = {name for name, a, b in zip(CITYSCAPES, own, bare, strict=True) if np.allclose(a, b, atol=1e-5)}
    single = {name for name, words in zip(CITYSCAPES, CITYSCAPES.words, strict=True) if words == (name,)}
    assert alike == single  # a bare name is the same prompt, but where words are averaged


def test_the_numbers_of_the_pages_are_the_codes():
    counts = dict(re.findall(r"^\| `(\w+)`(?: \(default\))? \| (\d+): ", TEXTS["own_prototypes"], flags=re.MULTILINE))
    assert {name: int(count) for name, count in counts.items()} == {name: len(each) for name, each in TEMPLATES.items()}
    assert PPAROptions().prompts == "photo"
    assert PPAROptions().visual_size == 224
    prompts, words = (yaml.safe_load(block) for block in blocks("own_prototypes", "yaml"))
    assert PPAROptions(**prompts["model"]["ppar"]).prompts == ["a picture of a {}", "a {} seen by a robot"]
    assert class_list(words["data"]["classes"]).words == (("asphalt road", "street"), ("sky",), ("tram",))
    assert INTERVAL == 120
    assert "every two minutes" in TEXTS["resume"]


def test_the_counts_of_the_recipe_are_those_of_the_data_sets():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)`.*? \| ([\d,]+) \|", TEXTS["gta"], flags=re.MULTILINE)
    assert {name for name, _, _ in rows} == {"gta", "cityscapes", "bdd100k", "mapillary", "synthia"}
    for name, split, count in rows:
        assert f"{DATASETS[name].counts[split]:,}" == count


def test_weights_are_published_as_the_recipe_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("gta", "python")
    segmenter, pushed = Segmenter("tinyclip", decoder_channels=8).eval(), []
    monkeypatch.setattr(ppar_lightning, "load_segmenter", lambda run: segmenter)
    monkeypatch.setattr(segmenter, "push_to_hub", pushed.append)
    exec(example, {})
    assert pushed == ["you/gta-dinov2-ppar"]
    assert (tmp_path / "gta-dinov2-ppar" / "README.md").is_file()
    assert load_segmenter(tmp_path / "gta-dinov2-ppar").description == segmenter.description
