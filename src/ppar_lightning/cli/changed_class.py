"""A class that replaces another one on the command line or in a config takes none of its options."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

from lightning.fabric.utilities.rank_zero import rank_zero_warn


@contextmanager
def without_former_options() -> Iterator[None]:
    """Parse so that the options of a replaced class are dropped, and say in one line which ones.

    jsonargparse alone keeps those that both classes have: AdamW would take the weight decay of SGD.
    """
    said = set()

    def drop(_: Any, former: Any, present: Any) -> None:
        if not former or "init_args" not in former or former["class_path"] == present["class_path"]:
            return
        options = former.pop("init_args")
        names = [each["class_path"].rpartition(".")[2] for each in (present, former)]
        dropped = chosen(former["class_path"], dict(options))
        if dropped and (*names, dropped) not in said:  # the parser comes to the same change several times
            said.add((*names, dropped))
            line = f"{names[0]} replaces {names[1]} and takes none of its options: {dropped} dropped"
            rank_zero_warn(f"{line}; give those to keep after the class")

    with patch("jsonargparse._typehints.discard_init_args_on_class_path_change", drop):
        yield


def chosen(class_path: str, options: dict[str, Any]) -> str:
    """List the options that differ from the defaults of their class."""
    parameters = inspect.signature(resolve_name(class_path)).parameters
    defaults = {name: parameters[name].default for name in options if name in parameters}
    given = [name for name, value in options.items() if value is not None and value != defaults.get(name)]
    return ", ".join(f"{name} {options[name]}" for name in given)
