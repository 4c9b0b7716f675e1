"""Two gloo processes on halves of a batch against one process on the whole: losses, gradients and banks."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from streets_batch import CHANNELS, CLASSES, Batch, make_batch

from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions

STEPS = (0.2, 0.5, 0.9)


def uneven_batch(step: int) -> Batch:
    """Four images: the second half lacks most classes, and one of its images has no valid pixel."""
    batch = make_batch(4, seed=step)
    batch.label[2] = batch.label[2] % 5
    batch.label[3] = 255
    return batch


def train(clip_folder: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Three steps of plain gradient descent on the objective's own parameters."""
    torch.manual_seed(0)
    objective = PPAR(
        PPAROptions(clip=clip_folder, visual_size=None, clip_dtype="float32"), CHANNELS, CLASSES
    ).eval()  # no dropout
    record = {}
    for step, u in enumerate(STEPS):
        batch = uneven_batch(step).rows(rank * 4 // world, (rank + 1) * 4 // world)
        losses = objective(batch.output, batch.image, batch.label, u)
        objective.zero_grad()
        losses.total.backward()
        logits = batch.output.logits.grad / world  # as the mean over ranks would have it
        record[f"logits/{step}/{rank}/{world}"] = logits
        mean = losses.total.detach().clone()
        for tensor in (mean, *(p.grad for p in objective.parameters())):
            if world > 1:
                dist.all_reduce(tensor)
                tensor /= world
        record[f"loss/{step}"] = mean
        with torch.no_grad():
            for p in objective.parameters():
                p -= 0.1 * p.grad
        objective.update()
    return record | objective.state_dict()


def worker(rank: int, clip_folder: str, rendezvous: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    torch.save(train(clip_folder, rank, 2), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def records(clip_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (str(clip_folder), f"file://{folder}/rendezvous", str(folder)), nprocs=2)
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    return train(str(clip_folder), 0, 1), *ranks


def test_two_ranks_equal_one(records):
    one, *ranks = records
    shared = [name for name in one if not name.startswith("logits")]
    assert any("bank" in name for name in shared)
    for rank in ranks:
        for name in shared:
            torch.testing.assert_close(rank[name], one[name], atol=1e-5, rtol=1e-4, msg=name)


def test_banks_are_the_same_bits_on_both_ranks(records):
    _, first, second = records
    for name in first:
        if name.endswith(("bank", "sums", "otp")):
            assert torch.equal(first[name], second[name]), name


def test_gradients_into_the_segmenter_are_those_of_the_whole_batch(records):
    one, first, second = records
    for step in range(len(STEPS)):
        halves = torch.cat([first[f"logits/{step}/0/2"], second[f"logits/{step}/1/2"]])
        torch.testing.assert_close(halves, one[f"logits/{step}/0/1"], atol=1e-8, rtol=1e-4)
        assert halves[3].abs().sum() == 0
