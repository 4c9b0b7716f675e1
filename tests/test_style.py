"""Style randomisation: images change, labels and crops do not."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import trees

from ppar_lightning.data.transforms import Augment, Augmentation

PLAIN = Augmentation(scale=(1, 1), max_class_share=1, flip=0, jitter=0, blur=0)
SEEDS = range(40)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return {"image": image, "label": trees.stripes(range(8), (64, 64)), "name": "a", "domain": "d", "error": []}


def many(sample, augmentation):
    augment = Augment((32, 48), augmentation)
    return [augment(sample, (0, seed)) for seed in SEEDS]


def test_crops_flips_and_labels_are_those_of_the_recipe_without_it(sample):
    without, styled = (many(sample, Augmentation(style=style)) for style in (0.0, 1.0))
    for first, second in zip(without, styled, strict=True):
        np.testing.assert_array_equal(first["label"], second["label"])
        assert second["image"].dtype == np.uint8
    assert sum((a["image"] != b["image"]).any() for a, b in zip(without, styled, strict=True)) > 0.9 * len(SEEDS)


def test_an_image_that_is_spared_is_that_of_the_recipe_without_it(sample):
    without, styled = (many(sample, Augmentation(style=style)) for style in (0.0, 0.5))
    spared = [(a["image"] == b["image"]).all() for a, b in zip(without, styled, strict=True)]
    assert 0.3 < np.mean(spared) < 0.7


@pytest.mark.slow
def test_data_loads_albumentations_only_for_a_style():
    code = (
        "import sys; from ppar_lightning.data import datamodule, transforms; {}; print('albumentations' in sys.modules)"
    )
    for line, loaded in (("0", "False"), ("transforms.Augment((8, 8), transforms.Augmentation(style=0.1))", "True")):
        found = subprocess.run([sys.executable, "-c", code.format(line)], capture_output=True, text=True, check=True)
        assert found.stdout.split()[-1] == loaded


def test_a_style_depends_on_its_entropy_alone(sample):
    augment = Augment((32, 48), Augmentation(style=1.0))
    first = augment(sample, (0, 1))
    augment(sample, (7,))
    np.testing.assert_array_equal(augment(sample, (0, 1))["image"], first["image"])
    assert (augment(sample, (0, 2))["image"] != first["image"]).any()


def test_styles_are_many_and_leave_the_scene(sample):
    styled = dataclasses.replace(PLAIN, style=1.0)
    augment, plain = Augment((64, 64), styled), Augment((64, 64), PLAIN)(sample, (0,))["image"].astype(float)
    images = [augment(sample, (seed,))["image"].astype(float) for seed in SEEDS]
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    assert (means.std(axis=0) > 20).all()  # in levels of 256
    grey = [(image.max(axis=2) - image.min(axis=2)).mean() < 1 for image in images]
    assert 0 < np.mean(grey) < 0.4

    def edges(image):
        steps = np.abs(np.diff(image, axis=1)).sum(axis=(0, 2))
        return steps[7::8].mean(), steps[3::8].mean()

    borders, insides = np.array([edges(image) for image in images]).T
    assert edges(plain)[1] == 0
    assert np.mean(borders > 2 * insides) > 0.8  # patches are still told apart
