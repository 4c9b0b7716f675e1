"""Which images are drawn, how often, and what their crops show."""

import dataclasses

import numpy as np
import pytest
import trees
from test_datamodule import PLAIN, batches, equal, fog, ramp, sample_of, train

from ppar_lightning.data import sampling
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.epoch_order import NO_FOCUS, EpochOrder, Sampling, class_chances
from ppar_lightning.data.transforms import Augment
from ppar_lightning.images.classes import IGNORE

CLASS_UNIFORM = Sampling("class_uniform", share=0.5)
RARE_CLASS = Sampling("rare_class", temperature=0.5, min_pixels=10)


def table(*rows):
    """Pixel counts of the first classes; the others have none."""
    counts = np.zeros((len(rows), 19), np.int64)
    counts[:, : len(rows[0])] = rows
    return counts


COUNTS = table((90, 0, 0), (90, 10, 0), (60, 40, 0), (40, 40, 20), *[(100, 0, 0)] * 36)


def test_uniform_draws_every_image_once():
    order = EpochOrder([6, 4], seed=3)
    for epoch in (0, 5):
        samples, focus = order.draws(epoch)
        np.testing.assert_array_equal(samples, np.random.default_rng((3, epoch)).permutation(10))
        assert (focus == NO_FOCUS).all()


def test_class_uniform_gives_classes_their_share():
    order = EpochOrder([40], 0, CLASS_UNIFORM, counts=COUNTS)
    draws = [order.draws(epoch) for epoch in range(150)]
    samples, focus = (np.concatenate(each) for each in zip(*draws, strict=True))
    by_class = focus != NO_FOCUS
    assert all((each != NO_FOCUS).sum() == 20 for _, each in draws)
    assert all((COUNTS[samples, focus] > 0)[by_class])
    np.testing.assert_allclose(
        np.bincount(focus[by_class], minlength=19)[:4] / 3000, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.03
    )
    np.testing.assert_array_equal(np.bincount(samples[~by_class]), 75)  # over two epochs each image once
    for k, holders in ((1, {1, 2, 3}), (2, {3})):
        assert set(samples[focus == k]) == holders
    for epoch_samples, epoch_focus in draws[:20]:  # the holders of a class take turns
        turns = np.bincount(epoch_samples[epoch_focus == 1], minlength=4)[1:4]
        assert turns.max() - turns.min() <= 1


def test_rare_class_draws_by_the_softmax_of_frequency():
    counts = table((60, 0), (15, 20), (0, 5))  # frequencies 0.75 and 0.25
    expected = np.exp([0.25 / 0.5, 0.75 / 0.5])
    chances = class_chances(counts, RARE_CLASS)
    np.testing.assert_allclose(chances[:2], expected / expected.sum())
    assert not chances[2:].any()
    order = EpochOrder([3], 0, RARE_CLASS, counts=counts)
    samples, focus = (np.concatenate(each) for each in zip(*map(order.draws, range(1500)), strict=True))
    assert set(zip(samples.tolist(), focus.tolist(), strict=True)) == {(0, 0), (1, 0), (1, 1)}  # 5 pixels do not count
    assert (focus == 1).mean() == pytest.approx(chances[1], abs=0.02)


@pytest.mark.remedy("data/epoch_order.py::class_chances")
@pytest.mark.remedy("data/epoch_order.py::Sampling.__post_init__")
def test_rarer_than_rare_is_refused():
    with pytest.raises(
        ValueError, match="no image holds more than 99 pixels of a class; lower --data.sampling.min_pix"
    ):
        EpochOrder([4], 0, Sampling("rare_class", min_pixels=99), counts=COUNTS[:4])
    with pytest.raises(ValueError, match="share 1.5, .* give a share in"):
        Sampling(share=1.5)
    for value in (0, 1):
        assert Sampling("class_uniform", share=value).class_share == value
    lower = Sampling("rare_class", min_pixels=1, temperature=1e-3)  # at least 1 pixel, a temperature above 0
    assert len(EpochOrder([4], 0, lower, counts=COUNTS[:4]).draws(0)[0]) == 4


def test_unreadable_labels_hold_no_class():
    counts = np.concatenate([COUNTS[:4], np.full((4, 19), -1)])
    np.testing.assert_allclose(class_chances(counts, RARE_CLASS), class_chances(COUNTS[:4], RARE_CLASS))


@pytest.mark.parametrize("rule", [Sampling(), Sampling("class_uniform", share=0.0)])
def test_weights_share_out_the_epoch(rule):
    """Sources of 10, 30 and 60 images, weights 5 : 3 : 2: the first is used five times over, the last by a third."""
    order = EpochOrder([10, 30, 60], 1, rule, weights=[5, 3, 2], counts=np.ones((100, 19), np.int64))
    draws = np.stack([order.draws(epoch)[0] for epoch in range(6)])
    assert draws.shape == (6, 100)
    for low, high, share in ((0, 10, 50), (10, 40, 30), (40, 100, 20)):
        each = [epoch[(epoch >= low) & (epoch < high)] for epoch in draws]
        assert [len(images) for images in each] == [share] * 6
        for until in range(1, 7):  # all are used once before one is used twice
            uses = np.bincount(np.concatenate(each[:until]) - low, minlength=high - low)
            assert uses.max() - uses.min() <= 1
    assert (draws[0] != draws[1]).any()


def test_weighted_sources_are_mixed():
    order = EpochOrder([50, 50], 0, weights=[0.25, 0.75])
    first_half = order.draws(0)[0][:50]
    assert 20 < (first_half >= 50).sum() < 48


@pytest.mark.remedy("data/roles.py::check_roles")
@pytest.mark.parametrize(
    ("weights", "unseen", "fault"),
    [
        ((1.0, None), None, r"weights of the sources are \{'a': 1.0, 'b': None\}; give each a number above 0, or none"),
        ((1.0, 0.0), None, "give each a number above 0"),
        ((None, None), 1.0, "or none of them, and none to unseen domains"),
    ],
)
def test_faulty_weights_are_named(weights, unseen, fault):
    sources = {name: Domain(dataset="game", weight=weight) for name, weight in zip("ab", weights, strict=True)}
    with pytest.raises(ValueError, match=fault):
        DomainDataModule(sources, {"c": Domain(dataset="fog", weight=unseen)})
    for share in (2.0, None):
        sources = {name: Domain(dataset="game", weight=share) for name in "ab"}
        DomainDataModule(sources, {"c": Domain(dataset="fog")})


def test_weights_are_followed_by_batches():
    options = {"size": [32, 64], "length": 8}
    sources = {"game": Domain(options=options, weight=3), "rain": Domain(options=options, weight=1)}
    names = [name for batch in batches(fog(sources=sources)) for name in batch["domain"]]
    assert (names.count("game"), names.count("rain")) == (12, 4)


SPOT = np.zeros((64, 128), np.uint8)
SPOT[40:43, 100:104] = 7


def test_the_crop_surrounds_a_pixel_of_the_class():
    augment = Augment((16, 24), PLAIN)
    crops = [augment(sample_of(SPOT), (seed,), focus=7)["label"] for seed in range(60)]
    assert all((crop == 7).any() for crop in crops)
    assert len({tuple(np.argwhere(crop == 7)[0]) for crop in crops}) > 20
    assert sum((augment(sample_of(SPOT), (seed,))["label"] == 7).any() for seed in range(60)) < 20
    absent = [augment(sample_of(SPOT), (seed,), focus)["label"] for seed in range(9) for focus in (9, None)]
    assert all((a == b).all() for a, b in zip(absent[::2], absent[1::2], strict=True))  # as without a wish


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_wanted_class_is_shown_at_every_scale(factor):
    label = np.zeros((64, 128), np.uint8)
    label[40:46, 100:110] = 7
    augment = Augment((32, 32), dataclasses.replace(PLAIN, scale=(factor, factor)))
    assert all((augment(sample_of(label), (seed,), 7)["label"] == 7).any() for seed in range(40))


def test_rare_class_crops_hold_enough_in_ten_tries():
    label = np.zeros((64, 128), np.uint8)
    label[:, 96:] = 7
    augment = Augment((32, 32), PLAIN, focus_pixels=300)
    shares = []
    for focus in (None, 7):
        held = [(augment(sample_of(label), (seed,), focus)["label"] == 7).sum() for seed in range(60)]
        shares.append(np.mean(np.array(held) > 300))
    assert shares[0] < 0.5
    assert shares[1] > 0.85
    doubled = Augment((32, 32), dataclasses.replace(PLAIN, scale=(2, 2)), focus_pixels=300)  # pixels of the crop
    held = [(doubled(sample_of(label), (seed,), 7)["label"] == 7).sum() for seed in range(60)]
    assert np.mean(np.array(held) > 300) > 0.85


def test_small_images_are_padded_around_the_wanted_class():
    label = ramp((6, 8))
    crop = Augment((12, 16), PLAIN)(sample_of(label), (0,), focus=5)["label"]
    np.testing.assert_array_equal(crop[crop != IGNORE].reshape(6, 8), label)


RULES = {
    "class_uniform": {"sampling": Sampling("class_uniform", share=0.6)},
    "rare_class": {"sampling": Sampling("rare_class", min_pixels=20)},
    "weights": {
        "sources": {
            "game": Domain(options={"size": [32, 64], "length": 4}, weight=2),
            "rain": Domain(options={"size": [32, 64], "length": 6}, weight=1),
        }
    },
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_crops_depend_on_seed_and_epoch_alone(rule, monkeypatch):
    reference = batches(fog(**rule), epoch=1)
    assert equal(reference, batches(fog(workers=2, **rule), epoch=1))
    assert not equal(reference, batches(fog(**rule), epoch=0))
    assert not equal(reference, batches(fog(seed=1, **rule), epoch=1))
    crops = [
        image.numpy().tobytes()
        for epoch in (0, 1)
        for b in batches(fog(workers=2, **rule), epoch)
        for image in b["image"]
    ]
    assert len(crops) == len(set(crops)) == 16
    shares = []
    for rank in range(2):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(sampling, "world_size", lambda: 2)
        shares.append(batches(fog(batch_size=2, **rule), epoch=1))
    for whole, *parts in zip(reference, *shares, strict=True):
        assert whole["name"] == [name for pair in zip(*(part["name"] for part in parts), strict=True) for name in pair]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_resumed_run_goes_on_within_the_epoch(tmp_path, rule):
    whole = train(tmp_path / "whole", 5, **rule)
    start = train(tmp_path / "part", 2, **rule)
    rest = train(tmp_path / "rest", 5, resume=tmp_path / "part/step=2.ckpt", **rule)
    assert start + rest == whole


def test_the_statistics_reach_the_crops(tmp_path):
    """One image in eight holds a rider: every crop that is drawn for the class shows it."""
    root = trees.cityscapes(tmp_path, {"train": 8, "val": 1}, ids=[7])
    label = np.full(trees.SIZE, 7, np.uint8)
    label[20:24, 50:54] = 25
    path = sorted(root.glob("gtFine/train/*/*labelIds.png"))[0]
    trees.write_label(path, label)
    rule = Sampling("class_uniform", share=1.0)
    datamodule = DomainDataModule(
        {"cityscapes": Domain(root=str(root))},
        crop=(16, 16),
        batch_size=8,
        workers=0,
        augmentation=PLAIN,
        sampling=rule,
    )
    shown = [
        int((label == 12).any()) for epoch in range(20) for b in batches(datamodule, epoch) for label in b["label"]
    ]
    assert 0.35 < np.mean(shown) < 0.65  # road and rider are as likely, uniform sampling would show it in 1 of 80
