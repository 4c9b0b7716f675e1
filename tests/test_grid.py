import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ppar_lightning.images.classes import IGNORE
from ppar_lightning.method.grid import Grid, grid_labels, resize


def test_a_position_stands_for_the_largest_area_of_its_cell():
    label = torch.full((1, 8, 16), 2)
    label[0, :, 8:] = 5  # the right cell: 5 of 8 columns class 5, 3 ignored
    label[0, :, 13:] = IGNORE
    grid = grid_labels(label, Grid.over((1, 2), (8, 16)), 19)
    assert grid.label.tolist() == [[2, 5]]
    torch.testing.assert_close(grid.purity, torch.tensor([[1.0, 5 / 8]]))
    assert grid.counted.all()
    assert grid.present[0].nonzero().flatten().tolist() == [2, 5]
    assert grid.one_hot(19).sum(dim=(0, 1)).nonzero().flatten().tolist() == [2, 5]


def test_ignored_and_mixed_cells_do_not_count():
    half = torch.full((1, 4, 4), IGNORE)
    half[:, :2] = 7
    assert not grid_labels(half, Grid.over((1, 1), (4, 4)), 19).counted.item()
    mixed = torch.tensor([[[0, 1, 2, 3]]])
    assert not grid_labels(mixed, Grid.over((1, 1), (1, 4)), 19).counted.item()
    assert grid_labels(half, Grid.over((1, 1), (4, 4)), 19).one_hot(19).sum() == 0


def test_a_batch_without_a_valid_pixel_is_no_position():
    grid = grid_labels(torch.full((2, 8, 8), IGNORE), Grid.over((2, 2), (8, 8)), 19)
    assert not grid.counted.any()
    assert not grid.present.any()


def test_cells_of_whole_pixels_are_pooled_and_spread_as_torch_does():
    maps = torch.rand(2, 3, 24, 40)
    grid = Grid.over((6, 10), (24, 40))
    torch.testing.assert_close(grid.pool(maps), F.adaptive_avg_pool2d(maps, (6, 10)), atol=1e-5, rtol=0)
    cells = torch.rand(2, 3, 6, 10)
    expected = F.interpolate(cells, (24, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(grid.spread(cells, (24, 40)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(7, 9), (24, 40), (33, 50), (24, 13)])
def test_images_are_resized_as_torch_resizes_them_with_antialiasing(size):
    image = torch.rand(2, 3, 24, 40)
    expected = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(resize(image, size), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(13, 18), (16, 24), (9, 17)])
def test_a_padded_image_is_mapped_as_its_padded_self_and_cropped(height, width):
    grid = Grid.over((4, 6), (16, 24))
    cells = torch.rand(1, 2, 4, 6)
    expected = F.interpolate(cells, (16, 24), mode="bilinear", align_corners=False)[..., :height, :width]
    torch.testing.assert_close(grid.spread(cells, (height, width)), expected, atol=1e-5, rtol=0)
    label = torch.randint(0, 4, (1, height, width))
    padded = F.pad(label, (0, 24 - width, 0, 16 - height), value=IGNORE)
    ours, whole = grid_labels(label, grid, 4), grid_labels(padded, grid, 4)
    for one, other in zip(ours, whole, strict=True):
        torch.testing.assert_close(one, other)


def test_a_border_stays_where_it_is_whatever_is_padded():
    label = torch.zeros(1, 8, 26, dtype=torch.long)
    label[..., 20:] = 1  # the border lies on that between cells 4 and 5, each of 4 pixels; 2 pixels are missing
    grid = grid_labels(label, Grid.over((2, 8), (8, 32)), 2)
    assert grid.label[0, :8].tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert grid.counted[0, :8].tolist() == [True] * 6 + [False] * 2  # cell 6 is ignored by half
    torch.testing.assert_close(grid.purity[0, :6], torch.ones(6))


def test_cells_of_fractional_size_share_the_pixels_that_lie_on_their_border():
    label = torch.tensor([[[0, 0, 0, 0, 1, 1, 1]]]).expand(1, 7, 7)
    grid = grid_labels(label, Grid.over((2, 2), (7, 7)), 2)  # cells of 3.5 pixels
    assert grid.label.tolist() == [[0, 1, 0, 1]]
    torch.testing.assert_close(grid.purity, torch.tensor([[1.0, 3 / 3.5, 1.0, 3 / 3.5]]))
    steps = Grid.over((1, 2), (1, 7)).spread(torch.tensor([[0.0, 1.0]]), (1, 7))
    torch.testing.assert_close(steps[0], ((torch.arange(7) + 0.5) / 3.5 - 0.5).clamp(0, 1))


@pytest.mark.parametrize(("size", "covered"), [((13, 18), (16, 24)), ((7, 5), (7, 7))])
def test_a_pixel_has_the_value_of_its_cell(size, covered):
    grid, cells = Grid.over((2, 3), covered), torch.arange(6.0).view(2, 3)
    drawn = grid.look_up(cells, size)
    for row, column in np.ndindex(*size):
        place = int((row + 0.5) * 2 / covered[0]), int((column + 0.5) * 3 / covered[1])
        assert drawn[row, column] == cells[place]


def test_merged_cells_are_those_of_average_pooling():
    grid = Grid.over((5, 7), (20, 28))
    merged = grid.coarser(2)
    assert merged.size == F.avg_pool2d(torch.zeros(1, 1, 5, 7), 2, ceil_mode=True).shape[-2:]
    assert merged.cell == (8, 8)
    maps = torch.rand(1, 1, 20, 28)
    expected = F.avg_pool2d(grid.pool(maps), 2)
    torch.testing.assert_close(merged.pool(maps)[..., :2, :3], expected, atol=1e-6, rtol=0)


def test_a_class_of_one_pixel_is_present():
    label = torch.zeros(1, 32, 32, dtype=torch.long)
    label[0, 31, 31] = 3
    assert grid_labels(label, Grid.over((3, 3), (32, 32)), 5).present.tolist() == [[True, False, False, True, False]]
