"""The configs that come with the package, by name: ``gta``, ``ablations/otp``, ``strategies/fsdp``.

They are the files in ``configs/`` of the repository. A wheel contains them as ``ppar_lightning/configs`` (see
``setup.py``); a source tree, also as an editable install, uses ``configs/`` itself.

ppar configs
ppar configs gta > my.yaml
"""

from collections.abc import Sequence
from pathlib import Path

from ppar_lightning.console import PlainParser

INSTALLED = Path(__file__).parent / "configs"
FOLDER = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[2] / "configs"


def main(words: Sequence[str]) -> None:
    """Run ``ppar configs``: list the configs with the first line of each, or print one.

    Raises:
        FileNotFoundError: There is no config of that name.
    """
    parser = PlainParser("ppar configs", description="List the configs that come with the package, or print one.")
    parser.add_argument("name", nargs="?", help="config to print, e.g. gta, ablations/otp")
    name = parser.parse_args(words).name
    if name is None:
        width = max(map(len, names()))
        for each in names():
            print(f"{each:<{width}}  {text(each).partition(chr(10))[0].lstrip('# ')}")
    elif name in names():
        print(text(name), end="")
    else:
        raise FileNotFoundError(f"there is no config {name!r}; `ppar configs` lists them")


def names() -> list[str]:
    """List the names of all configs; settings come before the overlays, which are in folders."""
    paths = [path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.yaml")]
    return [path.as_posix() for path in sorted(paths, key=lambda path: (len(path.parts), path))]


def text(name: str) -> str:
    """Read a config by its name."""
    return (FOLDER / f"{name}.yaml").read_text()


def find(name: str) -> str:
    """Return the path of the config with this name; return the name of a file, or of no config, unchanged."""
    return str(FOLDER / f"{name}.yaml") if name in names() and not Path(name).is_file() else name
