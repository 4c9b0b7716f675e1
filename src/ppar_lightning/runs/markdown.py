"""Tables in Markdown, and how numbers are written in them."""

import math
import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """Write a table; the first ``text`` columns are aligned to the left, the others to the right."""
    rule = ["---"] * text + ["---:"] * (len(header) - text)
    return "".join(f"| {' | '.join(map(escaped, cells))} |\n" for cells in (header, rule, *rows))


def escaped(cell: str) -> str:
    """Escape what would end the cell of a table or begin an HTML element."""
    return re.sub(r"[|<]", r"\\\g<0>", cell)


def number(value: float, form: str = ".1f") -> str:
    """Format a number; a dash stands for NaN."""
    return "-" if math.isnan(value) else f"{value:{form}}"


def mean_title(name: str) -> str:
    """Return the title of a mean: ``miou_16`` becomes "mIoU over 16 classes"."""
    return name.replace("miou", "mIoU").replace("_", " over ") + ("" if name == "miou" else " classes")
