"""The page of a run in W&B."""

import base64
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ppar_lightning.callbacks.loggers import stay_offline_without_account
from ppar_lightning.report.panels import Panel


def log_page(page: Path, content: Mapping[str, Any], project: str, folder: Path) -> None:
    """Log a page and its pictures to a W&B run of its own.

    Args:
        page: The HTML file, logged as ``report/page``.
        content: What it was rendered from; ``report/predictions`` and ``report/weights`` are its pictures.
        project: The W&B project.
        folder: The run folder that is reported on; W&B's files are written there.
    """
    import wandb

    def images(panels: Iterable[Panel]) -> list[Any]:
        tiles = ((panel.caption, *tile) for panel in panels for tile in panel.tiles.items())
        return [wandb.Image(read_uri(uri), caption=f"{title}: {caption}") for caption, title, uri in tiles]

    stay_offline_without_account("WandbLogger")
    grids = {f"report/predictions/{title}": images(panels) for title, panels in content["grids"].items()}
    weights = [] if isinstance(content["weights"], str) else images(content["weights"])
    with wandb.init(project=project, name=f"{content['title']} report", job_type="report", dir=str(folder)) as run:
        run.log({"report/page": wandb.Html(str(page), inject=False), "report/weights": weights, **grids})


def read_uri(uri: str) -> Image.Image:
    """Decode the picture of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
