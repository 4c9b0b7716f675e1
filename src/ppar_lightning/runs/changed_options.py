"""Options that differ: those of a run from its setting, and those of a test from its training."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ppar_lightning.runs.renamed import BY_DEVICE

SCORED = ("seed_everything", "model", "data", "trainer.precision", "trainer.limit_test_batches")
"""Options, and groups of them, that a score depends on."""

TRAINED = (
    *("model", "data", "trainer.precision", "trainer.limit_test_batches", "trainer.limit_train_batches"),
    *("trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "trainer.overfit_batches"),
    *("trainer.accumulate_grad_batches", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm"),
    *("trainer.devices", "trainer.num_nodes"),
)
"""Options, and groups of them, that the results of a run depend on."""

IRRELEVANT = ("data.workers", "data.predict_dir", "model.continuation")
"""Options in these groups that no score depends on."""

DOMAINS = ("data.sources", "data.unseen")

LENGTHS = {"trainer.max_steps": "steps", "trainer.max_epochs": "epochs"}

Overrides = Mapping[str, Sequence[Any]]
"""Path of an option -> its value in the setting, and the value that the run has."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: the dotted path of its keys -> each value; an empty mapping has none."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def with_domains(found: Mapping[str, Any]) -> dict[str, Any]:
    """Add to flattened options the names of the domains of each group: ``data.sources`` -> ``gta, synthia``."""
    names = {group: [name.split(".")[2] for name in found if name.startswith(f"{group}.")] for group in DOMAINS}
    return {**found, **{group: ", ".join(sorted(set(names[group]))) or None for group in DOMAINS}}


def counts(name: str, options: Collection[str]) -> bool:
    """Return whether an option counts as one of ``options``; where the data lie does not."""
    return within(name, options) and name not in IRRELEVANT and not name.endswith(".root")


def within(name: str, options: Collection[str]) -> bool:
    """Return whether an option is one of ``options`` or lies below one of them."""
    return any(name == option or name.startswith(f"{option}.") for option in options)


def changed_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Compare the config of a training with the present one: one line for each option that a score depends on."""
    old, new = flat(before), flat(now)
    for name in dict.fromkeys([*old, *new]):
        same = old.get(name) == new.get(name) or (name == BY_DEVICE and new.get(name) is None)
        if not same and counts(name, SCORED):
            yield f"{name}: {brief(old.get(name))} in training, {brief(new.get(name))} now"


def overrides(setting: Sequence[Mapping[str, Any]], named: Collection[str], config: Mapping[str, Any]) -> Overrides:
    """List the options that a command line changes in its setting; where the data lie does not count.

    Args:
        setting: The defaults, then the config files of the command line in their order, with present names.
        named: Paths of the options that the command line gives besides.
        config: The resolved config.
    """
    planned: dict[str, Any] = {}
    options = [option.replace(".init_args", "") for option in named]
    for each in setting:
        planned |= flat(each)
    planned, used = with_domains(planned), with_domains(flat(config))
    domains = {group: [set((each[group] or "").split(", ")) for each in (used, planned)] for group in DOMAINS}
    new = [f"{group}.{name}" for group in DOMAINS if group in named for name in set.difference(*domains[group])]
    return {
        name: [planned.get(name), value]
        for name, value in used.items()
        if planned.get(name) != value and counts(name, TRAINED) and not within(name, new)
        if within(name.replace(".init_args", ""), options)
    }


def carried(earlier: Overrides, new: Overrides, config: Mapping[str, Any]) -> Overrides:
    """Return the overrides of a run that continues: each option as it is now, beside its value in the first setting."""
    now = with_domains(flat(config))
    return {
        name: [planned, now.get(name)] for name, (planned, _) in {**new, **earlier}.items() if now.get(name) != planned
    }


def described(changes: Overrides) -> str:
    """Write overrides in a line: ``8 of 300 steps, data.batch_size 2 instead of 8``; the length comes first."""
    parts = []
    for name in sorted(changes, key=lambda name: name not in LENGTHS):
        planned, used = changes[name]
        shorter = name in LENGTHS and None not in (planned, used) and 0 < used < planned
        parts.append(
            f"{used} of {planned} {LENGTHS[name]}" if shorter else f"{name} {brief(used)} instead of {brief(planned)}"
        )
    return ", ".join(parts)


def brief(value: Any) -> str:
    """Write the value of an option; of a long list, such as one of classes, only its length and the first names."""
    if not isinstance(value, list) or len(str(value)) <= 60:
        return str(value)
    names = [str(each.get("name", each) if isinstance(each, Mapping) else each) for each in value[:3]]
    return f"{len(value)} ({', '.join(names)}{', ...' * (len(value) > 3)})"
