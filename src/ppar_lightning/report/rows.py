"""The rows of the table of ablations, in the order in which they are run and shown."""

from collections.abc import Iterable

BASELINE = "source_only"
"""Row that the others are compared with."""
ROWS = (
    *(BASELINE, "naive", "random", "otp", "vtp", "progressive", "reversed", "reweighting", "ppar"),
    *("isw", "isw_ppar", "style", "style_ppar"),
)


def in_order(rows: Iterable[str]) -> list[str]:
    """Sort rows in the order of the table; other rows follow by name."""
    return sorted(set(rows), key=lambda row: (ROWS.index(row) if row in ROWS else len(ROWS), row))
