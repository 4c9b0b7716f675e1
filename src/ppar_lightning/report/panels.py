"""Pictures of the page of a run: predictions for the best and worst images, and maps of pixel weights."""

from typing import NamedTuple

import matplotlib
import numpy as np

from ppar_lightning.analysis.image_scores import each_score, extremes
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.analysis.weighing import ONLY_CROP, weigh
from ppar_lightning.data.loading import collate
from ppar_lightning.data.transforms import Augment
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.images.drawing import data_uri

RANKS = ("worst", "2nd worst", "2nd best", "best")
MAPS = 4
"""Number of source images whose weights are drawn."""
WEIGHTS = (0.4, 1.6)
"""Weights that are drawn in full blue and in full red; 1 is white."""


class Panel(NamedTuple):
    """The pictures of one image."""

    caption: str
    tiles: dict[str, str]
    """Title -> data URI."""


def predictions(run: LoadedRun, domain: str, images: int) -> list[Panel]:
    """Draw the worst and the best images of a domain, the worst first.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Name of the domain.
        images: Number of images to choose from, at the start of the split.
    """
    scores, seen = extremes(each_score(run, domain, images), len(RANKS) // 2)
    panels = []
    for place, score in enumerate(scores):
        rank = RANKS[place if place < len(scores) // 2 else place - len(scores)]
        confidence = run.confidence(score.image, domain).numpy()
        shown = np.where(score.label == IGNORE, IGNORE, score.prediction)
        tiles = {
            "image": data_uri(score.image.permute(1, 2, 0).numpy()),
            "ground truth": data_uri(run.data.classes.colourise(score.label.numpy()), sharp=True),
            "prediction": data_uri(run.data.classes.colourise(shown), sharp=True),
            "confidence": data_uri((255 * confidence).round().astype(np.uint8)),
        }
        figures = f"mIoU {100 * score.miou:.1f} %, mean confidence {confidence.mean():.2f}"
        panels.append(Panel(f"{rank} of {seen}: {score.name}, {figures}", tiles))
    return panels


def weight_maps(run: LoadedRun) -> list[Panel]:
    """Draw the weights of a few evaluation images of the sources at the end of training.

    The images are weighted in a batch as in training: of the same size, with crops taken in turn from the sources.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`, trained with PPAR.
    """
    augment, size = Augment(run.data.crop, ONLY_CROP), run.data.batch_size
    splits = [run.dataset(name) for name in run.data.sources]
    turns = [(split, index) for index in range(size) for split in splits if index < len(split)][:size]
    samples = [augment(split[index], (0, index)) for split, index in turns]
    positions, grid = weigh(run, run.to_device(collate(samples)))
    panels = []
    for place, sample in enumerate(samples[:MAPS]):
        pair = (each[place].cpu().view(grid.size) for each in (positions.weight, positions.counted))
        weight, counted = (grid.look_up(each, run.data.crop).numpy() for each in pair)
        colours = matplotlib.colormaps["RdBu_r"]((weight - WEIGHTS[0]) / (WEIGHTS[1] - WEIGHTS[0]), bytes=True)[..., :3]
        drawn = np.where(counted[..., None], colours, np.uint8(0))
        label = run.data.classes.colourise(sample["label"])
        maps = {"label": data_uri(label, sharp=True), "weight": data_uri(drawn, sharp=True)}
        panels.append(Panel(f"{sample['domain']}, {sample['name']}", {"crop": data_uri(sample["image"]), **maps}))
    return panels
