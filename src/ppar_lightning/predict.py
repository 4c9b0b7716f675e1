"""The short form of ``ppar predict``.

ppar predict pictures/ --run runs/demo
"""

from collections.abc import Sequence

from ppar_lightning.parser import PlainParser


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
