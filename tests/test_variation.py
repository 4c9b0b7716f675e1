"""Variations of training samples: what a worker draws is what a device applies."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ppar_lightning.images.colour import apply_map
from ppar_lightning.images.variation import RADIUS, SIGMAS, Variation, draw_variation, gaussian_blur, vary

PLAIN = Variation(torch.eye(3, 4), torch.tensor(0.0), torch.tensor(False))
STRENGTH = 0.4


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 40, 3), dtype=np.uint8)


def applied(images, variations):
    given = Variation(*map(torch.stack, zip(*variations, strict=True)))
    label = torch.from_numpy(images[..., 0].copy())
    varied, labels = vary(torch.from_numpy(images).permute(0, 3, 1, 2), label, given)
    return varied.permute(0, 2, 3, 1).numpy(), labels.numpy()


def test_an_image_without_variation_stays_bit_for_bit(images):
    np.testing.assert_array_equal(applied(images, [PLAIN] * 3)[0], images)
    drawn = draw_variation(images[0], np.random.default_rng(0), (0, 0, 0), STRENGTH)
    assert all(map(torch.equal, drawn, PLAIN))


def test_image_and_label_are_flipped_together(images):
    varied, labels = applied(images, [PLAIN, PLAIN._replace(flip=torch.tensor(True)), PLAIN])
    for changed, original in ((varied, images), (labels, images[..., 0])):
        np.testing.assert_array_equal(changed[[0, 2]], original[[0, 2]])
        np.testing.assert_array_equal(changed[1], original[1][:, ::-1])


def test_colours_are_those_of_the_transform(images):
    rngs = map(np.random.default_rng, range(3))
    drawn = [draw_variation(image, rng, (1, 0, 0), STRENGTH) for image, rng in zip(images, rngs, strict=True)]
    for image, variation, changed in zip(images, drawn, applied(images, drawn)[0], strict=True):
        expected = apply_map(image, variation.colours.double().numpy())
        assert np.abs(changed.astype(int) - expected).max() <= 1  # halves are rounded elsewhere
        assert (changed != image).mean() > 0.5


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.3])
def test_the_blur_is_a_gaussian_of_each_image(images, sigma):
    changed = applied(images, [PLAIN, PLAIN._replace(sigma=torch.tensor(sigma)), PLAIN])[0]
    np.testing.assert_array_equal(changed[[0, 2]], images[[0, 2]])
    size = (2 * RADIUS + 1,) * 2
    expected = cv2.GaussianBlur(images[1].astype(np.float32), size, sigma, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(changed[1] - expected).max() <= 0.51


def test_a_blur_keeps_the_sum_and_spreads_as_stated():
    point = torch.zeros(2, 1, 15, 15)
    point[:, :, 7, 7] = 1
    spread = gaussian_blur(point, torch.tensor([1.0, 0.0]))
    assert spread[0].sum() == pytest.approx(1)
    assert spread[0, 0, 7, 8] / spread[0, 0, 7, 7] == pytest.approx(0.6065, rel=1e-3)
    assert torch.equal(spread[1], point[1])


class Operations(TorchDispatchMode):
    """List the names of the operations that run, without the views, which are no work."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view:
            self.names.append(function._schema.name.removeprefix("aten::"))
        return function(*args, **kwargs or {})


def test_a_batch_is_varied_in_few_operations_and_without_waiting_for_the_device(images):
    with Operations() as operations:
        applied(images, [PLAIN, PLAIN._replace(flip=torch.tensor(True)), PLAIN._replace(sigma=torch.tensor(1.0))])
    assert not {"_local_scalar_dense", "nonzero", "masked_select", "equal"} & {*operations.names}
    assert len(operations.names) < 28


def test_shares_and_ranges_are_those_asked_for(images):
    rng = np.random.default_rng(1)
    drawn = [draw_variation(images[0], rng, (0.8, 0.5, 0.3), STRENGTH) for _ in range(400)]
    colours, sigma, flip = (torch.stack(field).numpy() for field in zip(*drawn, strict=True))
    changed = (colours != PLAIN.colours.numpy()).any(axis=(1, 2))
    assert 0.74 < changed.mean() < 0.86
    assert 0.42 < (sigma > 0).mean() < 0.58
    assert 0.23 < flip.mean() < 0.37
    assert SIGMAS[0] <= sigma[sigma > 0].min() < 0.4
    assert 1.2 < sigma.max() <= SIGMAS[1]
