"""Augmentation, order and batches: what reaches the model, and when."""

import dataclasses
import zlib

import numpy as np
import pytest
import torch
import trees
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ppar_lightning.data import sampling
from ppar_lightning.data.crops import FILL, coarse_counts, draw_box, largest_share
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.loading import collate, on_device
from ppar_lightning.data.transforms import Augment, Augmentation
from ppar_lightning.images.classes import IGNORE

PLAIN = Augmentation(scale=(1, 1), max_class_share=1, flip=0, jitter=0, blur=0)


def sample_of(label):
    """A sample whose image repeats its label in all channels."""
    return {"image": np.repeat(label[..., None], 3, axis=2), "label": label, "name": "a", "domain": "d", "error": []}


def ramp(size):
    """A label that differs in every pixel, so that a crop tells where it was cut."""
    return np.arange(size[0] * size[1]).reshape(size).astype(np.uint8)


def fog(**changes):
    """A data module on small procedural streets."""
    options = {"size": [32, 64], "length": 10}
    settings = {
        "sources": {"game": Domain(options=options)},
        "unseen": {"fog": Domain(options=options | {"length": 3})},
        "crop": (16, 24),
        "batch_size": 4,
        "workers": 0,
    }
    return DomainDataModule(**(settings | changes))


def batches(datamodule, epoch=0):
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def equal(first, second):
    return len(first) == len(second) and all(
        a["name"] == b["name"] and torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])
        for a, b in zip(first, second, strict=True)
    )


def test_crop_is_a_window_of_the_image():
    label = ramp((10, 20))
    windows = np.lib.stride_tricks.sliding_window_view(label, (6, 8)).reshape(-1, 6, 8)
    seen = set()
    for seed in range(40):
        crop = Augment((6, 8), PLAIN)(sample_of(label), (seed,))
        assert (crop["image"] == crop["label"][..., None]).all()
        matches = np.flatnonzero((windows == crop["label"]).all(axis=(1, 2)))
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 20  # of 65 places


def test_small_image_is_padded_and_ignored_there():
    label = ramp((6, 8))
    corners = set()
    for seed in range(20):
        crop = Augment((12, 16), PLAIN)(sample_of(label), (seed,))
        inside = crop["label"] != IGNORE
        np.testing.assert_array_equal(crop["label"][inside].reshape(6, 8), label)
        assert (crop["image"][inside] == crop["label"][inside][:, None]).all()
        assert (crop["image"][~inside] == FILL).all()
        corners.add(tuple(np.argwhere(inside)[0]))
    assert len(corners) > 5


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.3, 2.0])
def test_image_and_label_are_scaled_alike(factor):
    label = np.zeros((64, 64), np.uint8)
    label[20:44, 12:52] = 200  # edges tell the size
    crop = Augment((96, 96), dataclasses.replace(PLAIN, scale=(factor, factor)))(sample_of(label), (3,))
    valid = crop["label"] != IGNORE
    assert valid.sum() == pytest.approx(min(96, 64 * factor) ** 2, rel=0.05)
    assert ((crop["image"][..., 0] > 100) != (crop["label"] == 200))[valid].mean() < 0.02
    if factor <= 1.5:  # all of it is seen
        assert (crop["label"] == 200).sum() == pytest.approx(24 * 40 * factor**2, rel=0.05)


def test_half_scale_cuts_twice_the_crop_and_shows_the_mean_of_four_pixels():
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (40, 72, 3), np.uint8), rng.integers(0, 19, (40, 72), np.uint8)
    crop = Augment((16, 24), dataclasses.replace(PLAIN, scale=(0.5, 0.5)))(sample_of(label) | {"image": image}, (1,))
    windows = [(top, left) for top in range(40 - 31) for left in range(72 - 47)]
    means = {place: image[place[0] :, place[1] :][:32, :48].reshape(16, 2, 24, 2, 3).mean((1, 3)) for place in windows}
    (found,) = (place for place in windows if np.abs(means[place] - crop["image"]).max() <= 0.5)
    part = label[found[0] :, found[1] :][:32, :48].reshape(16, 2, 24, 2)
    assert (part == crop["label"][:, None, :, None]).any((1, 3)).all()


def test_scales_fill_their_range():
    label = ramp((64, 64))
    rng = np.random.default_rng(0)
    heights = [draw_box(label, (32, 32), (0.5, 2.0), rng)[2] for _ in range(200)]
    assert min(heights) in (16, 17)
    assert max(heights) > 58


def share_of(label):
    return largest_share(np.bincount(label.ravel(), minlength=256))


def test_one_class_seldom_fills_a_crop():
    label = np.zeros((64, 256), np.uint8)
    label[:, 224:] = trees.stripes(range(1, 9), (64, 32))
    free, limited = (
        [
            share_of(Augment((32, 32), dataclasses.replace(PLAIN, max_class_share=share))(sample, (i,))["label"])
            for i in range(100)
        ]
        for share in (1.0, 0.75)
        for sample in [sample_of(label)]
    )
    assert np.mean(np.array(free) > 0.75) > 0.7
    assert np.mean(np.array(limited) > 0.75) < 0.4
    assert share_of(np.full((8, 8), IGNORE, np.uint8)) == 1
    assert share_of(np.array([[0, 0, 1, IGNORE]], np.uint8)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("window", [(0, 0, 16, 24), (3, 5, 10, 9), (-6, -3, 40, 50), (8, 4, 8, 20)])
def test_a_crop_is_judged_by_every_fourth_row_and_column(window):
    label = ramp((16, 24))
    seen = np.zeros((80, 80), bool)
    seen[32 + window[0] :, 32 + window[1] :][: window[2], : window[3]] = True
    seen = seen[32:48, 32:56]
    expected = np.bincount(label[::4, ::4][seen[::4, ::4]], minlength=256)
    np.testing.assert_array_equal(coarse_counts(np.ascontiguousarray(label[::4, ::4]), window), expected)


def test_every_augmentation_can_be_had_and_left():
    label = trees.stripes(range(8), (32, 32))
    sample = sample_of(label)
    rng = np.random.default_rng(0)
    sample["image"] = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    original = torch.from_numpy(sample["image"]).permute(2, 0, 1)[None]
    for change in ({"flip": 1.0}, {"jitter": 1.0}, {"blur": 1.0}):
        varied = on_device(collate([Augment((32, 32), dataclasses.replace(PLAIN, **change))(sample, (1,))]))
        assert (varied["image"] != original).any()
        np.testing.assert_array_equal(varied["label"][0], label[:, ::-1] if "flip" in change else label)
    plain = collate([Augment((32, 32), PLAIN)(sample, (1,))])
    assert "variation" not in plain  # a batch without chances is not varied on the device
    assert torch.equal(on_device(plain)["image"], original)


def test_augmentation_depends_on_its_entropy_alone():
    sample = sample_of(ramp((40, 40)))
    augment = Augment((16, 16), Augmentation())
    first = augment(sample, (0, 1, 2))
    np.random.seed(1)  # noqa: NPY002
    augment(sample, (5,))
    again = Augment((16, 16), Augmentation())(sample, (0, 1, 2))
    assert (first["image"] == again["image"]).all()
    others = [augment(sample, entropy)["image"] for entropy in ((1, 1, 2), (0, 2, 2), (0, 1, 3))]
    assert all((first["image"] != other).any() for other in others)


def test_batches_keep_the_contract():
    first = batches(fog())[0]
    assert first["image"].shape == (4, 3, 16, 24)
    assert first["image"].dtype == torch.uint8
    assert first["label"].shape == (4, 16, 24)
    assert on_device(first)["label"].dtype == torch.int64
    assert on_device(first)["image"].is_contiguous()
    assert first["error"] == []
    assert set(first["label"].unique().tolist()) <= {*range(19), IGNORE}
    assert first["domain"] == ["game"] * 4
    assert len(set(first["name"])) == 4


def test_crops_do_not_depend_on_workers_or_global_generators():
    torch.manual_seed(0)
    reference = batches(fog())
    assert len(reference) == 2  # 10 streets, batches of 4
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert equal(reference, batches(fog(workers=2)))
    assert torch.equal(state, torch.get_rng_state())
    assert not equal(reference, batches(fog(seed=1)))
    assert not equal(reference, batches(fog(), epoch=1))


def test_no_two_draws_share_a_crop(tmp_path):
    """One image many times over, read by two workers in two epochs: all crops differ."""
    trees.camvid(tmp_path, {"train": 1, "val": 1, "test": 1})
    domains = {f"copy{number}": Domain(dataset="camvid", root=str(tmp_path)) for number in range(8)}
    datamodule = DomainDataModule(domains, crop=(24, 24), batch_size=4, workers=2)
    images = torch.cat([batch["image"] for epoch in (0, 1) for batch in batches(datamodule, epoch)])
    assert len(images) == 16
    assert len({image.numpy().tobytes() for image in images}) == 16


def test_ranks_see_what_one_process_sees(monkeypatch):
    """Three ranks with batch 2 see in each step the images, and the crops, of one with batch 6."""
    lengths = {"sources": {"game": Domain(options={"size": [32, 64], "length": 20})}}
    whole = batches(fog(batch_size=6, **lengths), epoch=3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(sampling, "world_size", lambda: 3)
        shares.append(batches(fog(batch_size=2, **lengths), epoch=3))
    assert len(whole) == len(shares[0]) == len(shares[1]) == len(shares[2]) == 3
    for step, batch in enumerate(whole):
        together = torch.stack([share[step]["image"] for share in shares], dim=1).flatten(0, 1)
        assert torch.equal(batch["image"], together)


def test_evaluation_reads_each_image_once(monkeypatch):
    names = []
    for rank in range(2):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(sampling, "world_size", lambda: 2)
        datamodule = fog()
        datamodule.setup("test")
        loader = datamodule.test_dataloader()[1]
        names.append([name for batch in loader for name in batch["name"] if not batch["padding"]])
        assert len(loader) == 2  # a placeholder evens the ranks out
    assert names == [["val/00000", "val/00002"], ["val/00001"]]


@pytest.mark.parametrize(
    ("stage", "watch", "domains"),
    [
        ("fit", False, ["game"]),
        ("fit", True, ["game", "fog"]),
        ("validate", False, ["game"]),
        ("test", False, ["game", "fog"]),
    ],
)
def test_unseen_domains_are_read_in_test_alone(stage, watch, domains):
    datamodule = fog(watch_unseen=watch)
    datamodule.setup(stage)
    loaders = datamodule.test_dataloader() if stage == "test" else datamodule.val_dataloader()
    found = [{name for batch in loader for name in batch["domain"]} for loader in loaders]
    assert found == [{name} for name in domains]
    assert list(datamodule.eval_splits) == domains
    assert next(iter(loaders[0]))["image"].shape == (1, 3, 32, 64)
    assert ([*datamodule.sources], [*datamodule.unseen]) == (["game"], ["fog"])


def test_images_of_folders_come_one_by_one_as_their_sizes_may_differ(tmp_path):
    domain = Domain(root=str(trees.mapillary(tmp_path)))
    datamodule = DomainDataModule({"mapillary": domain}, workers=0, eval_batch_size=8)
    datamodule.setup("validate")
    sizes = [tuple(batch["image"].shape[2:]) for batch in datamodule.val_dataloader()[0]]
    assert sizes == [trees.SIZE, trees.SIZE[::-1], trees.SIZE]


def test_limit_takes_images_over_the_whole_split(caplog):
    datamodule = fog(sources={"game": Domain(limit=4, options={"size": [32, 64], "length": 10})})
    with caplog.at_level("INFO"):
        datamodule.setup("validate")
    names = [batch["name"][0] for batch in datamodule.val_dataloader()[0]]
    assert names == ["val/00000", "val/00003", "val/00006", "val/00009"]
    assert "domain 'game': 4 of the 10 images of split 'val'" in caplog.text


def test_several_sources_are_put_together():
    options = {"size": [32, 64], "length": 6}
    datamodule = fog(sources={"game": Domain(options=options), "rain": Domain(options=options)}, batch_size=3)
    domains = [name for batch in batches(datamodule) for name in batch["domain"]]
    assert sorted(domains) == ["game"] * 6 + ["rain"] * 6
    assert [*datamodule.sources] == ["game", "rain"]


@pytest.mark.remedy("data/datamodule.py::DomainDataModule._open")
@pytest.mark.parametrize(
    ("domain", "fault"),
    [
        (
            Domain(),
            r"domain 'cityscapes': root is None, which .*leftImg8bit.* \(settings: --data.unseen.cityscapes\)",
        ),
        (
            Domain(root="/gone"),
            r"domain 'cityscapes': root is /gone, which is no folder; expected one with leftImg8bit/val/",
        ),
        (Domain(dataset="citiscapes"), r"no data set 'citiscapes'; choose one of gta, cityscapes"),
        (Domain(options={"maping": "rein"}), r"data set 'cityscapes': Option 'maping' is not accepted"),
    ],
)
def test_faulty_domain_is_named(tmp_path, domain, fault):
    def opened(**unseen):
        datamodule = fog(unseen=unseen)
        datamodule.setup("fit")  # which does not look into folders of unseen domains
        datamodule.setup("test")

    with pytest.raises((ValueError, FileNotFoundError), match=fault) as caught:
        opened(cityscapes=domain)
    assert "\n" not in str(caught.value)
    opened(cityscapes=Domain(root=str(trees.cityscapes(tmp_path))))


@pytest.mark.remedy("data/datamodule.py::DomainDataModule.setup")
def test_pictures_to_predict_are_given(tmp_path):
    with pytest.raises(ValueError, match="nothing to predict: give pictures with --data.predict_dir"):
        fog().setup("predict")
    trees.write_image(tmp_path / "a.png")
    fog(predict_dir=str(tmp_path)).setup("predict")


@pytest.mark.remedy("data/datamodule.py::refuse_small_share")
def test_other_faults_are_named():
    with pytest.raises(
        ValueError, match=r"10 training images per device are fewer than a batch of 11; lower --data.batch_size"
    ):
        batches(fog(batch_size=11))
    assert batches(fog(batch_size=10))


def test_config_and_command_line_set_single_keys():
    parser = ArgumentParser()
    parser.add_class_arguments(DomainDataModule, "data")
    config = {"data": {"sources": {"game": {}}, "unseen": {"cityscapes": {"root": "a"}, "m": {"dataset": "mapillary"}}}}
    overrides = [
        "--data.unseen.cityscapes.root=b",
        "--data.unseen.m.options={mapping: rein}",
        "--data.augmentation.blur=0",
        "--data.crop=[64, 128]",
    ]
    parsed = parser.instantiate_classes(parser.parse_args([f"--data={config['data']}", *overrides])).data
    assert parsed.unseen == {
        "cityscapes": Domain(root="b"),
        "m": Domain(dataset="mapillary", options={"mapping": "rein"}),
    }
    assert parsed.augmentation == Augmentation(blur=0)
    assert parsed.crop == (64, 128)


class Diary(LightningModule):
    """Notes what it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps = []

    def training_step(self, batch):
        self.steps.append((tuple(batch["name"]), int(batch["image"].sum())))
        torch.rand(len(self.steps))  # the model uses the global generator as it likes
        return self.weight**2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def train(path, steps, workers=0, resume=None, trainer=None, **data):
    diary = Diary()
    saved = ModelCheckpoint(path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    Trainer(max_steps=steps, max_epochs=-1, callbacks=[saved], **quiet, **(trainer or {})).fit(
        diary, datamodule=fog(workers=workers, batch_size=3, **data), ckpt_path=resume
    )
    return diary.steps


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.parametrize("stop", [2, 3, 4])  # in, at the end of, and after the first epoch of 3 steps
def test_resumed_run_goes_on_with_the_next_crop(tmp_path, stop):
    whole = train(tmp_path / "whole", 8)
    assert len({name for names, _ in whole[:3] for name in names}) == 9
    start = train(tmp_path / "part", stop, workers=2)
    rest = train(tmp_path / "rest", 8, workers=2, resume=tmp_path / f"part/step={stop}.ckpt")
    assert start + rest == whole


@pytest.mark.filterwarnings("ignore")
def test_overfitting_to_a_batch_works(tmp_path):
    steps = train(tmp_path, 2, trainer={"overfit_batches": 1})
    assert steps[0] == steps[1]


@pytest.mark.remedy("data/datamodule.py::DomainDataModule.__init__")
@pytest.mark.parametrize(
    ("option", "value"),
    [("crop", (0, 0)), ("crop", (64, -1)), ("batch_size", 0), ("eval_batch_size", 0), ("workers", -1)],
)
def test_numbers_outside_their_range_are_named(option, value):
    least = int(option != "workers")
    with pytest.raises(ValueError, match=rf"data.{option} is .*; give at least {least}$"):
        fog(**{option: value})
    fog(**{option: (least, least) if option == "crop" else least})


@pytest.mark.remedy("data/transforms.py::Augmentation.__post_init__")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scale", (0, 0)),
        ("scale", (2, 0.5)),
        ("scale", (-1, 1)),
        ("max_class_share", 1.5),
        ("flip", 2),
        ("jitter", -0.1),
        ("blur", 2),
        ("style", 2),
        ("jitter_strength", -1),
    ],
)
def test_augmentation_outside_its_range_is_named(option, value):
    with pytest.raises(ValueError, match=rf"augmentation.{option} is .*; give ") as refused:
        Augmentation(**{option: value})
    remedies = {"a share in [0, 1]": 1, "at least 0": 0, "two factors above 0, the smaller one first": (0.1, 3)}
    Augmentation(**{option: remedies[str(refused.value).partition("give ")[2]]})


KNOWN = {
    "default": [
        ((3368748911, 0), (6.42319, 0.0, 0.0)),
        ((440924133, 0), (3.0, 0.0, 0.0)),
        ((3342955232, 0), (10.7863, 0.428819, 0.0)),
        ((3386239663, 0), (-0.577909, 0.0, 0.0)),
        ((1973513750, 0), (11.4295, 0.0, 1.0)),
        ((847651849, 0), (-4.02139, 0.0, 0.0)),
    ],
    "padded": [
        ((3040542962, 4226978599), (45.902, 0.0, 0.0)),
        ((636782332, 3392689712), (3.0, 0.0, 0.0)),
        ((893977520, 865135756), (73.6732, 0.428819, 0.0)),
        ((844444948, 2061630393), (-20.994, 0.0, 0.0)),
        ((2372303676, 3021791795), (51.1894, 0.0, 1.0)),
        ((2538310889, 58843369), (-65.5291, 0.0, 0.0)),
    ],
    "cut": [
        ((448733310, 1444903097), (6.58238, 0.0, 0.0)),
        ((3718902843, 356412023), (3.0, 0.0, 0.0)),
        ((239146217, 3603461606), (9.15655, 0.428819, 0.0)),
        ((3209634382, 3009026585), (1.19649, 0.0, 0.0)),
        ((787013477, 1815605810), (6.30741, 0.0, 1.0)),
        ((1431320550, 4016736927), (-3.62262, 0.0, 0.0)),
    ],
    "focus": [
        ((2240354893, 0), (8.26987, 0.0, 0.0)),
        ((612605362, 0), (3.0, 0.0, 0.0)),
        ((1326924803, 0), (11.6629, 0.428819, 0.0)),
        ((3681394923, 0), (-0.123239, 0.0, 0.0)),
        ((522568233, 0), (8.55621, 0.0, 1.0)),
        ((2860024346, 0), (-3.97318, 0.0, 0.0)),
    ],
    "focus_pixels": [
        ((4020500024, 0), (6.6213, 0.0, 0.0)),
        ((3653347742, 0), (3.0, 0.0, 0.0)),
        ((2737226010, 0), (10.5053, 0.428819, 0.0)),
        ((2450673296, 0), (-1.09015, 0.0, 0.0)),
        ((3901011849, 0), (10.7475, 0.0, 1.0)),
        ((4294400694, 0), (-2.44822, 0.0, 0.0)),
    ],
}
"""Setting -> for six seeds: checksums of label and image of the crop, and (sum of colours, sigma, flip), by 0.1.0."""


def crops_of_known_seeds(setting):
    size, focus, focus_pixels, change = {
        "default": ((60, 100), None, 0, {}),
        "padded": ((20, 30), None, 0, {"scale": (1.0, 1.0)}),
        "cut": ((60, 100), None, 0, {"scale": (1.0, 1.0), "max_class_share": 0.1}),
        "focus": ((60, 100), 7, 0, {}),
        "focus_pixels": ((60, 100), 7, 300, {}),
    }[setting]
    label = (np.arange(size[0] * size[1]).reshape(size) // 37 % 19).astype(np.uint8)
    augment = Augment((32, 48), Augmentation(**change), focus_pixels)
    for seed in range(6):
        varied = augment(sample_of(label), (seed, 3, 4), focus)
        colours, sigma, flip = varied["variation"]
        image = zlib.crc32(varied["image"].tobytes()) if change else 0  # OpenCV's linear resize is not bit-exact
        yield (zlib.crc32(varied["label"].tobytes()), image), (float(colours.sum()), float(sigma), float(flip))


@pytest.mark.parametrize("setting", KNOWN)
def test_a_seed_gives_the_crops_and_variations_of_version_0_1_0(setting):
    for (crop, variation), (known_crop, known_variation) in zip(
        crops_of_known_seeds(setting), KNOWN[setting], strict=True
    ):
        assert crop == known_crop
        assert variation == pytest.approx(known_variation, rel=1e-5)
