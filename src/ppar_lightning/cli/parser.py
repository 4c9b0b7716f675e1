"""The parser of training configs: options of the previous version, replaced classes, and errors in one line."""

import inspect
from pkgutil import resolve_name
from typing import Any, NoReturn
from unittest.mock import patch

import yaml
from jsonargparse import Namespace, get_loader
from jsonargparse.typing import restricted_number_type
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.cli import LightningArgumentParser

from ppar_lightning.cli.words import expanded
from ppar_lightning.console import leave
from ppar_lightning.runs.renamed import current_config

Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)], docstring="Integer that NumPy takes as a seed.")


class OneLineParser(LightningArgumentParser):
    """Parser that accepts options of the previous version, and reports an unknown key or a bad value in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and leave with status 2."""
        unknown = message.startswith('Parser key "config": File does not exist')
        message += "; `ppar configs` lists those of the package" * unknown
        leave(message + "; give a whole number from 0 to 4294967295" * ("seed_everything" in message), status=2)

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a config, from a file or given as text, which may contain options of the previous version."""
        content = expanded(content)
        try:
            config = get_loader("yaml")(content)
        except yaml.YAMLError:
            config = None  # the parser reports what is wrong with it
        if isinstance(config, dict) and (current := current_config(config)) != config:
            content = yaml.safe_dump(current, sort_keys=False)
        return super().parse_string(content, *args, **kwargs)

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """Parse arguments. A class that replaces another one takes none of its options, and a line says which.

        jsonargparse alone keeps those that both classes have: AdamW would take the weight decay of SGD.
        """
        said = set()

        def drop(_: Any, former: Any, present: Any) -> None:
            if not former or "init_args" not in former or former["class_path"] in (None, present["class_path"]):
                return
            names = [each["class_path"].rpartition(".")[2] for each in (present, former)]
            dropped = chosen(former["class_path"], dict(former.pop("init_args")))
            line = f"{names[0]} replaces {names[1]} and takes none of its options: {dropped} dropped"
            if dropped and line not in said:  # the parser comes to the same change several times
                said.add(line)
                rank_zero_warn(f"{line}; give those to keep after the class")

        with patch("jsonargparse._typehints.discard_init_args_on_class_path_change", drop):
            return super().parse_args(*args, **options)


def chosen(class_path: str, options: dict[str, Any]) -> str:
    """List the options that differ from the defaults of their class."""
    parameters = inspect.signature(resolve_name(class_path)).parameters
    defaults = {name: parameters[name].default for name in options if name in parameters}
    given = [name for name, value in options.items() if value is not None and value != defaults.get(name)]
    return ", ".join(f"{name} {options[name]}" for name in given)
