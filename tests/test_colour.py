"""Colour jitter: four affine changes, each what its name says."""

import cv2
import numpy as np
import pytest

from ppar_lightning.images.colour import LUMA, apply_map, draw_map, saturate, turn_hue

COLOURS = np.random.default_rng(0).uniform(60, 180, (50, 3))


def hue(colours):
    return cv2.cvtColor(colours.astype(np.float32)[None], cv2.COLOR_RGB2HSV)[0, :, 0]


def test_saturation_goes_from_grey_to_the_colour_and_beyond():
    np.testing.assert_allclose(COLOURS @ saturate(0).T, np.repeat(COLOURS @ LUMA, 3).reshape(-1, 3))
    np.testing.assert_allclose(COLOURS @ saturate(1).T, COLOURS)
    np.testing.assert_allclose(COLOURS @ saturate(1.5).T @ LUMA, COLOURS @ LUMA)


@pytest.mark.parametrize("turn", [-0.1, 0.05, 0.1])
def test_hue_turns_and_keeps_luma_and_greys(turn):
    turned = COLOURS @ turn_hue(turn).T
    np.testing.assert_allclose(turned @ LUMA, COLOURS @ LUMA)
    np.testing.assert_allclose(turn_hue(turn) @ [9, 9, 9], [9, 9, 9], atol=1e-9)
    np.testing.assert_allclose(turn_hue(turn) @ turn_hue(-turn), np.eye(3), atol=1e-9)
    moved = (hue(turned) - hue(COLOURS) + 180) % 360 - 180
    assert abs(np.median(moved) - 360 * turn) < 12  # nearly what it is in HSV


def test_the_map_is_the_four_changes_one_after_another():
    seen = []
    for seed in range(200):
        image = np.full((16, 8, 3), (100, 100, 100), np.uint8)
        image[:8] = 200  # grey: only brightness and contrast matter, the mean is 150
        matrix, offset = np.split(draw_map(image, 0.4, np.random.default_rng(seed)), [3], axis=1)
        dark, light = (matrix @ [v, v, v] + offset[:, 0] for v in (100, 200))
        np.testing.assert_allclose(dark, dark[0])
        np.testing.assert_allclose(light, light[0])
        brightness = (dark[0] + light[0]) / 300
        contrast = (light[0] - dark[0]) / 100 / brightness
        seen.append((brightness, contrast))
    seen = np.array(seen)
    assert 0.6 <= seen.min() < 0.65
    assert 1.35 < seen.max() <= 1.4
    assert abs(np.corrcoef(seen.T)[0, 1]) < 0.2


def test_the_image_is_rounded_and_clipped():
    image = np.array([[[0, 100, 255]]], np.uint8)
    shifted = apply_map(image, np.column_stack([np.eye(3), [-10, 0.6, 10]]))
    assert shifted.tolist() == [[[0, 101, 255]]]
    assert (apply_map(image, draw_map(image, 0.0, np.random.default_rng(0))) == image).all()
