"""Lists of classes: names, colours, words for prompts, and groups. The package has some, and users write their own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

IGNORE = 255
"""Train id of pixels that are neither trained on nor scored."""

MOST = 255
"""Largest number of classes, because a byte holds a train id or IGNORE."""

SHIPPED = {Path(file.name).stem: file for file in (files(__package__) / "class_lists").iterdir()}
"""Name of a list of the package -> its file."""

KEYS = ("name", "colour", "words", "group")
LINES = "a list of names, or of lines such as {name: crate, colour: [200, 120, 40], words: [crate, wooden box]}"
"""What a file of classes holds, for error messages."""

Classes = str | list[str | dict[str, str | list[str] | list[int]]]
"""A list of the package by name, the path of a YAML file, or the list itself as such a file holds it."""


@dataclass(frozen=True)
class ClassList(Sequence[str]):
    """K classes, from 2 to MOST; a class's position is its train id. As a sequence it holds the names.

    Attributes:
        names: The K names, each once.
        colours: RGB colour of each class, each once.
        words: Words for each class in prompts; those of its synonyms are averaged. By default the name alone.
        groups: Group (category) of each class; empty for a class without one.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    words: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        """Return K."""
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """Return the name of a train id, or the names of a slice."""
        return self.names[index]

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """RGB colour of each train id, (256, 3); black for IGNORE and for ids that no class has."""
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: len(self)] = self.colours
        return table

    def colourise(self, label: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Colour a map of train ids.

        Args:
            label: (H, W), train ids or IGNORE.

        Returns:
            (H, W, 3) uint8 RGB; IGNORE and ids that no class has are black.
        """
        return self.palette[label.astype(np.uint8)]

    def entries(self) -> list[dict[str, Any]]:
        """Return the list as a YAML or JSON file holds it; `class_list` reads it back."""
        rows = zip(self.names, self.colours, self.words, self.groups, strict=True)
        return [
            {"name": name, "colour": list(colour)}
            | ({"words": [*words]} if words != (name,) else {})
            | ({"group": group} if group else {})
            for name, colour, words, group in rows
        ]

    def ids_in(self, other: Sequence[str], missing: int = IGNORE) -> list[int]:
        """Return the train id of each of these classes in another list: that of its name, or else of its group.

        Args:
            other: Names of the classes of the other list.
            missing: Id of a class of which the other list has neither name nor group.

        Returns:
            K ids.
        """
        ids = {name: index for index, name in enumerate(other)} | {"": missing}
        return [ids.get(name, ids.get(group, missing)) for name, group in zip(self.names, self.groups, strict=True)]


def class_list(source: Classes | ClassList | Path) -> ClassList:
    """Read a list of classes.

    Args:
        source: Name of a list of the package, path of a YAML file, or the list itself: names, or mappings with `name`
            and, as far as wanted, `colour` (RGB, 0-255), `words` (for prompts) and `group`. Classes without a
            colour get one.

    Raises:
        FileNotFoundError: There is neither such a list nor such a file.
        ValueError: It is no list of 2 to MOST classes; the message names the entry.
    """
    where = str(source) if isinstance(source, str | Path) else "data.classes"
    given: Any = source
    if isinstance(source, ClassList):
        return source
    if isinstance(source, str | Path):
        file = SHIPPED.get(str(source), Path(source).expanduser())
        if not file.is_file():
            raise FileNotFoundError(f"classes {where!r} not found: name a file, or one of {', '.join(sorted(SHIPPED))}")
        try:
            given = yaml.safe_load(file.read_text())
        except (yaml.YAMLError, ValueError, RecursionError):
            given = None
    if not isinstance(given, list | tuple) or not 2 <= len(given) <= MOST:
        number = f"{len(given)} classes" if isinstance(given, list | tuple) else "no list"
        raise ValueError(f"{where} holds {number}: write from 2 to {MOST} classes, as {LINES}")
    rows = [_row(each, where) for each in given]
    for what in ("name", "colour"):
        twice = [value for value, times in Counter(row[what] for row in rows if row[what]).items() if times > 1]
        if twice:
            raise ValueError(f"{where}: two classes have the {what} {twice[0]}; give each its own")
    taken = {row["colour"] for row in rows}
    free = (colour for colour in spread_colours(2 * len(rows)) if colour not in taken)
    colours = tuple(row["colour"] or next(free) for row in rows)
    names, words, groups = (tuple(row[key] for row in rows) for key in ("name", "words", "group"))
    return ClassList(names, colours, words, groups)


def inlined(source: Classes) -> Classes:
    """Return the list itself in place of a file, so that what is recorded does not change with the file."""
    return source if not isinstance(source, str) or source in SHIPPED else [*class_list(source).entries()]


def keep_lists(data: Any) -> None:
    """Put the lists themselves into the data options of a training: `classes`, and the list of each data set `folder`.

    The labels of a folder stay in their list if `classes` is another one in a test.
    """
    data["classes"] = inlined(data["classes"])
    for name, domain in {**data["sources"], **(data["unseen"] or {})}.items():
        if (domain["dataset"] or name) == "folder":
            given = domain["options"].get("classes") or data["classes"]
            beside = Path(domain["root"] or "", given).expanduser() if isinstance(given, str) else Path()
            kept = inlined(str(beside) if beside.is_file() else given)
            domain["options"] = {**domain["options"], "classes": kept}


def _row(entry: Any, where: str) -> dict[str, Any]:
    """Check an entry of a list and complete it; a missing colour is None."""
    given = {"name": entry} if isinstance(entry, str) else entry if isinstance(entry, Mapping) else {}
    name, colour, words, group = (given.get(key) for key in KEYS)
    words = [name] if words is None else [words] if isinstance(words, str) else words
    texts = [name, group or "-", *(words if isinstance(words, Sequence) and words else [None])]
    channels = colour if isinstance(colour, list | tuple) else []
    painted = colour is None or [channel in range(256) for channel in channels] == [True] * 3
    named = name != "ignore" and all(isinstance(text, str) and text.strip() and text.isprintable() for text in texts)
    if not (named and painted and given.keys() <= {*KEYS}):
        raise ValueError(f"{where}: {str(entry)[:60]!r} is no class; write {LINES}")
    return {"name": name, "colour": colour and tuple(colour), "words": tuple(words), "group": group or ""}


def spread_colours(count: int) -> list[tuple[int, int, int]]:
    """Choose RGB colours for classes that have none, the same in every process.

    Successive hues are a golden section of the circle apart, so that neighbouring classes differ however many there
    are. Black is not used, because it stands for IGNORE.
    """
    hues = (0.03 + np.arange(count) * 0.618034) % 1
    values = 1 - 0.25 * (np.arange(count) % 3) - 0.12 * (np.arange(count) // 144)  # from 144 on, hues come again
    waves = (np.abs((hues[:, None] * 6 + offset) % 6 - 3) for offset in ([0], [4], [2]))
    colours = np.concatenate([np.clip(wave - 1, 0, 1) for wave in waves], axis=1) * values[:, None]
    return [(red, green, blue) for red, green, blue in (255 * colours).round().astype(int).tolist()]


CITYSCAPES = class_list("cityscapes19")
"""The default list, which the rendered streets and most data sets of streets are labelled in."""
