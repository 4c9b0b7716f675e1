import math

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from streets_batch import CHANNELS, CLASSES, WORDS, make_batch
from torch.nn.functional import cross_entropy, interpolate, normalize

from ppar_lightning.analysis.weighing import auc
from ppar_lightning.distributed import shard
from ppar_lightning.method import objective as objective_module
from ppar_lightning.method.agreement import Embedded, class_weights
from ppar_lightning.method.alignment import alignment_loss, class_factors, cosines
from ppar_lightning.method.grid import Grid, GridLabels
from ppar_lightning.method.known_gradient import known_gradient
from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.schedule import Schedules
from ppar_lightning.method.supervised import supervised_terms, upsampled_cross_entropy
from ppar_lightning.segmenter.segmenter import Segmenter, SegmenterOutput


def build(clip_folder, **options) -> PPAR:
    torch.manual_seed(0)
    own = {"clip": str(clip_folder), "visual_size": None, "clip_dtype": "float32", "context_every": 1}
    return PPAR(PPAROptions(**own | options), CHANNELS, WORDS)


def run(objective, batch, u=1.0, steps=1):
    for _ in range(steps):
        losses = objective(batch.output, batch.image, batch.label, u)
        objective.update()
    return losses


def grids(objective, batch, u=1.0):
    """What the objective computes inside: embedded features, margins and weights."""
    seen = {}

    def spy(found, embedded, sums):
        seen["weights"] = class_weights(found, embedded, sums)
        seen["embedded"] = embedded
        return seen["weights"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective_module, "class_weights", spy)
        objective(batch.output, batch.image, batch.label, u)
    return seen["embedded"], seen["weights"]


@pytest.mark.parametrize("granularity", ["pixel", "region", "image"])
@pytest.mark.parametrize("direction", ["reliable", "hard"])
@pytest.mark.parametrize("eta", [0.5, 0.9])
def test_weights_keep_their_bounds_and_their_class_mean(clip_folder, granularity, direction, eta):
    objective = build(clip_folder, reweighting=granularity, direction=direction, eta=eta)
    run(objective, make_batch(2, seed=1))
    batch = make_batch(2)
    batch.label[0, :16, :16] = 255
    embedded, weights = grids(objective, batch)
    counted = embedded.labels.counted
    assert weights.w[counted].std() > 0.01
    assert weights.w.min() >= (1 - eta) / (1 + eta) - 1e-6
    assert weights.w.max() <= (1 + eta) / (1 - eta) + 1e-6
    assert (weights.w[~counted] == 1).all()
    for k in range(CLASSES):
        own = weights.w[counted & (embedded.labels.label == k)]
        assert len(own) == weights.number[k]
        if len(own):
            torch.testing.assert_close(own.mean(), torch.tensor(1.0))


def noisy(objective, corrupted: torch.Tensor) -> Embedded:
    """Features about the text of their class, eight images; where corrupted, another class is the label."""
    label = torch.arange(CLASSES).repeat(8, 20)
    features = normalize(
        objective.prototypes.otp[label] + 0.1 * torch.randn(*label.shape, objective.embed.out_channels)
    )
    label = torch.where(corrupted, (label + 1) % CLASSES, label)
    counted = torch.ones_like(label, dtype=torch.bool)
    grid = GridLabels(label, counted.float(), counted, torch.ones(8, CLASSES, dtype=torch.bool))
    return Embedded(features, Grid((20, CLASSES), (8.0, 8.0)), grid, grid.one_hot(CLASSES))


@pytest.mark.parametrize(("direction", "lowest", "highest"), [("reliable", 0.75, 1.0), ("hard", 0.0, 0.25)])
def test_the_weights_of_separated_features_tell_wrong_labels(clip_folder, direction, lowest, highest):
    objective = build(clip_folder, direction=direction, centre=True)
    stage = Schedules.at(1.0, objective.options).on(torch.device("cpu"))
    clean = torch.zeros(8, 20 * CLASSES, dtype=torch.bool)
    sums = objective.agreement(noisy(objective, clean), stage).sums
    objective.statistics.update(sums[:, [3, 4, 2]])
    corrupted = clean.clone()
    corrupted[:2] = True  # one image in four
    embedded = noisy(objective, corrupted)
    agreement = objective.agreement(embedded, stage)
    w = class_weights(agreement, embedded, agreement.sums[:, :3]).w
    assert lowest <= auc(w[corrupted], w[~corrupted]) <= highest


def test_alignment_trains_the_head_of_four_blocks(clip_folder):
    """PPAR aligns the map of `concat`, and each parameter of head and backbone gets its gradient."""
    config = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56, "mlp_ratio": 2}
    segmenter = Segmenter("dinov2", backbone_config={"model_type": "dinov2", **config}, decoder_channels=CHANNELS)
    assert segmenter.description["head"] == "concat"
    image = torch.rand(2, 3, 56, 56)
    label = torch.randint(0, CLASSES, (2, 4, 4)).repeat_interleave(14, 1).repeat_interleave(14, 2)
    losses = build(clip_folder)(segmenter.outputs(image), image, label, 0.5)
    losses.terms["align"].backward()
    named = [n for n, p in segmenter.named_parameters() if p.requires_grad and p.grad is None]
    assert named == ["classifier.weight", "classifier.bias"]


def test_without_reweighting_the_supervised_loss_is_the_baselines_bit_for_bit(clip_folder):
    batch = make_batch()
    baseline = supervised_terms(batch.output, batch.label)["ce"]
    for options in ({"eta": 0.0}, {"reweighting": "off"}):
        objective = build(clip_folder, **options)
        assert torch.equal(run(objective, batch, steps=3).terms["ce"], baseline)
        assert torch.equal(grids(objective, batch)[1].w, torch.ones_like(grids(objective, batch)[1].w))
    with_weights = run(build(clip_folder), batch, steps=3).terms["ce"]
    assert not torch.equal(with_weights, baseline)
    torch.testing.assert_close(baseline, cross_entropy(batch.output.logits, batch.label))


@pytest.mark.parametrize("wrong", [-1, CLASSES, 254])
def test_a_label_that_is_no_class_is_never_trained_on_in_silence(clip_folder, wrong):
    batch = make_batch()
    batch.label[1, 3, 5] = wrong
    assert supervised_terms(batch.output, batch.label)["ce"].isnan()
    assert build(clip_folder)(batch.output, batch.image, batch.label, 0.5).total.isnan()


def test_before_its_ramp_reweighting_is_the_baseline(clip_folder):
    batch = make_batch()
    losses = run(build(clip_folder), batch, u=0.04, steps=2)
    assert torch.equal(losses.terms["ce"], supervised_terms(batch.output, batch.label)["ce"])
    assert losses.terms["align"] == 0


def test_the_alignment_loss_by_hand_and_its_gradient_by_autograd():
    generator = torch.Generator().manual_seed(0)
    anchors = normalize(torch.randn(2, 4, 5, generator=generator), dim=-1)
    anchors[0, 3] = 0  # not there yet
    z = torch.randn(1, 23, 5, generator=generator).requires_grad_()
    label = torch.tensor([[0] * 9 + [1] * 8 + [2] * 3 + [3] * 3])
    one_hot = torch.nn.functional.one_hot(label, 4).float()
    weight, shares = torch.rand(1, 23, generator=generator), torch.tensor([0.3, 0.7])
    factors = class_factors(torch.einsum("bn,bnk->k", weight, one_hot), one_hot.sum(dim=(0, 1)))
    assert (factors > 0).tolist() == [True, True, False, False]  # the others have fewer than 8 positions
    factors[3] = 0.01
    cosine = cosines(z.detach(), anchors)
    loss, gradient = alignment_loss(z.detach(), anchors, cosine, one_hot, weight, torch.outer(shares, factors), 0.07)
    by_hand = 0.0
    for s, share in enumerate(shares):
        known = anchors[s].any(dim=1)
        logits = (normalize(z[0], dim=1) @ anchors[s].T / 0.07).masked_fill(~known, -torch.inf)
        nll = cross_entropy(logits, label[0], reduction="none")
        by_hand = by_hand + share * (torch.where(known[label[0]], nll, 0) * weight[0] * factors[label[0]]).sum()
    by_hand.backward()
    torch.testing.assert_close(loss, by_hand.detach())
    torch.testing.assert_close(gradient, z.grad)


def test_resized_cross_entropy_and_its_gradient_are_those_of_autograd():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 4, 5, 6, generator=generator).requires_grad_()
    label = torch.randint(0, 4, (2, 18, 21), generator=generator)
    weight = torch.rand(2, 18, 21, generator=generator) * (torch.rand(2, 18, 21, generator=generator) > 0.2)
    own = label.unsqueeze(1) == torch.arange(4).view(-1, 1, 1)
    loss = upsampled_cross_entropy(coarse, (20, 24), own, weight)
    (3 * loss).backward()
    found, coarse.grad = coarse.grad, None
    full = interpolate(coarse, (20, 24), mode="bilinear", align_corners=False)[..., :18, :21]
    expected = (cross_entropy(full, label, reduction="none") * weight).sum()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, coarse.grad)


@pytest.mark.parametrize(("u", "anchor"), [(0.3, "bank"), (0.8, "otp")])
def test_alignment_starts_at_vtp_and_ends_at_otp(clip_folder, u, anchor):
    objective = build(clip_folder, reweighting="off")
    objective.prototypes.bank.copy_(normalize(torch.randn(CLASSES, 16), dim=1))
    batch = make_batch()
    embedded, weights = grids(objective, batch, u)
    anchors = getattr(objective.prototypes, anchor).unsqueeze(0)
    factor = class_factors(weights.total, weights.number).unsqueeze(0)
    z, purity = embedded.features, embedded.labels.purity
    mean, _ = alignment_loss(z, anchors, cosines(z, anchors), embedded.one_hot, purity, factor, 0.07)
    torch.testing.assert_close(objective(batch.output, batch.image, batch.label, u).terms["align"], 0.4 * mean)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_context_is_looked_at_in_every_nth_step_alone(clip_folder, every):
    objective, batch = build(clip_folder, context_every=every), make_batch()
    seen, parameters = [], [*objective.prototypes.parameters()]
    objective.clip.register_forward_hook(lambda *_: seen.append(objective.step))
    for step in range(6):
        bank = objective.prototypes.bank.clone()
        objective.zero_grad()
        losses = objective(batch.output, batch.image, batch.label, 0.5)
        losses.total.backward()
        objective.update()
        looked = (step + 1) % every == 0
        assert ({"vtp", "anchor"} <= set(losses.terms)) == looked
        assert torch.equal(objective.prototypes.bank, bank) != looked
        assert all(p.grad is not None and (looked or not p.grad.any()) for p in parameters)
    assert seen == list(range(every - 1, 6, every))


def train_sharded(clip_folder) -> None:
    objective, batch = build(clip_folder, context_every=2), make_batch()
    mesh = dist.init_device_mesh("cpu", (1,))
    for part in objective.children():
        shard(part, mesh)
    optimizer = torch.optim.AdamW(objective.parameters())
    for looks in (False, True, False):
        optimizer.zero_grad()
        objective(batch.output, batch.image, batch.label, 0.5).total.backward()
        assert all(bool(p.grad.to_local().any()) <= looks for p in objective.prototypes.parameters())
        optimizer.step()
        objective.update()
    dist.destroy_process_group()


def test_a_sharded_objective_looks_at_the_context_now_and_then(clip_folder):
    run_ranks(1, train_sharded, clip_folder)


def test_a_gradient_in_fp16_is_kept_until_the_loss_is_scaled():
    z, small = torch.zeros(3, dtype=torch.float16, requires_grad=True), torch.full((3,), 1e-8)
    (known_gradient(z, torch.zeros(()), small) * 2**20).backward()
    torch.testing.assert_close(z.grad, torch.full_like(z, 1e-8 * 2**20))


def test_a_look_counts_for_the_steps_between(clip_folder):
    batch = make_batch()
    plain, rare = (build(clip_folder, context_every=n).eval() for n in (1, 3))
    rare.step = 2
    terms = [one(batch.output, batch.image, batch.label, 0.5).terms for one in (plain, rare)]
    for name in ("vtp", "anchor"):
        torch.testing.assert_close(terms[1][name], 3 * terms[0][name])
    assert rare.prototypes.momentum == pytest.approx(plain.prototypes.momentum**3)


@pytest.mark.parametrize("order", ["otp", "naive"])
def test_rows_without_vtp_have_no_tower_and_train_nothing_of_it(clip_folder, order):
    objective, batch = build(clip_folder, order=order), make_batch()
    assert objective.clip is None
    assert not any(p.requires_grad for p in objective.prototypes.parameters())
    losses = run(objective, batch, steps=2)
    assert set(losses.terms) == {"ce", "align"}
    assert torch.equal(objective.prototypes.bank, objective.prototypes.otp)
    losses.total.backward()
    assert batch.output.decoder.grad.abs().sum() > 0


def gradients(objective, loss):
    objective.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, p in objective.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_each_loss_reaches_its_own_part_alone(clip_folder):
    objective = build(clip_folder)
    batch = make_batch()
    run(objective, batch, steps=2)
    losses = objective(batch.output, batch.image, batch.label, 0.5)
    assert {name.split(".")[0] for name in gradients(objective, losses.terms["align"])} == {"embed"}
    assert batch.output.decoder.grad.abs().sum() > 0
    batch.output.decoder.grad = None
    for term in ("vtp", "anchor"):
        reached = gradients(objective, losses.terms[term])
        assert {name.split(".")[0] for name in reached} == {"prototypes"}, term
        assert "prototypes.gamma" in reached, term
        assert batch.output.decoder.grad is None, term
    assert gradients(objective, losses.terms["ce"]) == set()
    parameters = dict(objective.named_parameters())
    assert not any(name.startswith("clip") or name.endswith(("otp", "bank", "sums")) for name in parameters)
    assert all(p.grad is None for p in objective.clip.tower.parameters())


def test_reweighting_alone_leaves_the_segmenter_to_the_supervised_loss(clip_folder):
    objective = build(clip_folder, align_segmenter=False)
    batch = make_batch()
    terms = run(objective, batch).terms
    (terms["align"] + terms["vtp"] + terms["anchor"]).backward()
    assert batch.output.decoder.grad is None
    assert objective.embed.weight.grad.abs().sum() > 0


def test_a_batch_without_a_valid_pixel_trains_on_and_leaves_the_banks_alone(clip_folder):
    objective = build(clip_folder)
    run(objective, make_batch())
    before = {name: tensor.clone() for name, tensor in objective.named_buffers()}
    batch = make_batch()
    batch.label.fill_(255)
    losses = run(objective, batch)
    assert losses.total.item() == 0
    losses.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)
    assert batch.output.decoder.grad.abs().sum() == 0
    assert all(math.isfinite(value) for value in losses.diagnostics.values())
    for name, tensor in objective.named_buffers():
        assert torch.equal(tensor, before[name]), name


def test_absent_classes_leave_the_banks_alone(clip_folder):
    objective = build(clip_folder)
    batch = make_batch(4, classes=10)
    run(objective, batch)
    assert torch.equal(objective.prototypes.bank[10:], objective.prototypes.otp[10:])
    assert not torch.isclose(objective.prototypes.bank[:10], objective.prototypes.otp[:10], atol=1e-7).all(dim=1).any()
    assert (objective.visual_bank.bank[10:] == 0).all()
    torch.testing.assert_close(objective.visual_bank.bank[:10].norm(dim=1), torch.ones(10))
    assert (objective.statistics.sums[10:] == 0).all()


def test_naive_prototypes_are_learnt_from_the_first_visit_on(clip_folder):
    objective = build(clip_folder, order="naive")
    batch = make_batch()
    assert run(objective, batch).terms["align"] == 0
    later = run(objective, batch)
    assert later.terms["align"] > 0
    assert torch.isfinite(later.total)


def test_banks_move_once_for_accumulated_batches_as_for_one(clip_folder):
    batch = make_batch(4)
    whole, parts = build(clip_folder).eval(), build(clip_folder).eval()
    whole(batch.output, batch.image, batch.label, 0.0)
    for rows in (batch.rows(0, 2), batch.rows(2, 4)):
        parts(rows.output, rows.image, rows.label, 0.0)
    whole.update()
    parts.update()
    for (name, one), (_, other) in zip(whole.named_buffers(), parts.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_the_state_holds_banks_and_statistics_but_no_clip(clip_folder):
    objective = build(clip_folder)
    run(objective, make_batch())
    state = objective.state_dict()
    assert {"prototypes.otp", "prototypes.bank", "visual_bank.bank", "statistics.sums"} <= set(state)
    assert not any(name.startswith("clip") for name in state)
    other = build(clip_folder)
    other.load_state_dict(state)
    batch = make_batch(seed=3)
    for one in (objective.eval(), other.eval()):
        one.total = run(one, batch, u=0.6).total
    assert torch.equal(objective.total, other.total)


@pytest.mark.remedy("method/objective.py::PPAR.__init__")
def test_text_of_another_width_than_the_tower_is_refused_but_trains_on_own_features(clip_folder, tmp_path):
    import numpy as np

    np.save(tmp_path / "text.npy", np.random.default_rng(0).normal(size=(CLASSES, 24)).astype(np.float32))
    with pytest.raises(ValueError, match="width 24.*has 16: name their CLIP as ppar.clip, or set ppar.context: f"):
        build(clip_folder, text_embeddings=str(tmp_path / "text.npy"))
    np.save(tmp_path / "own.npy", np.random.default_rng(0).normal(size=(CLASSES, 16)))
    build(clip_folder, text_embeddings=str(tmp_path / "own.npy"))
    objective = build(clip_folder, text_embeddings=str(tmp_path / "text.npy"), context="features")
    losses = run(objective, make_batch(), u=0.5, steps=2)
    assert torch.isfinite(losses.total)
    assert not torch.allclose(objective.prototypes.bank, objective.prototypes.otp)


def test_the_backbone_level_and_the_ensemble(clip_folder):
    objective = build(clip_folder, level="backbone", ensemble=0.1)
    batch = make_batch(classes=4)
    objective(batch.output, batch.image, batch.label, 0.0)
    objective.update()
    objective(batch.output, batch.image, batch.label, 1.0).terms["align"].backward()
    assert batch.output.backbone.grad.abs().sum() > 0
    assert batch.output.decoder.grad is None
    difference = objective.ensemble(batch.output) - batch.output.logits
    assert difference.shape == (2, CLASSES, 64, 128)
    assert 0 < difference.abs().max() <= 0.1 / 0.07 + 1e-5


@pytest.mark.remedy("method/options.py::PPAROptions.__post_init__")
@pytest.mark.parametrize("bad", [{"eta": 1.0}, {"tau": 0.0}, {"momentum": 1.0}])
def test_options_outside_their_range_are_named(bad):
    with pytest.raises(ValueError, match=f"ppar.{next(iter(bad))} is"):
        PPAROptions(**bad)
    PPAROptions(**{name: value - 0.01 if value else 0.01 for name, value in bad.items()})


@pytest.mark.remedy("method/options.py::PPAROptions.__post_init__")
def test_a_context_that_would_never_be_looked_at_is_refused(clip_folder):
    with pytest.raises(ValueError, match="ppar.context_every is 0: give 1 for every step, or more"):
        PPAROptions(context_every=0)
    batch = make_batch()
    assert "vtp" in build(clip_folder, context_every=1)(batch.output, batch.image, batch.label, 0.5).terms


def test_a_size_that_is_no_multiple_of_the_stride_shifts_nothing(clip_folder):
    objective = build(clip_folder, context="features", ensemble=0.1).eval()
    whole = make_batch()
    whole.label[:, 61:], whole.label[:, :, 117:] = 255, 255
    part = whole.output._replace(size=(61, 117))
    difference = objective.ensemble(whole.output) - whole.output.logits
    torch.testing.assert_close(objective.ensemble(part) - part.logits, difference[..., :61, :117])
    for _ in range(2):  # the second is weighted by the statistics of the first
        expected = objective(whole.output, whole.image, whole.label, 0.6)
        found = objective(part, whole.image[..., :61, :117], whole.label[:, :61, :117], 0.6)
        objective.update()
        assert expected.terms["align"] > 0
        for name, term in expected.terms.items():
            torch.testing.assert_close(found.terms[name], term, msg=name)


@pytest.mark.remedy("method/objective.py::PPAR._map")
def test_features_alone_are_enough_at_the_level_of_the_decoder(clip_folder):
    batch = make_batch()
    plain = SegmenterOutput(*batch.output[:4])
    losses = build(clip_folder)(plain, batch.image, batch.label, 0.5)
    assert torch.equal(
        losses.terms["align"], build(clip_folder)(batch.output, batch.image, batch.label, 0.5).terms["align"]
    )
    with pytest.raises(ValueError, match="ppar.level is 'backbone'.*set it to 'decoder'"):
        build(clip_folder, level="backbone")(plain, batch.image, batch.label, 0.5)
    assert build(clip_folder, level="decoder")(plain, batch.image, batch.label, 0.5).total.isfinite()


def test_each_lambda_scales_its_own_term(clip_folder):
    batch, names = make_batch(), {"lambda_align": "align", "lambda_vtp": "vtp", "lambda_anchor": "anchor"}
    plain = build(clip_folder).eval()
    run(plain, batch)
    expected = plain(batch.output, batch.image, batch.label, 0.6).terms
    for option, term in names.items():
        scaled = build(clip_folder, **{option: 3 * getattr(PPAROptions(), option)}).eval()
        run(scaled, batch)
        for name, value in scaled(batch.output, batch.image, batch.label, 0.6).terms.items():
            torch.testing.assert_close(value, expected[name] * (3 if name == term else 1), msg=f"{option}: {name}")


@pytest.mark.parametrize(
    ("ramp", "value", "full"), [("align_ramp", "lambda_align", 0.4), ("rho_ramp", "rho", 1.0), ("eta_ramp", "eta", 0.5)]
)
def test_each_ramp_moves_its_own_schedule(clip_folder, ramp, value, full):
    objective = build(clip_folder, **{ramp: (0.2, 0.6)})
    values = [getattr(Schedules.at(u, objective.options), value) for u in (0.2, 0.4, 0.6)]
    assert values == pytest.approx([0, full / 2, full])
    others = {"rho", "eta", "lambda_align"} - {value}
    default = Schedules.at(0.2, PPAROptions())
    assert all(getattr(Schedules.at(0.2, objective.options), name) == getattr(default, name) for name in others)
