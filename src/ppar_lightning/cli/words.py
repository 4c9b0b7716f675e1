"""What a user may leave out of the words of ``ppar``: the long form of ``predict``, and the run's folder."""

import re
from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path

import yaml

from ppar_lightning.shipped_configs import find

CONFIG = ("--config", "-c")

FLAGS = ("--overwrite", "--skip_existing")
"""Options of ``predict`` that take no value, so that pictures may follow them."""

FOLDER = "--trainer.default_root_dir"


def spelt_out(words: Sequence[str]) -> list[str]:
    """Write the words of a subcommand as LightningCLI takes them: the short form of ``predict``, and the run's folder.

    Raises:
        FileNotFoundError: The short form names no run.
        ValueError: The short form lacks the run or the pictures.
    """
    words = named_configs(words)
    if words[:1] != ["predict"]:
        return at_home(words)
    long = long_form(words)
    if long != words and not Path(long[2]).is_file():
        remedy = "--run names the folder of a run; other checkpoints are given with --ckpt_path beside it"
        raise FileNotFoundError(f"{long[2]} not found: {remedy}")
    return at_home(long)


def named_configs(words: Sequence[str]) -> list[str]:
    """Replace the names of configs that come with the package by their paths."""
    found = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        given = before in CONFIG or (name in CONFIG and equals)
        found.append(word if not given else find(word) if before in CONFIG else f"{name}={find(value)}")
    return found


def long_form(words: Sequence[str]) -> list[str]:
    """Turn ``predict PLACE... --run RUN`` into the long form; pictures may also follow the run."""
    places, rest, run, free = [], [], None, True
    upcoming = iter(words[1:])
    for word in upcoming:
        name, equals, value = word.partition("=")
        if name == "--run":
            run, free = value if equals else next(upcoming, ""), True
        elif free and not word.startswith("-"):
            places.append(word)
        else:
            rest.append(word)
            free = name in FLAGS
    if run is None and not places:
        return list(words)
    if not run or not places:
        missing = "pictures" if run else "the run"
        raise ValueError(f"{missing} not given: the short form is `ppar predict PICTURES --run RUN`, options after it")
    return [
        "predict",
        "--config",
        f"{run}/config.yaml",
        f"--data.predict_dir={dumps(places, ensure_ascii=False)}",
        *rest,
    ]


def at_home(words: list[str]) -> list[str]:
    """Take a run's folder from where its ``config.yaml`` lies, as it may have been moved, or be named from elsewhere.

    Without this the config's own words would hold, relative to the working directory, where another run may be.
    """
    if any(word.partition("=")[0] == FOLDER for word in words):
        return words
    homes = [path.parent for path in config_files(words) if (path.parent / "checkpoints").is_dir()]
    homes = [home for home in homes if Path(recorded_folder(home)).resolve() != home.resolve()]
    return [*words, FOLDER, str(homes[-1])] if homes else words


def config_files(words: Sequence[str]) -> Iterator[Path]:
    """Give the files of ``--config`` that a run may have saved."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        path = Path(value if equals else following)
        if name in CONFIG and path.name == "config.yaml" and path.is_file():
            yield path


def recorded_folder(home: Path) -> str:
    """Read where a run was when its config was saved; if the config does not say, where it is now."""
    text = (home / "config.yaml").read_text(errors="replace")  # whether it is YAML at all is the parser's to judge
    found = re.search(r"^  default_root_dir: (.*)$", text, flags=re.MULTILINE)
    return str(yaml.safe_load(found[1])) if found else str(home)
