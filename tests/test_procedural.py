"""Procedural streets: the same geometry in every style, in every process."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from torch.utils.data import DataLoader

from ppar_lightning.data.datasets.streets import ProceduralStreets
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.streets.geometry import GROUND, Camera, Street, facing, rasterise, rect
from ppar_lightning.streets.render import DOMAINS, render, scene_style
from ppar_lightning.streets.styles import CITY, GAME, STYLES, Material, Style, draw_web_style, held_out


def test_geometry_does_not_depend_on_the_style():
    game = render(1, 7, "game")
    for style in DOMAINS[1:]:
        other = render(1, 7, style)
        np.testing.assert_array_equal(other.label, game.label)
        np.testing.assert_array_equal(other.depth, game.depth)
        assert np.abs(other.image.astype(int) - game.image).mean() > 10


def test_scenes_differ_between_indices_and_seeds():
    labels = [render(seed, index, "game").label for seed, index in ((1, 0), (1, 1), (2, 0))]
    assert (labels[0] != labels[1]).mean() > 0.1
    assert (labels[0] != labels[2]).mean() > 0.1


def test_spawned_process_renders_the_same():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = list(pool.map(partial(render, 3, style="web"), range(3)))
    for index, scene in enumerate(there):
        for mine, theirs in zip(render(3, index, "web"), scene, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_workers_render_the_same():
    streets = ProceduralStreets(None, "train", "rain", "rain", length=6)
    alone, workers = (list(DataLoader(streets, batch_size=2, num_workers=count)) for count in (0, 2))
    for one, other in zip(alone, workers, strict=True):
        assert one["name"] == other["name"]
        assert (one["image"] == other["image"]).all()
        assert (one["label"] == other["label"]).all()


def test_labels_are_train_ids_and_every_class_occurs_often():
    scenes = [render(2, index, "game") for index in range(80)]
    counts = np.stack([np.bincount(scene.label.ravel(), minlength=len(CITYSCAPES)) for scene in scenes])
    assert counts.shape[1] == len(CITYSCAPES)
    often = (counts >= 40).mean(axis=0)
    assert often.min() > 0.15, dict(zip(CITYSCAPES, often, strict=True))


def test_depth_is_positive_and_the_sky_is_farthest():
    scene = render(1, 5, "game")
    assert scene.depth.dtype == np.float32
    assert scene.depth.min() > 0
    sky = scene.label == CITYSCAPES.index("sky")
    assert scene.depth[sky].min() > scene.depth[~sky].max()


def test_depth_and_occlusion_follow_the_camera():
    camera = Camera((128, 256), focal=0.5, height=1.5, horizon=0.5)
    street = Street(camera)
    for label, material, patch, polygons in (
        (0, Material.SKY, facing(0, 300, 4000, -4000, 4000), rect(0, 0, 1, 1)),
        (3, Material.CAR_PAINT, facing(0, 10, 2, 0, 3), rect(0, 0, 1, 1)),
        (1, Material.ASPHALT, GROUND, rect(-50, 1, 50, 100)),
        (2, Material.WALL, facing(0.5, 20, 6, 0, 6), rect(0, 0, 1, 1)),
    ):
        distance = {0: 1e4, 1: 1e3, 2: 20, 3: 10}[label]
        street.paint(street.thing(label, distance), material, patch, polygons)
    seen = rasterise(street)
    assert seen.label[64, 128] == 3  # the nearer wall, though it was painted first
    assert seen.label[60, 150] == 2
    np.testing.assert_allclose(seen.depth[64, 128], 10, rtol=1e-5)
    np.testing.assert_allclose(seen.depth[60, 150], 20, rtol=1e-5)
    # a row v of the ground lies at focal * height / (v + 1/2 - horizon): 128 * 1.5 / 31.5
    assert seen.label[95, 20] == 1
    np.testing.assert_allclose(seen.depth[95, 20], 128 * 1.5 / 31.5, rtol=1e-4)


def test_web_leaves_the_unseen_styles_out():
    free = ("game", "dusk", "dirt")  # web may come near these
    unseen = [style for name, style in STYLES.items() if name not in free]
    assert all(held_out(style) for style in unseen)
    assert not held_out(STYLES["game"])
    assert held_out(Style("almost city", np.clip(CITY + 0.03, 0, 1)))
    for name in ("fog", "light", "rain", "wet", "snow"):
        extreme = max(
            (getattr(style, name) for style in unseen), key=lambda value: abs(value - getattr(Style("x"), name))
        )
        assert held_out(replace(Style("x", GAME), **{name: extreme})), name
    rng = np.random.default_rng(0)
    assert not any(held_out(draw_web_style(rng)) for _ in range(300))


def test_web_has_a_style_for_each_image():
    first, second = scene_style(1, 0, "web"), scene_style(1, 1, "web")
    assert np.abs(first.palette - second.palette).mean() > 0.05
    np.testing.assert_array_equal(first.palette, scene_style(1, 0, "web").palette)


def test_size_is_free():
    scene = render(1, 3, "night", size=(96, 160))
    assert scene.image.shape == (96, 160, 3)
    assert scene.label.shape == scene.depth.shape == (96, 160)


@pytest.mark.remedy("streets/render.py::scene_style")
def test_unknown_style_is_named():
    with pytest.raises(ValueError, match=r"no style 'dawn'; choose one of game, fog") as error:
        render(1, 0, "dawn")
    for style in str(error.value).partition("choose one of ")[2].split(", "):
        scene_style(1, 0, style)
