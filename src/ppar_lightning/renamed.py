"""Options that were renamed or withdrawn since 0.1.0: accepted for one version, in config files and as words.

An option is written as its path of keys, without the dashes; a path stands for all options below it too.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_warn

RENAMED: Mapping[str, str] = {"pictures": "prediction_grid"}
"""Old path -> new path."""

WITHDRAWN: Mapping[str, Any] = {"detect_nan": "raise", "finite.policy": "raise", "model.ppar.min_stride": 8}
"""Path (the new one, if it was renamed too) -> the value that every run has now. It is dropped; others are refused."""


def current_config(config: dict[str, Any]) -> dict[str, Any]:
    """Give a config its present keys: renamed options are moved, withdrawn ones dropped.

    Args:
        config: Parsed YAML of a whole config; it is not changed.

    Raises:
        ValueError: A withdrawn option has a value that is no longer there.
    """
    config = deepcopy(config)
    for old in RENAMED:
        for value in take(config, old):
            put(config, current_name(old), value)
    for path in WITHDRAWN:
        for value in take(config, path):
            refuse_others(path, value)
    return config


def current_words(words: Sequence[str]) -> list[str]:
    """Give the words of a command line their present names, as `current_config` does.

    Raises:
        ValueError: A withdrawn option has a value that is no longer there.
    """
    found, upcoming = [], iter(words)
    for word in upcoming:
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            found.append(word)
            continue
        path = current_name(name[2:])
        if path in WITHDRAWN:
            refuse_others(path, yaml.safe_load(value if equals else next(upcoming, "")))
        else:
            found.append(f"--{path}{equals}{value}")
    return found


def current_name(path: str) -> str:
    """Return the present path of an option, and warn if it had another one."""
    for old, new in RENAMED.items():
        if path == old or path.startswith(f"{old}."):
            path = new + path.removeprefix(old)
            rank_zero_warn(f"option {old} is now {new}; the next version will not know {old}", category=FutureWarning)
    return path


def refuse_others(path: str, value: Any) -> None:
    """Accept the one value of a withdrawn option that is left.

    Raises:
        ValueError: It is another value.
    """
    if value != WITHDRAWN[path]:
        raise ValueError(f"option {path} was withdrawn, {value!r} is no longer there: leave it out ({WITHDRAWN[path]})")


def take(config: dict[str, Any], path: str) -> list[Any]:
    """Remove an option from nested dictionaries, and those that are empty then; return its value, if it was there."""
    key, _, rest = path.partition(".")
    inner = config.get(key)
    if not rest:
        return [config.pop(key)] if key in config else []
    if not isinstance(inner, dict):
        return []
    found = take(inner, rest)
    if found and not inner:
        del config[key]
    return found


def put(config: dict[str, Any], path: str, value: Any) -> None:
    """Set an option in nested dictionaries, beneath what they say themselves."""
    key, _, rest = path.partition(".")
    if rest:
        put(config.setdefault(key, {}), rest, value)
    elif isinstance(value, dict) and isinstance(config.get(key), dict):
        config[key] = value | config[key]
    else:
        config.setdefault(key, value)
