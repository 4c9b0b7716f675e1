import torch

from ppar_lightning.images.classes import IGNORE
from ppar_lightning.method.grid import grid_labels


def test_a_position_stands_for_the_largest_area_of_its_cell():
    label = torch.full((1, 8, 16), 2)
    label[0, :, 8:] = 5  # the right cell: 5 of 8 columns class 5, 3 ignored
    label[0, :, 13:] = IGNORE
    grid = grid_labels(label, (1, 2), 19)
    assert grid.label.tolist() == [[2, 5]]
    torch.testing.assert_close(grid.purity, torch.tensor([[1.0, 5 / 8]]))
    assert grid.counted.all()
    assert grid.present[0].nonzero().flatten().tolist() == [2, 5]
    assert grid.one_hot(19).sum(dim=(0, 1)).nonzero().flatten().tolist() == [2, 5]


def test_ignored_and_mixed_cells_do_not_count():
    half = torch.full((1, 4, 4), IGNORE)
    half[:, :2] = 7
    assert not grid_labels(half, (1, 1), 19).counted.item()
    mixed = torch.tensor([[[0, 1, 2, 3]]])
    assert not grid_labels(mixed, (1, 1), 19).counted.item()
    assert grid_labels(half, (1, 1), 19).one_hot(19).sum() == 0


def test_a_batch_without_a_valid_pixel_is_no_position():
    grid = grid_labels(torch.full((2, 8, 8), IGNORE), (2, 2), 19)
    assert not grid.counted.any()
    assert not grid.present.any()
