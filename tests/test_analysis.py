"""The measures of a run: by hand on numbers that are known, and on a small run of the command line."""

import csv
import math
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import evaluate, fit

from ppar_lightning.analysis.corruption import CORRUPTIONS, changed, corrupt
from ppar_lightning.analysis.diagnosis import diagnose
from ppar_lightning.analysis.distance import anchor_distance, domain_distance, frechet
from ppar_lightning.analysis.features import Features, collect, embed, smallest_keys
from ppar_lightning.analysis.image_scores import score_images
from ppar_lightning.analysis.loaded_run import checkpoints, load_run
from ppar_lightning.analysis.weighing import auc, compare, weigh
from ppar_lightning.cli import main
from ppar_lightning.data.protocols import PROTOCOLS
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.metrics import class_iou, mean_iou
from ppar_lightning.report.panels import weight_maps
from ppar_lightning.runs.run_folder import read_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    kept = ("--checkpoint.every_n_train_steps", "2", "--checkpoint.save_top_k", "-1")
    return fit(tmp_path_factory.mktemp("analysis") / "run", *kept)


@pytest.fixture(scope="module")
def run(folder):
    return load_run(folder)


def spread(matrix, mean) -> torch.Tensor:
    """A sample whose covariance is M M^T and whose mean is the one given: the corners +-sqrt(D) M e_i around it."""
    corners = torch.tensor(matrix).T * math.sqrt(len(mean))
    return torch.cat([corners, -corners]) + torch.tensor(mean)


def test_the_frechet_distance_of_numbers():
    # deviations 1 and 2, means 0 and 3: 3^2 + (2 - 1)^2
    assert frechet(torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [5.0]])) == pytest.approx(10)


def test_the_frechet_distance_of_gaussians_whose_covariances_do_not_commute():
    one, other = spread([[2.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), spread([[1.0, 0.0], [1.0, 1.0]], [1.0, -1.0])
    # A = diag(4, 1), B = [[1, 1], [1, 2]]: tr A + tr B = 8; tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)) = sqrt(6 + 4)
    assert frechet(one, other) == pytest.approx(2 + 8 - 2 * math.sqrt(10), abs=1e-5)
    assert frechet(other, one) == pytest.approx(frechet(one, other), abs=1e-9)
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)


def test_features_of_a_diverged_run_have_no_frechet_distance():
    one = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    for other in (one / 0, one * math.nan, 1e200 * one.double()):
        assert math.isnan(frechet(one, other))
        assert math.isnan(frechet(other, one))


def test_the_distance_to_the_own_anchor():
    anchors = torch.eye(3)
    features = Features(torch.stack([anchors[0], anchors[1], -anchors[1]]), torch.tensor([0, 0, 1]))
    distance = anchor_distance(features, anchors)
    assert distance[:2].tolist() == pytest.approx([math.sqrt(2) / 2, 2])
    assert distance[2].isnan()


def test_domains_are_compared_class_by_class():
    anchors = torch.eye(3)
    near = Features(anchors[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1]))
    more = Features(anchors[[0, 0, 0, 0, 1, 1, 2]], torch.tensor([0, 0, 0, 0, 1, 1, 2]))
    assert domain_distance(near, more, anchors) == pytest.approx(0)  # other shares of the classes are no distance
    swapped = Features(anchors[[1, 1]], torch.tensor([0, 0]))
    assert domain_distance(near, swapped, anchors) == pytest.approx(2)  # residuals 0 and e_1 - e_0
    assert math.isnan(domain_distance(swapped, Features(anchors[[2]], torch.tensor([2])), anchors))


def test_the_area_under_the_curve():
    # of the 6 pairs, 4 are in order and one is a tie
    assert auc(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0, 4.0])) == pytest.approx(4.5 / 6)
    assert auc(torch.tensor([1.0, 2.0]), torch.tensor([3.0])) == 1
    assert auc(torch.ones(3), torch.ones(4)) == 0.5


def test_a_sample_of_each_class_is_bounded():
    key, label = torch.tensor([0.5, 0.1, 0.9, 0.3, 0.2]), torch.tensor([7, 7, 7, 2, 7])
    assert sorted(smallest_keys(key, label, 2).tolist()) == [1, 3, 4]


@pytest.fixture
def sample():
    rng = np.random.default_rng(3)
    label = rng.choice([0, 4, 7, 11, 13, 255], size=(20, 31)).astype(np.uint8)
    image = rng.integers(256, size=(20, 31, 3), dtype=np.uint8)
    return {"image": image, "label": label, "name": "a", "domain": "game", "error": []}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_depends_on_its_generator_alone(kind, sample):
    before = (sample["image"].copy(), sample["label"].copy())
    one, same, other = (corrupt(sample, kind, np.random.default_rng(seed)) for seed in (5, 5, 6))
    for key in ("image", "label"):
        np.testing.assert_array_equal(one[key], same[key])
    assert any((one[key] != other[key]).any() for key in ("image", "label"))
    np.testing.assert_array_equal(sample["image"], before[0])
    np.testing.assert_array_equal(sample["label"], before[1])


def test_shuffled_labels_rename_every_class_and_nothing_else(sample):
    spoilt = corrupt(sample, "labels", np.random.default_rng(0))
    np.testing.assert_array_equal(spoilt["image"], sample["image"])
    labelled = sample["label"] != 255
    np.testing.assert_array_equal(changed(sample, spoilt), labelled)
    assert (spoilt["label"][labelled] != sample["label"][labelled]).all()
    assert (spoilt["label"][~labelled] == 255).all()
    pairs = set(zip(sample["label"].ravel().tolist(), spoilt["label"].ravel().tolist(), strict=True))
    assert len(pairs) == 6  # one to one
    assert set(np.unique(spoilt["label"])) == {0, 4, 7, 11, 13, 255}


def test_a_texture_covers_a_rectangle_and_no_label(sample):
    spoilt = corrupt(sample, "texture", np.random.default_rng(0))
    np.testing.assert_array_equal(spoilt["label"], sample["label"])
    other = (spoilt["image"] != sample["image"]).any(axis=-1)
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (10, 15)
    covered = np.zeros_like(other)
    covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    np.testing.assert_array_equal(changed(sample, spoilt), covered & (sample["label"] != 255))


def test_a_loaded_run_predicts_what_the_test_scored(folder, run):
    record = evaluate(folder)
    assert run.step == 4
    assert list(run.domains) == list(record["domains"])
    for domain in ("game", "night"):
        confusion = torch.zeros(19, 19)
        for batch in run.batches(domain):
            pairs = batch["label"].flatten() * 19 + run.predict(batch).flatten()
            confusion += torch.bincount(pairs, minlength=19 * 19).view(19, 19)
        iou = class_iou(confusion)
        expected = [math.nan if value is None else value for value in record["domains"][domain]["iou"].values()]
        np.testing.assert_allclose(iou.numpy(), expected, rtol=1e-6)
        assert float(mean_iou(iou, range(19))) == pytest.approx(record["domains"][domain]["miou"])


def test_checkpoints_kept_on_the_way_are_found_by_step(folder, run):
    kept = checkpoints(folder)
    assert [path.stem.rpartition("=")[2] for path in kept] == ["2", "4"]
    earlier = load_run(folder, kept[0].name)
    assert earlier.step == 2
    assert not torch.equal(earlier.objective.embed.weight, run.objective.embed.weight)


@pytest.mark.remedy("runs/run_folder.py::read_config")
@pytest.mark.remedy("runs/run_folder.py::read_config")
@pytest.mark.remedy("runs/run_folder.py::read_config")
def test_a_folder_without_a_run_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.yaml not found: name the folder of a run"):
        load_run(tmp_path)
    whole = read_config(folder)
    for text, fault in (("data: [", "is not YAML"), ("data: {}", "is not the config of a run")):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ValueError, match=f"config.yaml {fault}.*: restore the one that `ppar fit` wrote"):
            load_run(tmp_path)
        shutil.copy(folder / "config.yaml", tmp_path)
        assert read_config(tmp_path) == whole


@pytest.mark.remedy("analysis/loaded_run.py::load_run")
def test_a_checkpoint_that_is_not_there_or_does_not_fit_is_named(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"step=3.ckpt not found: name a file in checkpoints/, where .*last.ckpt"
    ):
        load_run(folder, "step=3.ckpt")
    assert load_run(folder, "last.ckpt").step == 4
    config = (folder / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.replace("decoder_channels: 64", "decoder_channels: 32"))
    with pytest.raises(ValueError, match=r"does not fit the config .*: give the config it was trained with"):
        load_run(tmp_path, folder / "checkpoints" / "last.ckpt")
    (tmp_path / "config.yaml").write_text(config)
    assert load_run(tmp_path, folder / "checkpoints" / "last.ckpt").step == 4


@pytest.mark.remedy("analysis/loaded_run.py::LoadedRun.dataset")
def test_a_domain_that_is_not_there_is_named(run):
    with pytest.raises(ValueError, match="no domain 'fgo': choose one of game, fog"):
        run.batches("fgo")
    assert len(run.dataset("fog")) == 2


@pytest.mark.remedy("analysis/loaded_run.py::LoadedRun.objective")
def test_a_run_without_prototypes_is_named(run, tmp_path):
    baseline = load_run(fit(tmp_path / "baseline", "--model.ppar.enabled", "false"))
    assert next(iter(baseline.batches("fog", 1)))["label"].shape == (2, 128, 256)
    with pytest.raises(ValueError, match="was trained without PPAR .*: name another run"):
        diagnose(baseline, images=1)
    assert len(run.objective.prototypes.otp) == 19


def test_collected_features_are_those_of_the_images(run):
    batch = next(iter(run.batches("game", 8)))
    embedded = embed(run, batch)
    features = collect(run, "game", images=8, limit=10**6)
    assert len(features.label) == int(embedded.labels.counted.sum())
    distance = anchor_distance(features, run.objective.prototypes.otp)
    own = run.objective.prototypes.otp[embedded.labels.label]
    cosine = torch.cosine_similarity(embedded.features, own, dim=-1)
    road = embedded.labels.counted & (embedded.labels.label == 0)
    assert float(distance[0]) == pytest.approx(float((2 - 2 * cosine[road]).sqrt().mean()), rel=1e-4)
    few = collect(run, "game", images=8, limit=5)
    assert torch.bincount(few.label).max() == 5


def test_labels_of_another_size_than_the_images_are_read_whole(run):
    batch = next(iter(run.batches("game", 8)))
    twice = batch["label"].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    for one, other in zip(
        embed(run, batch).labels,
        embed(run, {**batch, "label": twice}).labels,
        strict=True,
    ):
        assert torch.equal(one, other)


def test_crops_are_those_of_training_whatever_the_protocol_resizes(run, monkeypatch):
    maps, comparison = weight_maps(run), compare(run, "game", "labels", images=8, every=2)
    monkeypatch.setattr(run.data.eval_splits["game"], "view", PROTOCOLS["rein"].views["cityscapes"])
    assert weight_maps(run) == maps
    again = compare(run, "game", "labels", images=8, every=2)
    assert torch.equal(again.corrupted.weight, comparison.corrupted.weight)


def test_weights_are_relative_to_their_class(run):
    positions, grid = weigh(run, next(iter(run.batches("game", 8))))
    assert positions.weight.shape == (8, grid.size[0] * grid.size[1])
    assert bool((positions.weight[~positions.counted] == 1).all())
    assert float(positions.weight[positions.counted].mean()) == pytest.approx(1, abs=1e-3)
    assert float(positions.weight.std()) > 0


def test_before_reweighting_starts_nothing_tells_corrupted_from_clean(run):
    positions, _ = weigh(run, next(iter(run.batches("game", 8))), u=0.0)
    assert bool((positions.weight - 1).abs().max() < 1e-5)


def test_a_comparison_takes_the_share_that_it_says(run):
    comparison = compare(run, "game", "labels", images=8, every=2)
    clean, corrupted = len(comparison.clean.margin), len(comparison.corrupted.margin)
    assert 0.7 < clean / corrupted < 1.4  # half the images
    again = compare(run, "game", "labels", images=8, every=2)
    assert torch.equal(comparison.corrupted.weight, again.corrupted.weight)


def test_images_are_scored_one_by_one_the_worst_first(run):
    scores = score_images(run, "fog")
    assert len(scores) == 2
    assert scores[0].miou <= scores[1].miou
    batch = run.read("fog", scores[0].place)
    assert (scores[0].miou > 0) == bool((batch["label"] == run.predict(batch)).any())


def test_a_comparison_without_a_clean_position_has_no_area(run):
    comparison = compare(run, "game", "labels", images=2)
    none = comparison._replace(clean=type(comparison.clean)(*(field[:0] for field in comparison.clean)))
    assert math.isnan(none.auc["weight"])


def test_the_diagnostics_of_a_run_in_a_table(folder, run, monkeypatch):
    monkeypatch.setattr("ppar_lightning.analysis.diagnosis.diagnose", partial(diagnose, images=8, limit=20))
    main(["report", "--diagnostics", str(folder)])
    with (folder / "diagnostics.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = {(row["measure"], row["domain"], row["class"]): float(row["value"]) for row in rows}
    assert len(table) == len(rows)
    assert all(math.isfinite(value) for value in table.values())
    own = [table["cosine/vtp_otp", "", name] for name in CITYSCAPES]
    assert table["cosine/vtp_otp", "", ""] == pytest.approx(sum(own) / 19, abs=1e-5)
    for domain in run.domains:
        assert 0 < table["distance/otp", domain, ""] < 2
    assert table["frechet", "game", ""] == pytest.approx(0, abs=1e-6)
    assert table["frechet", "fog", ""] > 0
    assert 0 <= table["auc/labels/weight", "game", ""] <= 1
