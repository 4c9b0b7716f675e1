"""Training pictures of the tiny CLIP: crops around objects, windows and whole scenes of `web` streets."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.streets.render import render, scene_style
from ppar_lightning.streets.styles import Style

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""The normalisation of OpenAI's CLIP."""

SIDE = 32
"""Rows and columns of crops and windows."""

MINIMUM_AREA = 30
POINTS = 3
POLE = CITYSCAPES.index("pole")

Images = npt.NDArray[np.uint8]
"""(N, H, W, 3) RGB."""


@dataclass(frozen=True)
class View:
    """A square of a scene that shows one class: number of the scene, train id, centre and side in pixels."""

    scene: int
    label: int
    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Album:
    """Rendered scenes, with the facts that a caption may state.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        labels: (N, H, W) train ids. Only the set of classes that a picture shows is used, never their positions.
        conditions: Keys of CONDITIONS for each scene.
        views: Squares centred on objects, by class.
    """

    images: Images
    labels: npt.NDArray[np.uint8]
    conditions: list[list[str]]
    views: list[list[View]]


Page = tuple[Images, npt.NDArray[np.uint8], list[str], list[View]]
"""Image, labels, conditions and views of one scene."""


def conditions(style: Style) -> list[str]:
    """Return the visible weather and light of a style, as keys of CONDITIONS."""
    seen = {"fog": style.fog > 0.008, "dark": style.light < 0.75, "rain": style.rain > 8, "snow": style.snow > 0.2}
    return [name for name, visible in seen.items() if visible] or ["clear"]


def render_album(seed: int, count: int, style: str = "web", workers: int = 2) -> Album:
    """Render `count` streets of a seed with a progress bar, in worker processes if there are several."""
    page = partial(_page, seed, style)
    with ExitStack() as stack:
        pages: Iterable[Page] = map(page, range(count))
        if workers:
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            pages = pool.map(page, range(count), chunksize=16)
        done = list(track(pages, f"rendering {style}", total=count))
    views: list[list[View]] = [[] for _ in CITYSCAPES]
    for *_, found in done:
        for view in found:
            views[view.label].append(view)
    images, labels, weather, _ = zip(*done, strict=True)
    return Album(np.stack(images), np.stack(labels), list(weather), views)


def _page(seed: int, style: str, index: int) -> Page:
    """Render one scene, and find its conditions and views."""
    cv2.setNumThreads(1)
    scene = render(seed, index, style)
    views = list(_views(index, scene.label, np.random.default_rng((seed, index))))
    return scene.image, scene.label, conditions(scene_style(seed, index, style)), views


def _views(scene: int, label: npt.NDArray[np.uint8], rng: np.random.Generator) -> Iterable[View]:
    """Find squares around connected objects, and squares around random points of large classes."""
    for number in np.unique(label):
        mask = (label == number).astype(np.uint8)
        _, _, stats, centres = cv2.connectedComponentsWithStats(mask)
        for (_, _, width, height, area), (x, y) in zip(stats[1:], centres[1:], strict=True):
            side = 1.25 * max(width, height)
            if area >= MINIMUM_AREA and area >= 0.12 * side * side:
                yield View(scene, int(number), x, y, max(side, 20.0))
        rows, columns = np.nonzero(mask)
        for pick in rng.integers(len(rows), size=POINTS):
            side = rng.uniform(20, 64)
            view = View(scene, int(number), columns[pick], rows[pick], side)
            if cut(mask, view, cv2.INTER_NEAREST).mean() > (0.1 if number == POLE else 0.3):
                yield view


def cut(image: npt.NDArray[np.uint8], view: View, interpolation: int = cv2.INTER_LINEAR) -> npt.NDArray[np.uint8]:
    """Cut out a view and resize it to SIDE x SIDE; beyond the borders the image is mirrored."""
    zoom = view.side / SIDE
    corner = zoom * 0.5 - view.side / 2
    matrix = np.array([[zoom, 0, view.x + corner], [0, zoom, view.y + corner]])
    flags = interpolation | cv2.WARP_INVERSE_MAP
    resized = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(resized, dtype=np.uint8)


def jittered(view: View, rng: np.random.Generator) -> View:
    """Move and scale a view a little."""
    dx, dy = rng.uniform(-0.1, 0.1, 2) * view.side
    return View(view.scene, view.label, view.x + dx, view.y + dy, view.side * rng.uniform(0.9, 1.5))


def draw_objects(album: Album, count: int, rng: np.random.Generator) -> tuple[Images, list[View]]:
    """Draw crops of every class in equal shares, with their views."""
    stocked = [label for label, views in enumerate(album.views) if views]
    picks = [album.views[label] for label in rng.choice(stocked, count)]
    views = [jittered(views[rng.integers(len(views))], rng) for views in picks]
    return np.stack([cut(album.images[view.scene], view) for view in views]), views


def draw_windows(
    album: Album, count: int, rng: np.random.Generator
) -> tuple[Images, npt.NDArray[np.float32], list[int]]:
    """Draw squares of 24 to 56 pixels anywhere, the share of each class in them, (N, K), and their scenes."""
    _, height, width, _ = album.images.shape
    scenes = rng.integers(len(album.images), size=count).tolist()
    views = [
        View(scene, 0, rng.uniform(0, width), rng.uniform(0.2, 0.9) * height, rng.uniform(24, 56)) for scene in scenes
    ]
    images = np.stack([cut(album.images[view.scene], view) for view in views])
    shown = [cut(album.labels[view.scene], view, cv2.INTER_NEAREST) for view in views]
    return images, _shares(shown), scenes


def draw_scenes(
    album: Album, count: int, rng: np.random.Generator
) -> tuple[Images, npt.NDArray[np.float32], list[int]]:
    """Draw whole scenes, the share of each class in them, (N, K), and their numbers."""
    scenes = rng.integers(len(album.images), size=count).tolist()
    return album.images[scenes], _shares([album.labels[scene] for scene in scenes]), scenes


def normalise(images: Images) -> Tensor:
    """Normalise (B, H, W, 3) uint8 to (B, 3, H, W) float with CLIP's mean and standard deviation."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def _shares(labels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Return the share of each class in each label map, (N, K)."""
    counts = [np.bincount(label.ravel(), minlength=len(CITYSCAPES)) / label.size for label in labels]
    return np.stack(counts).astype(np.float32)
