"""Evaluation protocols: what the segmenter sees, what it is scored against, and the window it looks through."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import trees
from test_cli import CONFIG, SMALL, fit
from torch import nn

from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.cli import main
from ppar_lightning.data.datamodule import SYNTHIA_13, SYNTHIA_16, DomainDataModule
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.protocols import PROTOCOLS, find_protocol, square
from ppar_lightning.images.classes import CITYSCAPES, IGNORE
from ppar_lightning.images.tta import TTA
from ppar_lightning.images.window import Window
from ppar_lightning.segmenter import sliding
from ppar_lightning.segmenter.inference import infer
from ppar_lightning.segmenter.sliding import predict, slide, starts


def pair(height, width, label=7):
    """A grey image and a label of one class."""
    return np.full((height, width, 3), 99, np.uint8), np.full((height, width), label, np.uint8)


def columns_of(width, height):
    """An image whose label tells the column, in steps of an eighth of its width."""
    label = np.repeat((np.arange(width) * 8 // width)[None], height, axis=0).astype(np.uint8)
    return np.repeat(label[..., None], 3, axis=2), label


def shown(name, dataset, image, label):
    return PROTOCOLS[name].views.get(dataset, lambda *both: both)(image, label)


RESIZED = {("robustnet", "mapillary"), ("robustnet_exact", "mapillary"), ("rein", "cityscapes"), ("rein", "mapillary")}
RESIZED |= {("tqdm", "mapillary"), ("soma", "mapillary"), ("dgvfm", "mapillary"), ("dgvfm", "bdd100k")}


def test_only_the_named_data_sets_are_resized():
    image, label = pair(60, 100)
    changed = set()
    for name in PROTOCOLS:
        for dataset in DATASETS:
            seen, scored = shown(name, dataset, image, label)
            if seen is not image or scored is not label:
                changed.add((name, dataset))
    assert changed == RESIZED


def test_robustnet_pads_a_portrait_with_ignore_about_its_centre():
    image, label = square(*columns_of(24, 32), side=1536, exact=False)
    assert image.shape == (1536, 1536, 3)
    assert label.shape == (1536, 1536)
    assert (label[:, :192] == IGNORE).all()
    assert (label[:, -192:] == IGNORE).all()
    np.testing.assert_array_equal(np.unique(label[:, 192:-192]), range(8))
    assert (image[:, :192] == 0).all()


def test_robustnet_exact_repeats_the_fault():
    _, label = square(*columns_of(24, 32), side=1536, exact=True)
    black = (label[0] == 0) & (np.arange(1536) < 576)
    assert black.sum() / 1536 == 0.375
    assert (label != IGNORE).all()
    kept = label[0, 576:]
    assert kept.size == 1152 - 192
    assert (kept == np.repeat(range(8), 144)[: 1152 - 192]).all()  # the last 192 columns are lost


def test_both_agree_on_wide_images_and_cut_their_sides():
    wide = columns_of(64, 16)
    views = [square(*wide, side=16, exact=exact) for exact in (False, True)]
    np.testing.assert_array_equal(views[0][1], views[1][1])
    np.testing.assert_array_equal(views[0][1], wide[1][:, 24:40])


@pytest.mark.parametrize(("width", "exact"), [(1, True), (1, False), (3, True), (5, False), (7, True)])
def test_narrow_images_fit_too(width, exact):
    image, label = square(*pair(16, width), side=16, exact=exact)
    assert image.shape == (16, 16, 3)
    known = (label == 7).sum() // 16
    missing = 16 - width
    assert known == (max(0, width - abs(round(-missing / 2))) if exact else width)


def test_rein_sees_cityscapes_small_and_halves_mapillary_with_its_labels():
    image, label = shown("rein", "cityscapes", *pair(1024, 2048))
    assert image.shape == (512, 1024, 3)
    assert label.shape == (1024, 2048)
    image, label = shown("rein", "mapillary", *columns_of(80, 40))
    assert image.shape == (20, 40, 3)
    np.testing.assert_array_equal(label[0], np.arange(40) * 8 // 40)


def test_tqdm_fits_mapillary_within_2048_by_1024():
    assert shown("tqdm", "mapillary", *pair(3000, 4000))[0].shape == (1024, 1365, 3)
    image, label = shown("tqdm", "mapillary", *pair(4000, 2000))
    assert image.shape == (2048, 1024, 3)
    assert label.shape == (4000, 2000)


@pytest.mark.parametrize(
    ("size", "seen", "scored"),
    [
        ((4032, 3024), (1365, 1024), (2016, 1512)),  # portrait: 2016 x 1512 when halved, and 1024 is the short side
        ((3024, 4032), (1024, 1365), (1512, 2016)),
        ((1536, 4096), (768, 2048), (768, 2048)),  # a panorama, whose long side decides
        ((768, 1025), (1024, 1365), (384, 512)),  # a small one is enlarged
    ],
)
def test_soma_halves_mapillary_and_fits_the_image_alone_within_2048_by_1024(size, seen, scored):
    image, label = shown("soma", "mapillary", *pair(*size))
    assert (image.shape[:2], label.shape) == (seen, scored)


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (41, 61)])
def test_halves_are_those_of_pillow_which_takes_the_pixel_at_the_centre(size):
    label = np.arange(size[0] * size[1]).reshape(size).astype(np.uint8)
    image, half = shown("rein", "mapillary", np.repeat(label[..., None], 3, axis=2), label)
    rows, columns = ((np.arange(side // 2) + 0.5) * side / (side // 2) for side in size)
    np.testing.assert_array_equal(half, label[rows.astype(int)[:, None], columns.astype(int)])
    assert image.shape == (*half.shape, 3)


def test_dgvfm_enlarges_bdd100k_and_keeps_its_labels():
    image, label = shown("dgvfm", "bdd100k", *pair(720, 1280))
    assert (image.shape, label.shape) == ((1024, 1820, 3), (720, 1280))
    image, label = shown("dgvfm", "mapillary", *pair(4032, 3024))
    assert (image.shape, label.shape) == ((1365, 1024, 3), (4032, 3024))


@pytest.mark.remedy("images/window.py::Window.__post_init__")
@pytest.mark.remedy("data/protocols.py::find_protocol")
def test_windows_of_the_protocols():
    windows = {name: protocol.window for name, protocol in PROTOCOLS.items()}
    slid = dict.fromkeys(("rein", "soma", "tqdm"), Window(512, 341))
    slid["dgvfm"] = Window(512, 320)
    assert windows == dict.fromkeys(("full", "robustnet", "robustnet_exact")) | slid
    with pytest.raises(ValueError, match="window size 4, stride 5: give a stride from 1 to the size"):
        Window(4, 5)
    assert [Window(4, stride).stride for stride in (1, 4)] == [1, 4]
    with pytest.raises(ValueError, match="no protocol 'paper'; choose one of full, robustnet, ") as caught:
        find_protocol("paper")
    assert all(map(find_protocol, str(caught.value).rpartition("one of ")[2].split(", ")))


@pytest.mark.parametrize(
    ("length", "size", "stride"), [(10, 4, 3), (4, 4, 4), (3, 8, 5), (2048, 512, 341), (513, 512, 1)]
)
def test_windows_reach_every_pixel_and_stay_inside(length, size, stride):
    firsts = starts(length, size, stride)
    covered = np.zeros(length, bool)
    for first in firsts:
        assert first + min(size, length) <= length
        covered[first : first + size] = True
    assert covered.all()
    assert len(set(firsts)) == len(firsts)


def test_a_window_that_covers_the_image_is_the_whole_image():
    torch.manual_seed(0)
    network = nn.Conv2d(3, 5, 3, padding=1)
    image = torch.rand(2, 3, 20, 30)
    assert torch.equal(slide(network, image, 30, 20), network(image))
    assert torch.equal(slide(network, image, 64, 64), network(image))


def test_overlapping_windows_are_averaged():
    image = torch.arange(7.0).expand(1, 3, 4, 7)

    def segment(parts):
        assert parts.shape[-2:] == (4, 4)
        return parts[:, :1, :, :1].expand(-1, -1, 4, 4)  # the first column's number everywhere: 0, 2 and 3

    assert slide(segment, image, 4, 2)[0, 0, 0].tolist() == pytest.approx([0, 0, 1, 5 / 3, 2.5, 2.5, 3])


def one_by_one(segment, image, size, stride):
    """The mean of windows that are segmented one after the other."""
    height, width = image.shape[-2:]
    visits, total = torch.zeros(height, width), 0
    for top in starts(height, size, stride):
        for left in starts(width, size, stride):
            part = (..., slice(top, top + size), slice(left, left + size))
            logits = segment(image[part])
            whole = logits.new_zeros(*logits.shape[:2], height, width)
            whole[part] = logits
            total, visits[part] = total + whole, visits[part] + 1
    return total / visits


@pytest.fixture
def memory(monkeypatch):
    """No count of windows that fit is known, on a device that takes 2^16 pixels at once."""
    monkeypatch.setattr(sliding, "fitting", {})
    monkeypatch.setitem(sliding.PIXELS, "cpu", 2**16)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("largest", [1, 3, 1000])
@pytest.mark.parametrize(
    ("height", "width", "window"),
    [
        (32, 48, (16, 16)),
        (33, 47, (16, 11)),
        (12, 50, (16, 5)),
        (12, 9, (16, 11)),
        (40, 40, (24, 8)),
        (17, 30, (16, 16)),
    ],
)
@torch.no_grad()
def test_batches_of_windows_are_windows_one_by_one(height, width, window, largest, batch, memory):
    torch.manual_seed(0)
    network, image, seen = nn.Conv2d(3, 7, 5, padding=2), torch.rand(batch, 3, height, width), []

    def segment(parts):
        if len(parts) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(len(parts))
        return network(parts)

    expected = one_by_one(network, image, *window)
    for _ in range(2):
        found = slide(segment, image, *window)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert torch.equal(predict(found, (height, width)), expected.argmax(dim=1))
        assert torch.equal(predict(found, (2 * height, width)), predict(expected, (2 * height, width)))
    number = batch * len(starts(height, *window)) * len(starts(width, *window))
    assert sum(seen) == 2 * number
    assert max(seen) <= largest
    if largest == 1000:
        assert seen == [number] * 2


def test_the_number_of_windows_that_fits_is_kept_and_no_error_is_hidden(memory):
    tried = []

    def segment(parts, most=5):
        tried.append(len(parts))
        if len(parts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return parts

    for _ in range(2):
        slide(segment, torch.rand(1, 3, 16, 96), 16, 8)  # 11 windows
    assert tried == [11, 5, 5, 1, 5, 5, 1]
    with pytest.raises(torch.OutOfMemoryError):
        slide(lambda parts: segment(parts, 0), torch.rand(1, 3, 16, 96), 16, 8)


def test_no_sum_of_overlapping_windows_is_left_to_chance(memory, monkeypatch):
    """Windows that are added by one call share no pixel, so the order in which a GPU adds them does not matter."""
    added, add = [], torch.Tensor.index_add_
    monkeypatch.setattr(
        torch.Tensor,
        "index_add_",
        lambda total, dim, index, source: added.append(index) or add(total, dim, index, source),
    )
    for window in ((16, 5), (16, 11), (9, 1), (20, 20)):
        slide(lambda parts: parts, torch.rand(2, 3, 31, 27), *window)
    assert all(len(index.unique()) == len(index) for index in added)
    assert len(added) > 4


def test_windows_of_a_pointwise_network_change_nothing():
    torch.manual_seed(0)
    network = nn.Conv2d(3, 5, 1)
    image = torch.rand(1, 3, 33, 47)
    torch.testing.assert_close(slide(network, image, 16, 11), network(image))


@pytest.mark.remedy("images/tta.py::TTA.__post_init__")
def test_the_copies_of_an_image_are_named_and_one_is_no_augmentation():
    both = TTA((0.5, 1.0), flip=True)
    assert both.copies == ((0.5, False), (0.5, True), (1.0, False), (1.0, True))
    assert both.title == ", scales 0.5 1, flipped"
    assert (TTA().copies, TTA().title) == ((), "")
    assert TTA(flip=True).title == ", scales 1, flipped"
    for wrong in ((), (1.0, 0.0)):
        with pytest.raises(ValueError, match=r"tta.scales is \[.*\]: give one or more factors above 0") as caught:
            TTA(wrong)
    assert TTA(tuple(json.loads(re.findall(r"such as (.*)", str(caught.value))[0]))).copies


@torch.no_grad()
def test_the_probabilities_of_copies_are_averaged(memory):
    torch.manual_seed(0)
    network, image, resize = nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 32, 48), nn.functional.interpolate
    seen, expected = [], 0

    def segment(parts):
        seen.append(len(parts))
        return network(parts)

    copies = TTA((0.5, 1.0, 1.5), flip=True).copies
    found = infer(segment, image, (16, 11), copies)
    windows = [2 * len(starts(side, 16, 11)) * len(starts(side * 3 // 2, 16, 11)) for side in (16, 32, 48)]
    assert seen == [number for number in windows for _ in range(2)]  # all windows of both images at once
    for scale, mirrored in copies:
        copy = resize(image, scale_factor=scale, mode="bilinear", align_corners=False)
        logits = one_by_one(network, torch.flip(copy, [3]) if mirrored else copy, 16, 11)
        logits = torch.flip(logits, [3]) if mirrored else logits
        expected = expected + resize(logits, (32, 48), mode="bilinear", align_corners=False).softmax(dim=1) / 6
    torch.testing.assert_close(found.exp(), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_copies_change_nothing_but_what_they_show():
    torch.manual_seed(0)
    network, image = nn.Conv2d(3, 5, 3, padding=1), torch.rand(1, 3, 20, 30)
    assert torch.equal(infer(network, image), network(image))
    assert torch.equal(infer(network, image, (16, 11)), slide(network, image, 16, 11))
    one = infer(network, image, None, [(1.0, False)])
    torch.testing.assert_close(one, network(image).log_softmax(dim=1))
    for size in ((20, 30), (40, 60)):
        assert torch.equal(predict(one, size), predict(network(image), size))

    def left(parts):  # sure of class 0 in the left half of what it sees, and of class 1 in the right one
        side = torch.linspace(-1, 1, parts.shape[-1]).sign().expand(len(parts), 1, *parts.shape[-2:])
        return 300 * torch.cat([-side, side], dim=1)

    assert infer(left, image, None, [(1.0, False)]).isfinite().all()  # although a probability is 0
    both = infer(left, image, None, [(1.0, False), (1.0, True)]).exp()
    torch.testing.assert_close(both, torch.full_like(both, 0.5))


@pytest.mark.parametrize("scores", [sliding.SCORES, 1, 300])
@pytest.mark.parametrize("size", [(6, 8), (12, 16), (9, 5), (3, 3)])
def test_prediction_at_the_labels_size(size, scores, monkeypatch):
    monkeypatch.setattr(sliding, "SCORES", scores)  # all classes at once, one by one, or some
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 6, 8)
    resized = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    assert torch.equal(predict(logits, size), resized.argmax(dim=1))


PEAK = """
import torch
from pathlib import Path
from ppar_lightning.segmenter.inference import infer
from ppar_lightning.segmenter.sliding import predict, slide
def peak():  # of this process alone; getrusage would begin with its parent's
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
torch.set_num_threads(1)
network = torch.nn.Conv2d(3, 19, 1)
slide(network, torch.rand(1, 3, 64, 64), 64, 32)
image = torch.rand(1, 3, 512, 2048)
before = peak()
logits = slide(network, image, 128, 96)
print((peak() - before) * 1024 / (logits.numel() * 4))
predict(logits, (1024, 4096))
print((peak() - before) * 1024 / (logits.numel() * 4))
"""


def test_memory_holds_the_logits_of_one_image_once():
    run = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    windows, resized = map(float, run.stdout.split())
    pixels = 512 * 2048
    assert (
        windows < 1 + 4 / 4 + 0.2
    )  # a batch of windows is a quarter of the image; convolution and sum copy its logits
    # The prediction at twice the size has some resized scores, three maps of labels and three of scores at the end.
    assert resized < 1 + sliding.SCORES / (19 * pixels) + 4 * (3 * 8 + 3 * 4 + 1) / 76 + 0.3


def module(**changes):
    options = {"size": [32, 64], "length": 2}
    settings = {"sources": {"game": Domain(options=options)}, "unseen": {"fog": Domain(options=options)}, "workers": 0}
    return DomainDataModule(**(settings | changes))


@pytest.mark.remedy("data/datamodule.py::DomainDataModule.__init__")
def test_a_domain_may_have_a_protocol_of_its_own():
    own = {"fog": Domain(protocol="rein", options={"size": [32, 64]})}
    data = module(unseen=own, window=Window(16, 8))
    data.setup("test")
    windows = {name: split.window for name, split in data.eval_splits.items()}
    assert windows == {"game": (16, 8), "fog": (512, 341)}
    assert [split.protocol for split in data.eval_splits.values()] == [*data.protocol_titles.values()]
    (batch,) = list(data.test_dataloader()[1])[:1]
    assert (batch["window"], batch["protocol"]) == ((512, 341), "rein")
    assert data.protocol_titles == {"game": "full (window 16, stride 8)", "fog": "rein"}
    assert module(protocol="tqdm").protocol_titles == {"game": "tqdm", "fog": "tqdm"}
    with pytest.raises(ValueError, match="protocol 'rein' has a window of its own; leave data.window out"):
        module(protocol="rein", window=Window(16, 8))
    module(protocol="rein")
    with pytest.raises(ValueError, match="there is no protocol 'rien'"):
        module(protocol="rien")


def test_the_protocol_chooses_mapillarys_ids_and_the_config_overrules_it(tmp_path):
    trees.mapillary(tmp_path)
    labels = {}
    for protocol, options in (("robustnet", {}), ("rein", {}), ("rein", {"mapping": "robustnet"})):
        domain = Domain(dataset="mapillary", root=str(tmp_path), train_split="validation", options=options)
        labels[protocol, bool(options)] = domain.open("m", "train", protocol)[0]["label"]
    assert (labels["robustnet", False] != labels["rein", False]).any()
    np.testing.assert_array_equal(labels["rein", True], labels["robustnet", False])


def test_means_for_synthia():
    assert [name for name in CITYSCAPES if name not in SYNTHIA_16] == ["terrain", "truck", "train"]
    assert [name for name in SYNTHIA_16 if name not in SYNTHIA_13] == ["wall", "fence", "pole"]
    data = module()
    data.setup("test")
    assert list(data.means) == ["miou"]
    data.eval_splits["game"].whole.scored_classes = SYNTHIA_16
    assert {name: len(ids) for name, ids in data.means.items()} == {"miou": 19, "miou_16": 16, "miou_13": 13}


MONITOR = ["--checkpoint.monitor", "val/fog/miou", "--checkpoint.save_top_k", "1", "--data.watch_unseen", "true"]


@pytest.mark.parametrize("monitor", ["val/fog/miou", "val/unseen/miou", "val/night/iou/road"])
def test_selection_on_a_target_is_refused(tmp_path, capsys, monitor):
    with pytest.raises(SystemExit, match="1"):
        fit(tmp_path / "run", *MONITOR, "--checkpoint.monitor", monitor)
    error = capsys.readouterr().err
    assert f"{monitor} is monitored" in error
    assert "--allow_target_selection true" in error
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.remedy("callbacks/selection.py::TargetSelectionGuard.setup")
def test_selection_that_is_allowed_is_recorded_with_the_protocol(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        fit(tmp_path / "run", *MONITOR)
    remedy = "monitor a source domain, or set (--allow_target_selection true), which the report will state"
    (words,) = re.findall(remedy, capsys.readouterr().err)
    folder = fit(tmp_path / "run", *MONITOR, *words.split(), "--data.protocol", "tqdm")
    main(["test", "--config", str(folder / "config.yaml")])
    printed = capsys.readouterr().out
    assert "selected on unseen domains, by val/fog/miou" in printed
    assert "tqdm" in printed
    record = json.loads((folder / "test.json").read_text())
    assert record["target_selection"] == ["val/fog/miou"]
    assert {domain["protocol"] for domain in record["domains"].values()} == {"tqdm"}
    assert (folder / "test.csv").read_text().splitlines()[1].startswith("game,source,tqdm,8,")
    main(
        [
            "test",
            "--config",
            CONFIG,
            *SMALL,
            "--trainer.default_root_dir",
            str(tmp_path / "other"),
            "--ckpt_path",
            str(folder / "checkpoints" / "last.ckpt"),
        ]
    )
    assert json.loads((tmp_path / "other" / "test.json").read_text())["target_selection"] == ["val/fog/miou"]
    hyper = (folder / "curves" / "fit" / "version_0" / "hparams.yaml").read_text()
    assert "fog: tqdm" in hyper
    assert "target_selection:\n- val/fog/miou" in hyper


def test_selection_on_the_source_is_free():
    class Trainer:
        datamodule = module()
        callbacks = (type("Checkpoint", (), {"monitor": "val/game/miou"})(), object())

    assert monitored_targets(Trainer()) == []
