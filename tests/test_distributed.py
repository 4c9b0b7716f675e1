"""The objective on two and four ranks (gloo, under DDP) against one rank on the whole batch."""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from streets_batch import CHANNELS, CLASSES, WORDS, Batch, make_batch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions

IMAGES = 7
STEPS = (0.2, 0.5, 0.9)
SHARES = {1: [(0, 7)], 2: [(0, 4), (4, 7)], 4: [(0, 2), (2, 4), (4, 6), (6, 7)]}
"""Images of each rank, by number of ranks: the last rank has fewer."""


def whole_batch(seed: int) -> Batch:
    """The later half has no valid pixel in one batch, and lacks most classes in the next."""
    batch = make_batch(IMAGES, seed)
    if seed % 3 == 0:
        batch.label[4:] = 255
    elif seed % 3 == 1:
        batch.label[2:] %= 5
    return batch


class Step(nn.Module):
    """A segmenter of two 1x1 convolutions, and the objective."""

    def __init__(self, clip_folder: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        options = PPAROptions(clip=clip_folder, visual_size=None, clip_dtype="float32", context_every=1)
        self.objective = PPAR(options, CHANNELS, WORDS).eval()  # no dropout, which differs between ranks
        self.classifier = nn.Conv2d(CLASSES, CLASSES, 1)
        self.decoder = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, batch: Batch, u: float):
        output = batch.output
        trained = {"coarse": self.classifier(output.coarse), "decoder": self.decoder(output.decoder)}
        return self.objective(output._replace(**trained), batch.image, batch.label, u)


def train(clip_folder: str, rank: int, world: int, accumulate: int) -> dict[str, torch.Tensor]:
    """Three steps of plain gradient descent; what is returned should not depend on the rank."""
    step = Step(clip_folder)
    model = DistributedDataParallel(step) if world > 1 else step
    record = {}
    for number, u in enumerate(STEPS):
        step.zero_grad()
        for part in range(accumulate):
            last = part + 1 == accumulate
            with nullcontext() if last or world == 1 else model.no_sync():
                losses = model(whole_batch(number * accumulate + part).rows(*SHARES[world][rank]), u)
                (losses.total / accumulate).backward()
            terms = torch.stack([losses.total, *losses.terms.values()]).detach()
            if world > 1:
                dist.all_reduce(terms)
            record[f"losses/{number}/{part}"] = terms / world
        record |= {f"gradient/{number}/{name}": p.grad.clone() for name, p in step.named_parameters()}
        with torch.no_grad():
            for p in step.parameters():
                p -= 0.1 * p.grad
        step.objective.update()
        record |= {f"{name}/{number}": tensor.clone() for name, tensor in step.objective.named_buffers()}
    return record | step.state_dict()


def worker(clip_folder: str, folder: str) -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    for accumulate in (1, 2):
        torch.save(train(clip_folder, rank, world, accumulate), f"{folder}/{rank}.{accumulate}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4], ids=lambda world: f"{world} ranks")
def folder(request, clip_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(request.param, worker, str(clip_folder), str(folder))
    return folder


@pytest.fixture(params=[1, 2], ids=lambda accumulate: f"accumulate {accumulate}")
def records(request, folder, clip_folder):
    ranks = [torch.load(path, weights_only=True) for path in sorted(folder.glob(f"*.{request.param}.pt"))]
    return train(str(clip_folder), 0, 1, request.param), ranks


def test_every_rank_equals_one_process_on_the_whole_batch(records):
    one, ranks = records
    assert any("bank" in name for name in one)
    for rank in ranks:
        assert set(rank) == set(one)
        for name, tensor in one.items():
            torch.testing.assert_close(rank[name], tensor, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_banks_are_the_same_bits_on_all_ranks(records):
    _, (first, *others) = records
    state = [name for name in first if "bank" in name or "sums" in name]
    assert len(state) == 3 * (len(STEPS) + 1)
    for name in state:
        assert all(torch.equal(first[name], other[name]) for other in others), name


def test_the_batches_are_as_uneven_as_they_should_be():
    silent, poor = (whole_batch(seed).label for seed in (0, 1))
    assert all((silent[start:stop] == 255).all() for start, stop in (SHARES[2][1], SHARES[4][2]))
    assert all(poor[start:stop].max() < 5 for start, stop in (SHARES[2][1], SHARES[4][3]))
    assert poor.max() > 5
