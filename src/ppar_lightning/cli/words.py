"""Words of the command line: names of configs, short forms, the run and home folders, and options of a test alone."""

import re
from argparse import Namespace
from collections.abc import Sequence
from itertools import dropwhile, pairwise, takewhile
from json import dumps
from pathlib import Path

import yaml

from ppar_lightning.console import PlainParser, add_ci
from ppar_lightning.runs.run_folder import CONFIG
from ppar_lightning.shipped_configs import find

NAMES = ("--config", "-c")

FOLDER = "--trainer.default_root_dir"


def spelt_out(words: Sequence[str]) -> list[str]:
    """Complete the arguments of a subcommand: names of configs, the short form of ``predict``, and the run folder.

    Args:
        words: Command-line arguments, which begin with the subcommand.

    Raises:
        FileNotFoundError: The short form names no run.
        ValueError: The short form lacks the run or the pictures.
    """
    given = named_configs(words)
    words = long_form(given) if given[0] == "predict" else given
    if words != given and not Path(words[2]).is_file():
        raise FileNotFoundError(f"{words[2]} not found: --run takes the folder of a run, --ckpt_path a checkpoint")
    if words[0] == "test" and "--model" in words[:-1] and FOLDER not in {word.partition("=")[0] for word in words}:
        words = [*words, FOLDER, f"runs/{Path(words[words.index('--model') + 1]).name}"]
    return at_home(words)


def named_configs(words: Sequence[str]) -> list[str]:
    """Write each config as two arguments, and replace names of configs of the package by their paths."""
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        found += [name, value] if name in (*NAMES, "--model") and equals else [word]
    return [find(word) if before in NAMES else word for before, word in pairwise(["", *found])]


def long_form(words: Sequence[str]) -> list[str]:
    """Turn ``predict PICTURES --run RUN`` into the long form; pictures may also follow the run.

    Raises:
        ValueError: The run or the pictures are missing.
    """
    parser = PlainParser("ppar predict", add_help=False, allow_abbrev=False)
    parser.add_argument("--run", nargs="*")
    for flag in ("--overwrite", "--skip_existing"):  # pictures may follow them too
        parser.add_argument(flag, action="append_const", const=flag, dest="flags", default=[])
    given, rest = parser.parse_known_args(words[1:])
    run, *places = given.run or [""]
    places = [*takewhile(lambda word: not word.startswith("-"), rest), *places]
    rest = [*dropwhile(lambda word: not word.startswith("-"), rest), *given.flags]
    if given.run is None and not places:
        return list(words)
    if not run or not places:
        missing = "pictures" if run else "the run"
        raise ValueError(f"{missing} not given: write `ppar predict PICTURES --run RUN`, followed by options")
    pictures = f"--data.predict_dir={dumps(places, ensure_ascii=False)}"
    return ["predict", "--config", f"{run}/{CONFIG}", pictures, *rest]


def at_home(words: list[str]) -> list[str]:
    """Set the run folder to the folder of the given ``config.yaml`` if the config names another one.

    This is the case if the run was moved, or if the config names a relative folder and the working directory has
    changed; the named folder may then hold another run.
    """
    if any(word.partition("=")[0] == FOLDER for word in words):
        return words
    configs = [Path(word) for before, word in pairwise(words) if before in NAMES]
    runs = [path for path in configs if path.name == CONFIG and (path.parent / "checkpoints").is_dir()]
    if not runs or not runs[-1].is_file():
        return words
    home, text = runs[-1].parent, runs[-1].read_text(errors="replace")  # the parser checks that it is YAML
    recorded = re.search(r"^  default_root_dir: (.*)$", text, flags=re.MULTILINE)
    moved = recorded is not None and Path(str(yaml.safe_load(recorded[1]))).resolve() != home.resolve()
    return [*words, FOLDER, str(home)] if moved else words


def split_off(words: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Split the options ``--model`` and ``--ci`` of a test from those of a config; other subcommands have none.

    Args:
        words: Command-line arguments, which begin with the subcommand.

    Returns:
        ``model``, empty if none is given, and ``ci``; and the other arguments.

    Raises:
        ValueError: A checkpoint is given besides a model.
    """
    parser = add_ci(PlainParser("ppar test", add_help=False, allow_abbrev=False))
    parser.add_argument("--model", default="")
    if words[:1] != ["test"]:
        return parser.parse_args([]), [*words]
    given, others = parser.parse_known_args(words)
    if given.model and any(word.partition("=")[0] == "--ckpt_path" for word in others):
        raise ValueError("--model and --ckpt_path both name a network to score: give only one")
    return given, others


def expanded(text: str) -> str:
    """Replace ``~/`` by the home folder at the start of each path in a word of the command line or a config's text."""
    return re.sub(r"""(?<![^\s'"=:,\[{])~(?=/)""", lambda _: str(Path.home()), text)
