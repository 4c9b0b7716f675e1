"""Pictures of the page of a run: predictions for the best and worst images, and maps of pixel weights."""

import matplotlib
import numpy as np

from ppar_lightning.analysis.image_scores import score_images
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


Panels = dict[str, dict[str, str]]
"""Caption of an image -> title of each of its pictures -> data URI."""


def predictions(run: LoadedRun, domain: str, images: int) -> Panels:
    """Draw the worst and the best images of a domain, the worst first.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Name of the domain.
        images: Number of images to choose from, at the start of the split.
    """
    scores, half = score_images(run, domain, images), len(RANKS) // 2
    chosen = list(dict.fromkeys([*scores[:half], *scores[-half:]]))
    panels = {}
    for place, score in enumerate(chosen):
        rank = RANKS[place if place < len(chosen) // 2 else place - len(chosen)]
        batch = run.read(domain, score.place)
        predicted = run.predict(batch), run.module.predict_step(batch, 0).confidence
        maps = (batch["image"].permute(0, 2, 3, 1), batch["label"], *predicted)
        image, label, prediction, confidence = (each[0].cpu().numpy() for each in maps)
        shown = np.where(label == IGNORE, IGNORE, prediction)
        figures = f"mIoU {100 * score.miou:.1f} %, mean confidence {confidence.mean():.2f}"
        panels[f"{rank} of {len(scores)}: {batch['name'][0]}, {figures}"] = {
            "image": data_uri(image),
            "ground truth": data_uri(run.data.classes.colourise(label), sharp=True),
            "prediction": data_uri(run.data.classes.colourise(shown), sharp=True),
            "confidence": data_uri((255 * confidence).round().astype(np.uint8)),
        }
    return panels


def weight_maps(run: LoadedRun) -> Panels:
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
    panels = {}
    for place, sample in enumerate(samples[:MAPS]):
        pair = (each[place].cpu().view(grid.size) for each in (positions.weight, positions.counted))
        weight, counted = (grid.look_up(each, run.data.crop).numpy() for each in pair)
        colours = matplotlib.colormaps["RdBu_r"]((weight - WEIGHTS[0]) / (WEIGHTS[1] - WEIGHTS[0]), bytes=True)[..., :3]
        drawn = np.where(counted[..., None], colours, np.uint8(0))
        label = data_uri(run.data.classes.colourise(sample["label"]), sharp=True)
        maps = {"crop": data_uri(sample["image"]), "label": label, "weight": data_uri(drawn, sharp=True)}
        panels[f"{sample['domain']}, {sample['name']}"] = maps
    return panels
