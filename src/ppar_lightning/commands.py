"""The subcommands of ``ppar`` that no LightningCLI is needed for, and the short form of ``predict``."""

from collections.abc import Callable, Mapping, Sequence

from ppar_lightning import export
from ppar_lightning.parser import PlainParser
from ppar_lightning.report import command as report

PLAIN: Mapping[str, Callable[[Sequence[str]], None]] = {"report": report.main, "export": export.main}
"""Name -> what runs its arguments."""

DESCRIPTION = f"See also {', '.join(f'`ppar {name} --help`' for name in PLAIN)} and `ppar predict PICTURES --run RUN`."


def spelt_out(words: Sequence[str]) -> list[str]:
    """Turn ``predict PLACE... --run RUN`` into the words of the subcommand; leave any others as they are."""
    if list(words[:1]) != ["predict"] or "--run" not in words:
        return list(words)
    parser = PlainParser("ppar predict", add_help=False)
    parser.add_argument("places", nargs="+")
    parser.add_argument("--run", required=True)
    given, rest = parser.parse_known_args(words[1:])
    config = ["--config", f"{given.run}/config.yaml", "--trainer.default_root_dir", given.run]
    return ["predict", *config, f"--data.predict_dir={given.places}", *rest]
