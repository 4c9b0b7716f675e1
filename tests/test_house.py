"""The rooms of the package: one order, no circle, nothing private from next door, no name on two doors."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "ppar_lightning"
ROOMS = (
    *("distributed", "metrics", "disk", "shortage", "console", "shipped_configs", "images", "streets"),
    *(
        "baselines",
        "segmenter",
        "runs",
        "data",
        "method",
        "optimizer",
        "rates",
        "averaging",
        "module",
        "load",
        "latency",
    ),
    *("export", "analysis", "convert", "callbacks", "score", "report", "doctor", "reproduce", "cli"),
)
"""From the ground up: a room imports from those before it alone."""
BELOW = {"segmenter": {"disk", "images"}, "method": {"distributed", "disk", "images", "segmenter"}}
"""Rooms that know even fewer."""
FOREIGN = {"segmenter": {"lightning", "albumentations"}, "method": {"lightning", "albumentations"}}
FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")}
FILES = {name: path for name, path in FILES.items() if name not in ("__init__", "__main__")}  # the two doors


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every (module, name) that a file imports, late and for types alone too; the name is empty for ``import x``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """Modules of the package that a file imports."""
    found = set()
    for module, name in imports(path):
        if module.partition(".")[0] == "ppar_lightning":
            inner = module.removeprefix("ppar_lightning").lstrip(".")
            whole = f"{inner}.{name}".lstrip(".")
            found.add(whole if whole in FILES or f"{whole}.__init__" in FILES else inner)
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", FILES)
def test_imports_go_down(module):
    allowed = set(ROOMS[: ROOMS.index(room(module)) + 1])
    below = BELOW.get(room(module), allowed) | {room(module)}
    assert {other for other in own_imports(FILES[module]) if room(other) not in allowed & below} == set()


def test_no_circle_of_modules():
    TopologicalSorter({module: own_imports(path) - {module} for module, path in FILES.items()}).prepare()


@pytest.mark.parametrize("module", FILES)
def test_segmenter_and_method_know_no_framework_of_training_or_augmentation(module):
    assert not {name.partition(".")[0] for name, _ in imports(FILES[module])} & FOREIGN.get(room(module), set())


def test_neither_do_the_modules_that_they_import():
    modules = [f"ppar_lightning.{name}".removesuffix(".__init__") for name in FILES if room(name) in FOREIGN]
    frameworks = set().union(*FOREIGN.values())
    code = f"import sys, {', '.join(modules)}; print({frameworks} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("module", FILES)
def test_no_private_name_crosses_a_border(module):
    taken = [name for _, name in imports(FILES[module]) if name.startswith("_")]
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not (node.attr in PUBLIC or node.attr.endswith("__"))
        ):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            inherited = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
            taken += [] if own or inherited else [ast.unparse(node)]
    assert Counter(taken) == PRIVATE.get(module, {})


PUBLIC = ("_replace", "_fields", "_asdict", "_exit")  # public, whatever they look like
PRIVATE: dict[str, dict[str, int]] = {
    "export": {"program._guards_code": 1},
    "callbacks.last_checkpoint": {
        "loop._data_fetcher": 1,
        "loop.epoch_loop._should_check_val_fx": 1,
        "trainer.fit_loop._can_stop_early": 1,
    },
    "callbacks.finite_guard": {"torch._foreach_norm": 1},
    "callbacks.artifact": {"each._log_model": 1},
    "callbacks.loggers": {"logger._wandb_init": 1},
}
"""Module -> private names of a library that it takes, each with the reason beside it in the code."""


def test_no_name_is_on_two_doors():
    doors = Counter(path.stem.rstrip("s") for path in FILES.values() if path.stem != "__init__")
    for path in FILES.values():
        tree = ast.parse(path.read_text())
        doors.update(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name[0] != "_")
    assert [name for name, count in doors.items() if count > 1] == []


def test_few_types_are_ignored():
    assert sum(path.read_text().count("type: ignore") for path in FILES.values()) <= 10
