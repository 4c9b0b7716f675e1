"""A table that is printed or written as Markdown."""

from typing import NamedTuple

from rich.table import Table

from ppar_lightning.report.markdown import table


class Sheet(NamedTuple):
    """A table; its first ``text`` columns hold words, the others numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]
    text: int

    def printed(self) -> Table:
        """Lay it out for the terminal."""
        printed = Table(title=self.title)
        for place, head in enumerate(self.header):
            printed.add_column(head, justify="left" if place < self.text else "right")
        for row in self.rows:
            printed.add_row(*row)
        return printed

    def markdown(self) -> str:
        """Write it under its title."""
        return f"## {self.title}\n\n{table(self.header, self.rows, self.text)}"
