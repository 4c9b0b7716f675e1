"""Do a million updates move banks off unit norm? ``python benchmarks/drift.py``

It updates tiny banks with random sums of all sizes, and sometimes without a class; in float32, as in training.
"""

import argparse
import time

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from ppar_lightning.method.bank import VisualBank
from ppar_lightning.method.prototypes import Prototypes
from ppar_lightning.method.reweighting import MarginStatistics

CLASSES, WIDTH, POOL = 3, 8, 997
MOMENTUM = 0.99


def main() -> None:
    """Update the banks, then print the largest distance of a norm from 1 and the range of the statistics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1_000_000)
    updates = parser.parse_args().updates
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    count = torch.randint(0, 4, (POOL, CLASSES, 1), generator=generator).float()
    mean = F.normalize(torch.randn(POOL, CLASSES, WIDTH, generator=generator), dim=2)
    sums = torch.cat([mean * count * torch.rand(count.shape, generator=generator), count], dim=2)
    text = F.normalize(torch.randn(CLASSES, WIDTH, generator=generator), dim=1)
    vtp, visual, statistics = (
        Prototypes(text, MOMENTUM),
        VisualBank(CLASSES, WIDTH, MOMENTUM),
        MarginStatistics(CLASSES, MOMENTUM),
    )
    worst = torch.zeros(2)
    start = time.perf_counter()
    with torch.no_grad():
        for number in range(updates):
            move = sums[number % POOL]
            vtp.update(move)
            visual.update(move)
            statistics.update(torch.stack([move[:, 0], move[:, 0].square(), move[:, -1]], dim=1))
            if number % 1000 == 999:
                norms = torch.stack([vtp.bank, visual.bank]).norm(dim=2)
                worst = torch.maximum(worst, (norms - 1).abs().amax(dim=1))
    table = Table("", "furthest from unit norm", title=f"{updates:,} updates, {time.perf_counter() - start:.0f} s")
    for name, value in zip(("VTP bank", "visual bank"), worst.tolist(), strict=True):
        table.add_row(name, f"{value:.1e}")
    console = Console()
    console.print(table)
    counts, (_, sigma) = statistics.sums[:, 2], statistics.moments()
    console.print(
        f"class counts {counts.min():.3f} to {counts.max():.3f}, sigma {sigma.min():.3f} to {sigma.max():.3f}"
    )


if __name__ == "__main__":
    main()
