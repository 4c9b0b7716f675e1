"""ISW: covariances by hand, the mask of a known style, gradients, one rank against two."""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ConvNextConfig, ResNetConfig

from ppar_lightning.baselines.whitening import (
    InstanceSelectiveWhitening,
    ISWOptions,
    SelectiveMask,
    covariance,
    k_means,
    photometric,
    style_variance,
)
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.segmenter.segmenter import Segmenter

CHANNELS = 6


def noise(images: int, channels: int = CHANNELS, seed: int = 0) -> Tensor:
    return torch.randn(images, channels, 24, 24, generator=torch.Generator().manual_seed(seed))


def restyled(maps: Tensor) -> Tensor:
    """The maps with channel 1 leaking into channel 4: of the covariance, the element (1, 4) alone moves."""
    changed = maps.clone()
    changed[:, 4] += maps[:, 1]
    return changed


def test_covariance_by_hand():
    first, second = torch.tensor([1.0, 3, 1, 3]), torch.tensor([0.0, 10, 10, 0])
    maps = torch.stack([first, second, -5 * first, first + 0.2 * second]).view(1, 4, 2, 2)
    c = 0.5**0.5  # of the sum of two uncorrelated channels with each of them
    expected = torch.tensor([[1, 0, -1, c], [0, 1, 0, c], [-1, 0, 1, -c], [c, c, -c, 1]])
    torch.testing.assert_close(covariance(maps)[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance(7 * maps - 3), covariance(maps), atol=1e-4, rtol=0)
    assert covariance(maps.bfloat16()).dtype == torch.float32
    assert covariance(torch.ones(1, 2, 4, 4)).abs().sum() == 0  # a dead channel


def test_k_means_splits_what_is_apart():
    values = torch.tensor([0.1, 9.0, 0.0, 5.0, 0.2, 5.1, 0.05, 9.2])
    assert k_means(values, 3).tolist() == [0, 2, 0, 1, 0, 1, 0, 2]
    assert k_means(values, 2).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert k_means(torch.zeros(5), 3).tolist() == [0] * 5


def test_k_means_has_converged():
    values = torch.rand(3000, generator=torch.Generator().manual_seed(0)).pow(4)
    found = k_means(values, 3)
    centres = torch.stack([values[found == k].mean() for k in range(3)])
    assert torch.equal(found, (values[:, None] - centres).abs().argmin(dim=1))
    assert found.bincount().tolist() == [1983, 603, 414]  # as Lloyd's algorithm of version 0.1.0


def test_the_mask_selects_what_a_style_moves():
    mask = SelectiveMask(CHANNELS)
    pairs = [(noise(2, seed=seed), restyled(noise(2, seed=seed))) for seed in range(3)]
    for pair in pairs:
        mask.variance += style_variance(*pair)
        mask.images += 2
    both = torch.stack([torch.cat([covariance(pair[side]) for pair in pairs]) for side in (0, 1)])
    torch.testing.assert_close(mask.variance / mask.images, both.var(dim=0, correction=0).mean(dim=0))
    mask.select(clusters=2)
    expected = torch.zeros(CHANNELS, CHANNELS, dtype=torch.bool)
    expected[1, 4] = True
    assert torch.equal(mask.selected, expected)
    torch.testing.assert_close(mask(pairs[0][1]), both[1, :2, 1, 4].abs())


def test_only_elements_above_the_diagonal_are_selected_and_all_clusters_but_the_lowest():
    mask = SelectiveMask(4)
    mask.variance.copy_(torch.tensor([[0.0, 0.01, 5, 9], [0, 0, 0.02, 5.1], [0, 0, 0, 0.03], [0, 0, 0, 0]]))
    mask.images.fill_(1)
    mask.select(clusters=3)
    assert mask.selected.nonzero().tolist() == [[0, 2], [0, 3], [1, 3]]


def test_whitened_features_cost_nothing():
    mask = SelectiveMask(CHANNELS)
    mask.selected |= torch.ones_like(mask.selected).triu(diagonal=1)
    flat = noise(1).flatten(2)[0] - noise(1).flatten(2)[0].mean(dim=1, keepdim=True)
    white = torch.linalg.svd(flat, full_matrices=False).Vh.view(1, CHANNELS, 24, 24) * 24  # of deviation 1
    assert mask(white) < 1e-5
    assert mask(white[:, [0, 0, 0, 0, 0, 0]]) == pytest.approx(1, abs=1e-3)  # one channel, six times


def isw(**options: object) -> InstanceSelectiveWhitening:
    return InstanceSelectiveWhitening(ISWOptions(enabled=True, clusters=2, **options), [CHANNELS])


def early_of(maps: Tensor):
    """Maps that answer a change of the image with `restyled`."""
    images = torch.rand(len(maps), 3, 8, 8)
    return images, lambda image: (maps if image is images else restyled(maps),)


def test_statistics_are_gathered_then_the_mask_is_fixed_and_the_loss_begins():
    whitening = isw(statistics=(0.2, 0.4))
    maps = restyled(noise(2)).requires_grad_()
    image, early = early_of(noise(2))
    losses, images = [], []
    for u in (0.0, 0.2, 0.3, 0.5, 0.6):
        losses.append(whitening([maps], image, early, u, (0, 0)).item())
        images.append(int(whitening.masks[0].images))
    assert images == [0, 2, 4, 6, 6]
    assert losses[:3] == [0, 0, 0]
    expected = 0.6 * covariance(maps)[:, 1, 4].abs().mean()
    assert losses[3] == losses[4] == pytest.approx(expected.item(), rel=1e-5)


def test_a_short_run_has_its_mask_too():
    whitening = isw()
    image, early = early_of(noise(2))
    assert whitening([noise(2).requires_grad_()], image, early, 0.9, (0, 0)) > 0


def test_a_resumed_whitening_goes_on():
    image, early = early_of(noise(2))
    maps = restyled(noise(2)).requires_grad_()
    whole, part = isw(), isw()
    whole([maps], image, early, 0.06, (0, 1))
    part.load_state_dict(whole.state_dict())
    for u in (0.07, 0.2, 0.3):
        assert whole([maps], image, early, u, (0, 1)) == part([maps], image, early, u, (0, 1))
    assert all(torch.equal(whole.state_dict()[key], value) for key, value in part.state_dict().items())


@pytest.mark.remedy("baselines/whitening.py::ISWOptions.__post_init__")
@pytest.mark.remedy("baselines/whitening.py::InstanceSelectiveWhitening.__init__")
@pytest.mark.remedy("baselines/whitening.py::InstanceSelectiveWhitening.forward")
def test_frozen_stages_and_plain_vits_are_refused():
    image, early = early_of(noise(2))
    with pytest.raises(ValueError, match="lower model.segmenter.freeze_stages"):
        isw()([noise(2)], image, early, 0.5, (0, 0))
    with pytest.raises(ValueError, match=r"plain ViT.*model.isw.enabled: false"):
        InstanceSelectiveWhitening(ISWOptions(), ())
    for wrong in ({"clusters": 1}, {"statistics": (0.2, 0.1)}, {"statistics": (0.5, 1.0)}):
        with pytest.raises(ValueError, match="isw"):
            ISWOptions(**wrong)
    for options in (ISWOptions(clusters=2), ISWOptions(statistics=(0.1, 0.2)), ISWOptions(statistics=(0.5, 0.5))):
        InstanceSelectiveWhitening(options, (CHANNELS,))
    shape = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    config = ResNetConfig(**shape).to_dict()
    for frozen, works in ((1, False), (0, True)):
        segmenter = Segmenter("resnet", "fpn", pretrained=False, freeze_stages=frozen, backbone_config=config)
        whitening = InstanceSelectiveWhitening(ISWOptions(statistics=(0, 0)), segmenter.early_channels)
        picture = torch.rand(2, 3, 64, 64)
        given = (segmenter.outputs(picture).early, picture, segmenter.early, 0.5, (0, 0))
        with nullcontext() if works else pytest.raises(ValueError, match="lower model.segmenter.freeze_stages"):
            assert whitening(*given).isfinite()
    plain = Segmenter("tinyclip", pretrained=False)
    assert plain.early_channels == ()
    PPARModule(plain, PPAROptions(enabled=False), ISWOptions(enabled=False))


def test_the_photometric_counterpart_keeps_the_scene_and_depends_on_its_place_alone():
    image = F.interpolate(torch.rand(2, 3, 4, 8), scale_factor=8)
    changed = photometric(image, (0, 5))
    torch.manual_seed(9)
    assert torch.equal(photometric(image, (0, 5)), changed)
    torch.testing.assert_close(photometric(image[1:], (0, 5)), changed[1:])  # whatever rank an image is on
    assert (photometric(image, (0, 6)) - changed).abs().mean() > 0.01
    assert changed.shape == image.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    centres = changed[..., 4::8, 4::8]
    torch.testing.assert_close(centres, changed[..., 3::8, 3::8], atol=1e-2, rtol=0)  # patches stay patches


BACKBONES = {
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1]),
    "convnext": ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "efficientnet_lite0": None,
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("head", ["deeplabv3plus", "fpn"])
def test_gradients_reach_the_first_stages_of_every_hierarchy_and_the_looking_leaves_no_trace(tmp_path, name, head):
    config = BACKBONES[name]
    if config is not None:
        config.save_pretrained(tmp_path)
    backbone = name if config is None else str(tmp_path)
    segmenter = Segmenter(backbone, head, [*"abcde"], pretrained=False, decoder_channels=16, early_stages=2).train()
    whitening = InstanceSelectiveWhitening(ISWOptions(enabled=True), segmenter.early_channels)
    image = torch.rand(2, 3, 64, 64)
    output = segmenter.outputs(image)
    assert [each.shape[1] for each in output.early] == list(segmenter.early_channels)
    assert [each.shape[-1] for each in output.early] == [16, 8]
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    random = torch.get_rng_state()
    loss = whitening(output.early, image, segmenter.early, 0.5, (0, 0))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in segmenter.state_dict().items())
    assert segmenter.backbone.training
    assert loss > 0
    loss.backward()
    first = next(p for p in segmenter.backbone.parameters() if p.requires_grad)
    assert first.grad.abs().sum() > 0
    assert all(p.grad is None for p in segmenter.head.parameters())


def test_one_early_stage_is_free_and_a_second_leaves_the_start_alone(tmp_path):
    BACKBONES["resnet"].save_pretrained(tmp_path)
    states = []
    for stages in (1, 2):
        torch.manual_seed(0)
        segmenter = Segmenter(str(tmp_path), "deeplabv3plus", pretrained=False, early_stages=stages)
        assert len(segmenter.early_channels) == stages
        states.append(segmenter.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def train(rank: int, world: int) -> dict[str, Tensor]:
    """Five steps of plain gradient descent on the whitening loss of one layer's maps."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, CHANNELS, 3, stride=2)
    whitening = InstanceSelectiveWhitening(ISWOptions(statistics=(0.0, 0.4)), [CHANNELS])
    record = {}
    for step in range(5):
        image = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(step))
        image = image[(slice(0, 1), slice(1, 4))[rank]] if world > 1 else image  # uneven shares

        def early(image: Tensor) -> tuple[Tensor, ...]:
            return (layer(image).detach(),)

        loss = whitening([layer(image)], image, early, step / 5, (0, step))
        layer.zero_grad()
        loss.backward()
        mean = loss.detach().clone()
        for tensor in (mean, layer.weight.grad):
            if world > 1:
                dist.all_reduce(tensor)
                tensor /= world
        record[f"loss/{step}"] = mean
        with torch.no_grad():
            layer.weight -= layer.weight.grad
    return record | whitening.state_dict() | {"weight": layer.weight.detach()}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(train(rank, 2), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    one = train(0, 1)
    assert one["loss/4"] > 0
    for name in one:
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], one[name], atol=1e-5, rtol=1e-4, msg=name)
