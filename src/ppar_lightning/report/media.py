"""What a run's page shows, as tables and media in W&B."""

import base64
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ppar_lightning.callbacks.loggers import stay_offline_without_account
from ppar_lightning.report.matrix import Matrix
from ppar_lightning.report.panels import Panel, Tile


def log_page(page: Path, content: Mapping[str, Any], project: str, folder: Path) -> None:
    """Log a page to a W&B run of its own: the page itself, a table of pictures, one of weights, one a matrix.

    Args:
        page: The file.
        content: What it was made of; a part that is a sentence has nothing to log.
        project: Of W&B.
        folder: Of the run that is reported; W&B's files go there.
    """
    import wandb  # takes a second, and few reports come here

    stay_offline_without_account("WandbLogger")
    grids: list[tuple[str, list[Panel]]] = content["grids"]
    tables = {"predictions": panel_table((domain, panel) for domain, panels in grids for panel in panels)}
    if not isinstance(content["weights"], str):
        tables["weights"] = panel_table(("source", panel) for panel in content["weights"])
    for name in ("confusion", "prototypes"):
        if not isinstance(content[name], str):
            tables |= {f"{name}/{each.caption}": matrix_table(each) for each in content[name]}
    if not isinstance(content["heat"], str):
        tables["classes"] = matrix_table(content["heat"])
    with wandb.init(project=project, name=f"{content['title']} report", job_type="report", dir=str(folder)) as run:
        run.log(
            {f"report/{name}": table for name, table in tables.items()}
            | {"report/page": wandb.Html(str(page), inject=False)}
        )


def panel_table(panels: Iterable[tuple[str, Panel]]) -> Any:
    """A row a panel: where it is from, its caption and its tiles."""
    import wandb

    rows = [(place, panel.caption, panel.tiles) for place, panel in panels]
    titles = [tile.title for tile in rows[0][2]] if rows else []
    data = [[place, caption, *(wandb.Image(decode(tile)) for tile in tiles)] for place, caption, tiles in rows]
    return wandb.Table(columns=["domain", "picture", *titles], data=data)


def matrix_table(matrix: Matrix) -> Any:
    """The numbers as they are read."""
    import wandb

    data = [[label, *(cell.text for cell in cells)] for label, cells in matrix.rows]
    return wandb.Table(columns=["", *matrix.columns], data=data)


def decode(tile: Tile) -> Image.Image:
    """Read the picture of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(tile.uri.partition(",")[2])))
