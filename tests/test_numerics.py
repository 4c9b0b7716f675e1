"""Numbers: prototypes by precision, fp32 inside, unit norm after many updates, and no NaN in a bank."""

from typing import NamedTuple

import pytest
import torch
from streets_batch import CHANNELS, CLASSES, WORDS, make_batch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from ppar_lightning.baselines.whitening import InstanceSelectiveWhitening, ISWOptions, photometric
from ppar_lightning.images.window import Window
from ppar_lightning.method.bank import VisualBank
from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.prototypes import Prototypes
from ppar_lightning.method.reweighting import MIN_SIGMA, MarginStatistics
from ppar_lightning.segmenter.segmenter import Segmenter
from ppar_lightning.segmenter.sliding import predict

STEPS = 6


class Trained(NamedTuple):
    objective: PPAR
    total: Tensor


def train(clip_folder, dtype: torch.dtype) -> Trained:
    """Six steps through all schedules, with a decoder and a classifier that learn under autocast."""
    torch.manual_seed(0)
    options = PPAROptions(clip=str(clip_folder), visual_size=None, clip_dtype="float32", momentum=0.9, lambda_align=1.0)
    objective = PPAR(options, CHANNELS, WORDS).eval()  # no dropout
    decoder = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
    classifier = nn.Sequential(nn.Conv2d(CHANNELS, CLASSES, 1), nn.Upsample(scale_factor=4, mode="bilinear"))
    parameters = [p for part in (objective, decoder, classifier) for p in part.parameters()]
    optimizer = torch.optim.SGD(parameters, 0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=dtype == torch.float16)
    for step in range(STEPS):
        batch = make_batch(2, seed=step)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            features = decoder(batch.output.decoder)
            output = batch.output._replace(decoder=features, coarse=classifier(features))
            losses = objective(output, batch.image, batch.label, step / STEPS)
        optimizer.zero_grad()
        scaler.scale(losses.total).backward()
        scaler.step(optimizer)
        scaler.update()
        objective.update()
    return Trained(objective, losses.total.detach())


@pytest.fixture(scope="module")
def full(clip_folder) -> Trained:
    return train(clip_folder, torch.float32)


def distance(one: Tensor, other: Tensor) -> float:
    return (one - other).norm(dim=1).max().item()


# Half precision rounds to 8 (bf16) and 11 (fp16) bits: unit vectors differ by less than 2^-8 and 2^-11 in all.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_prototypes_do_not_depend_on_the_precision(clip_folder, full, dtype, tolerance):
    half = train(clip_folder, dtype)
    for name in ("prototypes", "visual_bank"):
        ours, expected = (getattr(run.objective, name).bank for run in (half, full))
        assert ours.dtype == torch.float32
        assert distance(ours, expected) < tolerance, name
    ours, expected = (run.objective.statistics.moments() for run in (half, full))
    torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(half.total, full.total, atol=0, rtol=tolerance)


def test_the_prototypes_that_are_compared_have_moved(full):
    assert distance(full.objective.prototypes.bank, full.objective.prototypes.otp) > 2**-7
    assert (full.objective.visual_bank.bank.norm(dim=1) > 0).all()


class Products(TorchDispatchMode):
    """Notes the dtypes that matrix products, norms and softmaxes work in."""

    def __init__(self):
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "bmm", "baddbmm", "linalg_vector_norm", "_softmax", "_log_softmax"):
            self.seen.setdefault(name, set()).update(a.dtype for a in args if isinstance(a, Tensor))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cosines_and_softmaxes_are_fp32_inside(clip_folder, dtype, monkeypatch):
    options = PPAROptions(clip=str(clip_folder), visual_size=None, clip_dtype="float32", ensemble=1.0)
    objective, batch = PPAR(options, CHANNELS, WORDS), make_batch()
    products, losses = Products(), objective._losses

    def spy(*inputs):
        with products:
            return losses(*inputs)

    monkeypatch.setattr(objective, "_losses", spy)
    low = batch.output._replace(**{name: getattr(batch.output, name).to(dtype) for name in ("coarse", "decoder")})
    with torch.autocast("cpu", dtype):
        assert objective.embed(low.decoder).dtype == dtype
        assert objective(low, batch.image, batch.label, 0.6).total.dtype == torch.float32
    assert {"mm", "linalg_vector_norm", "_log_softmax"} <= set(products.seen)
    assert set().union(*products.seen.values()) == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cosines_of_the_ensemble_are_fp32(clip_folder, dtype):
    objective = PPAR(PPAROptions(clip=str(clip_folder), ensemble=1.0), CHANNELS, WORDS)
    output = make_batch().output
    features = output.decoder.detach().to(dtype)
    output = output._replace(decoder=features, coarse=torch.zeros_like(output.coarse))
    with torch.autocast("cpu", dtype):
        z = normalize(objective.embed(features).float(), dim=1)
        found = objective.ensemble(output)
    text = torch.einsum("bdhw,kd->bkhw", z, objective.prototypes.otp) / objective.options.tau
    expected = torch.nn.functional.interpolate(text, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def sums(number: int, classes: int, width: int) -> Tensor:
    """(number, classes, width + 1) sums of features and their count, of all sizes, a class now and then absent."""
    generator = torch.Generator().manual_seed(0)
    count = torch.randint(0, 4, (number, classes, 1), generator=generator).float()
    features = torch.randn(number, classes, width, generator=generator)
    return torch.cat([normalize(features, dim=2) * count * torch.rand(count.shape, generator=generator), count], dim=2)


def test_one_update_brings_a_bank_that_drifted_back_to_unit_norm():
    text = normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    moves = sums(20, 3, 8).abs().clamp_min(0.01)
    for bank in (Prototypes(text, 0.99), VisualBank(3, 8, 0.99)):
        for factor, move in zip(torch.linspace(0.5, 2, 20), moves, strict=True):
            bank.bank.copy_(text * factor)  # far more than rounding would ever do
            bank.update(move)
            torch.testing.assert_close(bank.bank.norm(dim=1), torch.ones(3), atol=2e-7, rtol=0)


@torch.no_grad()
def test_many_updates_keep_banks_at_unit_norm_and_statistics_positive():
    text = normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    otp, visual, statistics = Prototypes(text, 0.99), VisualBank(3, 8, 0.99), MarginStatistics(3, 0.99)
    moves = sums(50, 3, 8)
    for number in range(3000):
        move = moves[number % 50]
        otp.update(move)
        visual.update(move)
        statistics.update(torch.stack([move[:, 0], move[:, 0].square(), move[:, -1]], dim=1))
    for bank in (otp.bank, visual.bank):
        torch.testing.assert_close(bank.norm(dim=1), torch.ones(3), atol=2e-7, rtol=0)
    assert statistics.sums.isfinite().all()
    assert (statistics.sums[:, 2] > 0).all()
    assert (statistics.moments()[1] >= MIN_SIGMA).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_no_bank_takes_in_a_nan(clip_folder, value):
    objective, batch = PPAR(PPAROptions(clip=str(clip_folder), context_every=1), CHANNELS, WORDS), make_batch()
    objective(batch.output, batch.image, batch.label, 0.5)
    objective.update()
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    objective(batch.output, batch.image, batch.label, 0.5)
    width = objective.prototypes.otp.shape[1] + 1
    for k, column in enumerate((0, width + 1, 2 * width)):  # one of each kind of sums
        objective.pending[k, column] = value
    objective.update()
    after = objective.state_dict()
    for name in ("prototypes.bank", "visual_bank.bank", "statistics.sums"):
        assert torch.equal(after[name][:3], before[name][:3]), name
        assert not torch.equal(after[name][3:], before[name][3:]), name
    assert (objective.pending == 0).all()


class Operators(TorchDispatchMode):
    """Notes the operators that run, and refuses what Apple's MPS lacks."""

    LACKING = ("_upsample_bilinear2d_aa", "_adaptive_avg_pool2d", "linalg_svd", "linalg_eigh", "histc", "bucketize")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.LACKING, name
        result = function(*args, **(kwargs or {}))
        for tensor in (*args, *(result if isinstance(result, tuple | list) else [result])):
            assert not isinstance(tensor, Tensor) or tensor.dtype != torch.float64, name
        return result


def test_no_operator_of_a_step_is_missing_on_mps(clip_folder):
    segmenter = Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=16)
    options = PPAROptions(clip=str(clip_folder), visual_size=32, clip_dtype="float32", ensemble=1.0)
    objective = PPAR(options, segmenter.decoder_channels, WORDS)
    whitening = InstanceSelectiveWhitening(ISWOptions(enabled=True, statistics=(0.1, 0.6)), segmenter.early_channels)
    image, label = torch.rand(2, 3, 61, 117), torch.randint(0, CLASSES, (2, 61, 117))
    with Operators():
        for u in (0.2, 0.6):  # gathers the statistics of whitening, then selects
            output = segmenter.outputs(photometric(image, (0, 0)))
            white = whitening(output.early, image, segmenter.early, u, (0, 1))
            (objective(output, image, label, u).total + white).backward()
            objective.update()
            predict(objective.ensemble(output).detach(), (50, 100))
        for window in (None, Window(32, 24)):
            segmenter.eval().predict(image[0], window)
    assert white > 0
