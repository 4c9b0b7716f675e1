"""Options that were renamed, withdrawn or added since 0.1.0.

Old ones are accepted for one version, in configs and on the command line.

An option is written as its path of keys, without the dashes; a path also stands for all options below it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import yaml
from lightning_utilities.core.rank_zero import rank_zero_warn

from ppar_lightning.images.classes import CITYSCAPES, keep_lists

RENAMED: Mapping[str, str] = {"pictures": "prediction_grid"}
"""Old path -> new path, which differs in its last key only."""

CLASSES = ("model.segmenter.num_classes", WORDS := "model.ppar.class_names")
"""Options whose number and words belong to ``data.classes`` now."""

WITHDRAWN: Mapping[str, Any] = {
    **{"detect_nan": "raise", "finite.policy": "raise", "model.ppar.min_stride": 8},
    **dict(zip(CLASSES, (len(CITYSCAPES), [*CITYSCAPES]), strict=True)),
}
"""Path (the new one of a renamed option) -> the value that every run has now. Only that value is accepted."""


NO_ADAPTER = {"kind": "none", "rank": 16, "alpha": 16, "dropout": 0.0, "targets": "all", "from_block": 0}

ADDED: Mapping[tuple[str, ...], Mapping[str, Any]] = {
    ("model",): dict.fromkeys(("adapter_lr", "weight_decay_end", "ema"))
    | {"continuation": "extend", "layer_decay": 1.0, "checkpoint_base": "whole"},
    ("model", "segmenter"): {"patch": None, "adapter": NO_ADAPTER},
    ("model", "ppar"): {"context_every": 1, "clip_graph": True},
    ("data",): {"classes": "cityscapes19", "tta": {"scales": [1.0], "flip": False}},
}
"""Group -> options that configs of 0.1.0 lack -> the values that their runs have."""

BEFORE: Mapping[str, Mapping[str, Any]] = {"model.ppar.min_stride": {"context_every": 1}}
"""Withdrawn option, which saved configs of 0.1.0 hold -> options beside it whose defaults have changed since then."""

BY_DEVICE = "model.ppar.clip_dtype"
"""Option that had defaults of its own, and is None now, which follows the device: None differs from no value."""


def completed(config: dict[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole config of a run as this version would save it, to be compared with ``now``, a present one."""
    config = {"weights": None, "weights_part": "all"} | current_config(config)
    for path, values in ADDED.items():
        group = reduce(getitem, path, config)
        group.update({**values, **group})
    for role in ("sources", "unseen"):
        domains = config["data"][role] or {}
        config["data"][role] = {name: {"mapping": {}} | domain for name, domain in domains.items()} or domains
    keep_lists(config["data"])
    if now["model"]["ppar"]["clip_dtype"] is None:
        config["model"]["ppar"]["clip_dtype"] = None
    return config


def current_config(config: dict[str, Any], parent: str = "") -> dict[str, Any]:
    """Update the keys of a config: renamed options are moved, withdrawn ones dropped.

    Args:
        config: Parsed YAML of a whole config, or of the options below ``parent``; it is not changed.
        parent: Path of the options, with a dot at its end.

    Raises:
        ValueError: A withdrawn option has a value that is no longer there.
    """
    found: dict[str, Any] = {}
    config = config if parent else with_words(config)
    for key, value in config.items():
        path = current_name(f"{parent}{key}")
        name = key if path == f"{parent}{key}" else path.removeprefix(parent)
        if path in WITHDRAWN:
            refuse_others(path, value)
            found = {**BEFORE.get(path, {}), **found}
        elif not isinstance(value, dict):
            found[name] = value
        elif (inner := current_config(value, f"{path}.")) or not value:  # a group that has become empty is dropped
            found[name] = (found.get(name) or {}) | inner
    return found


def current_words(words: Sequence[str]) -> list[str]:
    """Update the option names in command-line arguments, as `current_config` does in a config.

    Raises:
        ValueError: A withdrawn option has a value that is no longer there.
    """
    found, upcoming = [], iter(words)
    for word in upcoming:
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            found.append(word)
        elif (path := current_name(name[2:])) in WITHDRAWN:
            chosen = yaml.safe_load(value if equals else next(upcoming, ""))
            if path == WORDS and (classes := worded(chosen)):
                found.append(f"--data.classes={json.dumps(classes)}")
            else:
                refuse_others(path, chosen)
        else:
            found.append(f"--{path}{equals}{value}")
    return found


def with_words(config: dict[str, Any]) -> dict[str, Any]:
    """Move the words of ``model.ppar.class_names`` into ``data.classes``, where they are now."""
    model, data = config.get("model") or {}, config.get("data") or {}
    options = model.get("ppar") or {}
    if not (classes := worded(options.get("class_names"))):
        return config
    options = {name: value for name, value in options.items() if name != "class_names"}
    return config | {"model": model | {"ppar": options}, "data": data | {"classes": classes}}


def worded(names: Any) -> list[dict[str, Any]] | None:
    """Return Cityscapes' classes with other words for their sentences; None unless there are 19 of them."""
    if not isinstance(names, list | tuple) or len(names) != len(CITYSCAPES) or [*names] == [*CITYSCAPES]:
        return None
    say_moved(WORDS)
    words = dict(zip(CITYSCAPES, CITYSCAPES.words, strict=True))
    entries = zip(CITYSCAPES.entries(), names, strict=True)
    return [entry | {"words": list(words.get(name, (name,)))} for entry, name in entries]


def say_moved(path: str) -> None:
    """Warn that classes are given elsewhere now."""
    line = f"option {path} is dropped: data.classes gives names and words now; the next version will not know {path}"
    rank_zero_warn(line, category=FutureWarning)


def current_name(path: str) -> str:
    """Return the present path of an option, and warn if the given one is old."""
    for old, new in RENAMED.items():
        if path == old or path.startswith(f"{old}."):
            path = new + path.removeprefix(old)
            rank_zero_warn(f"option {old} is now {new}; the next version will not know {old}", category=FutureWarning)
    return path


def refuse_others(path: str, value: Any) -> None:
    """Refuse every value of a withdrawn option except the one that all runs have now.

    Raises:
        ValueError: The value is another one.
    """
    if value != WITHDRAWN[path]:
        now = "data.classes gives names and words" if path in CLASSES else f"every run has {WITHDRAWN[path]!r}"
        remedy = f"leave the option out; {now} now"
        raise ValueError(f"option {path} was withdrawn, and {value!r} is no longer supported: {remedy}")
    if path in CLASSES:
        say_moved(path)
