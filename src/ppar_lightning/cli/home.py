"""The home folder in options: ``~`` is expanded in all of them, wherever they are given."""

from argparse import Namespace
from pathlib import Path
from typing import Any


def expanded(value: Any) -> Any:
    """Replace a leading ``~/`` by the home folder in each string of an option's value, whatever its structure.

    Args:
        value: A string, or a word ``--option=value``; a list or a mapping of such; a parsed config, which is changed in
            place; any other value is returned unchanged.
    """
    if isinstance(value, Namespace):
        for key, each in vars(value).items():
            vars(value)[key] = expanded(each)
    if isinstance(value, dict):
        return type(value)({key: expanded(each) for key, each in value.items()})
    if isinstance(value, list):
        return [expanded(each) for each in value]
    if not isinstance(value, str):
        return value
    option, equals, given = value.partition("=") if value.startswith("--") else ("", "", value)
    return f"{option}{equals}{Path(given).expanduser()}" if given == "~" or given.startswith("~/") else value
