"""The home folder in options: ``~/`` is expanded in all of them, wherever they are given."""

import re
from pathlib import Path


def expanded(text: str) -> str:
    """Replace ``~/`` by the home folder at the start of each path in a word of the command line or a config's text."""
    return re.sub(r"""(?<![^\s'"=:,\[{])~(?=/)""", lambda _: str(Path.home()), text)
