"""What labels hold, be it ids, colours or names, and the train ids that these stand for."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from ppar_lightning.images.classes import IGNORE, ClassList
from ppar_lightning.images.colour_key import Colour

FORMS = {"ids": "an id of 0-65535", "colours": "a colour such as '#ff8000'", "names": "a name of the JSON"}
"""What labels hold -> form of the keys of option `ids`."""

SHOWN = 40
"""Largest number of classes that an error lists."""


class Meanings:
    """Train ids, in a list of classes, of all that labels may hold.

    Attributes:
        ids: Id -> train id or IGNORE.
        colours: RGB -> train id or IGNORE. Black is ignored unless a class has it, or it is given.
        names: Name -> train id or IGNORE; the groups of Cityscapes, such as `cargroup`, are of their class.

    Args:
        classes: The list.
        given: Every id, or the colours and names that no class has -> train id, name of a class, or `ignore`.
        forms: Keys of FORMS that may be given.
        offset: Ids are train id + offset, lower ones are ignored, and so is IGNORE unless a class has it. None is 0, or
            if there are given ones, no ids but these.

    Raises:
        ValueError: A key has none of the forms, or stands for no class; or the offset is below 0.
    """

    def __init__(
        self, classes: ClassList, given: Mapping[Any, Any], forms: Sequence[str], offset: int | None = None
    ) -> None:
        self.classes = classes
        self.names = {f"{name}{end}": k for end in ("group", "") for k, name in enumerate(classes)}
        self.colours: dict[Colour, int] = {(0, 0, 0): IGNORE} | {each: k for k, each in enumerate(classes.colours)}
        self.ids: dict[int, int] = {}
        if offset is not None or not given:
            if (first := offset or 0) < 0:
                raise ValueError(f"offset is {offset}; give the id of the first class, at least 0")
            self.ids = dict.fromkeys([*range(first), IGNORE], IGNORE) | {k + first: k for k in range(len(classes))}
        for key, value in given.items():
            train_id, colour = self.train_id(value), re.fullmatch("#[0-9a-f]{6}", str(key).lower())
            if train_id >= 0 and "ids" in forms and number(key) in range(2**16):
                self.ids[number(key)] = train_id
            elif train_id >= 0 and "colours" in forms and colour:
                red, green, blue = bytes.fromhex(colour[0][1:])
                self.colours[red, green, blue] = train_id
            elif train_id >= 0 and "names" in forms:
                self.names[str(key)] = train_id
            else:
                line = f"{reprlib.repr(key)[:60]} to {reprlib.repr(value)[:60]}"  # a user may write anything there
                raise ValueError(f"ids maps {line}; map {FORMS[forms[0]]} to {self.choices()}")

    def train_id(self, value: object) -> int:
        """Return the train id of a class's name, of a number or of `ignore`; -1 if it is none of these."""
        known = {name: k for k, name in enumerate(self.classes)} | {"ignore": IGNORE}
        if isinstance(value, str) and value in known:
            return known[value]
        return number(value) if number(value) in known.values() else -1

    def choices(self) -> str:
        """Return what `train_id` takes, for error messages."""
        names = ", ".join([*self.classes.names[:SHOWN], "..."][: len(self.classes)])
        return f"a train id of 0-{len(self.classes) - 1}, ignore, or one of {names}"


def number(value: object) -> int:
    """Return an integer, given as such or in digits, else -1. YAML's `yes` is not taken for 1."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 9:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
