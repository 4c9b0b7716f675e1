"""Pictures of the page of a run: predictions for the best and worst images, and maps of pixel weights."""

from typing import NamedTuple

import matplotlib
import numpy as np

from ppar_lightning.analysis.image_scores import ImageScore, each_score, extremes
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.analysis.weighing import ONLY_CROP, weigh
from ppar_lightning.data.loading import collate
from ppar_lightning.data.transforms import Augment
from ppar_lightning.images.classes import IGNORE, colourise
from ppar_lightning.images.drawing import data_uri

WEIGHTS = (0.4, 1.6)
"""Weights drawn in full blue and in full red; 1 is white."""


class Panel(NamedTuple):
    """The pictures of one image."""

    caption: str
    tiles: dict[str, str]
    """Title -> data URI."""


def predictions(run: LoadedRun, domain: str, images: int, count: int = 2) -> list[Panel]:
    """Draw the worst and the best images of a domain, the worst first.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Name of the domain.
        images: Number of images to choose from, the first of the split.
        count: Number of worst images, and of best images, that are drawn.
    """
    scores, seen = extremes(each_score(run, domain, images), count)
    return [_prediction(run, domain, score, rank(place, len(scores), seen)) for place, score in enumerate(scores)]


def rank(place: int, kept: int, seen: int) -> str:
    """Describe the rank of an image among those seen; the first half of the kept images are the worst."""
    worst = place < kept // 2
    number = place + 1 if worst else kept - place
    ordinal = {1: "", 2: "2nd ", 3: "3rd "}.get(number, f"{number}th ")
    return f"{ordinal}{'worst' if worst else 'best'} of {seen}"


def _prediction(run: LoadedRun, domain: str, score: ImageScore, ranked: str) -> Panel:
    confidence = run.confidence(score.image, domain).numpy()
    shown = np.where(score.label == IGNORE, IGNORE, score.prediction)
    tiles = {
        "image": data_uri(score.image.permute(1, 2, 0).numpy()),
        "ground truth": data_uri(colourise(score.label.numpy()), sharp=True),
        "prediction": data_uri(colourise(shown), sharp=True),
        "confidence": data_uri((255 * confidence).round().astype(np.uint8)),
    }
    return Panel(
        f"{ranked}: {score.name}, mIoU {100 * score.miou:.1f} %, mean confidence {confidence.mean():.2f}", tiles
    )


def weight_maps(run: LoadedRun, count: int = 4) -> list[Panel]:
    """Draw the weights of a few evaluation images of the sources at the end of training.

    The images are weighted in a batch as in training: of the same size, with crops taken in turn from the sources.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`, trained with PPAR.
        count: Number of images that are drawn.
    """
    augment = Augment(run.data.crop, ONLY_CROP)
    datasets = {name: run.dataset(name) for name in run.data.sources}
    turns = ((name, index) for index in range(run.data.batch_size) for name in datasets)
    places = [(name, index) for name, index in turns if index < len(datasets[name])][: run.data.batch_size]
    samples = [augment(datasets[name][index], (0, index)) for name, index in places]
    positions, grid = weigh(run, run.to_device(collate(samples)))
    panels = []
    for place, ((name, _), sample) in enumerate(zip(places[:count], samples, strict=False)):
        maps = (each[place].cpu().view(grid.size) for each in (positions.weight, positions.counted))
        weight, counted = (grid.look_up(each, run.data.crop).numpy() for each in maps)
        colours = matplotlib.colormaps["RdBu_r"]((weight - WEIGHTS[0]) / (WEIGHTS[1] - WEIGHTS[0]), bytes=True)[..., :3]
        drawn = np.where(counted[..., None], colours, np.uint8(0))
        clear = weight[counted]
        spread = f"{clear.min():.2f} to {clear.max():.2f}" if clear.size else "none, no label is clear enough"
        tiles = {
            "crop": data_uri(sample["image"]),
            "label": data_uri(colourise(sample["label"]), sharp=True),
            "weight": data_uri(drawn, sharp=True),
        }
        panels.append(Panel(f"{name}, {sample['name']}: weights {spread}", tiles))
    return panels
