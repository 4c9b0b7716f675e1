"""docs/scaling.md: its commands and its SLURM script; how a network is sharded."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from ranks import run_ranks
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.fsdp import FSDPModule
from torch.distributed.run import get_args_parser

from ppar_lightning.cli import main
from ppar_lightning.distributed import shard
from ppar_lightning.doctor.plan import IMAGES, Ledger, largest, peak
from ppar_lightning.segmenter.segmenter import Segmenter

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import planning

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "scaling.md").read_text()
(SCRIPT,) = re.findall(r"```sbatch\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [
    *(line for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()),
    SCRIPT.splitlines()[-1].removeprefix("srun "),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted_and_keeps_the_total_batch(command, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(command)
    launcher = None
    if program == "torchrun":
        launcher = get_args_parser().parse_args(words)
        assert launcher.module
        assert launcher.training_script == "ppar_lightning"
        words = launcher.training_script_args
    if words[0] == "test":  # its config is what fit has saved
        with pytest.raises(SystemExit, match="0"):
            main(["fit", "--config", "configs/gta.yaml", "--print_config"])
        words[words.index("--config") + 1] = str(tmp_path / "config.yaml")
        (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    trainer, images = config["trainer"], config["data"]["batch_size"]
    trainer["devices"] = int(trainer["devices"])
    if launcher is not None:
        assert (int(launcher.nnodes), int(launcher.nproc_per_node)) == (trainer["num_nodes"], trainer["devices"])
    if "data_parallel_size" in command or words[0] == "test":
        return
    assert images * trainer["devices"] * trainer["num_nodes"] * (trainer["accumulate_grad_batches"] or 1) == 16


def test_the_slurm_script_asks_for_what_the_command_uses(tmp_path):
    subprocess.run(["bash", "-n"], input=SCRIPT, text=True, check=True)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", SCRIPT, flags=re.MULTILINE))
    devices = yaml.safe_load((ROOT / "configs" / "gta.yaml").read_text())["trainer"]["devices"]
    assert int(asked["ntasks-per-node"]) == int(asked["gpus-per-node"]) == devices
    assert f"--trainer.num_nodes {asked['nodes']} " in SCRIPT
    assert f"--data.workers {asked['cpus-per-task']} " in SCRIPT


def compare_sharded() -> None:
    """A sharded network holds half of its parameters on each of two ranks, and computes what it did."""
    mesh = dist.init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    segmenter = Segmenter("tinyclip", "pyramid", decoder_channels=16, pretrained=False).eval()
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        expected = segmenter(image)
        whole = sum(p.numel() for p in segmenter.parameters())
        for part in segmenter.children():
            shard(part, mesh)
        here = sum(p.to_local().numel() for p in segmenter.parameters())
        torch.testing.assert_close(segmenter(image), expected)
    both = torch.tensor(here)
    dist.all_reduce(both)
    assert both == whole
    assert abs(here / whole - 0.5) < 0.01
    lists = [each for each in segmenter.backbone.modules() if isinstance(each, nn.ModuleList)]
    assert lists
    assert all(isinstance(block, FSDPModule) for each in lists for block in each)
    dist.destroy_process_group()


def test_a_network_is_sharded_block_by_block():
    run_ranks(2, compare_sharded)


def column(text: str, name: str) -> dict[str, str]:
    """Quantity -> value of one setting in a table of the plan."""
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.strip().splitlines()]
    return {row[0]: row[head.index(name)] for row in rows}


def test_the_plan_of_the_demo_is_that_of_the_docs():
    (block,) = re.findall(r"<!-- plan -->\n(.*?)<!-- end of plan -->", TEXT, flags=re.DOTALL)
    planned, documented = column(planning.document(["demo"]), "demo"), column(block, "demo")
    assert planned.keys() == {quantity for quantity, value in documented.items() if value != "-"}
    assert set(planning.SETTINGS) <= {cell.strip() for cell in block.splitlines()[0].split("|")}
    for quantity, value in planned.items():
        if quantity.startswith(("parameters", "operations")):
            assert documented[quantity] == value
        else:
            numbers = ([float(each) for each in re.findall(r"[\d.]+", text)] for text in (value, documented[quantity]))
            assert next(numbers) == pytest.approx(next(numbers), rel=0.02, abs=0.01)


def cells(text: str) -> list[list[str]]:
    """Cells of the rows of a table."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.strip().splitlines()[2:]]


(BACKBONES,) = re.findall(
    r"<!-- backbones -->\n(.*?)<!-- end of backbones -->",
    (ROOT / "docs" / "howto" / "foundation_models.md").read_text(),
    flags=re.DOTALL,
)
SMALLEST = ("DINOv2-B", planning.LORA_32)
"""Of these backbones with adapters."""


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[] if row[:2] == SMALLEST else pytest.mark.slow) for row in planning.ROWS],
    ids=lambda row: f"{row[0]}, {row[1]}",
)
def test_a_row_of_the_backbones_is_what_the_command_prints(row):
    (planned,) = cells(planning.backbones([row]))
    (documented,) = (each for each in cells(BACKBONES) if each[:3] == planned[:3])
    assert planned[:6] == documented[:6]
    peaks = ([float(peak) for peak in each[6:]] for each in (planned, documented))
    assert next(peaks) == pytest.approx(next(peaks), rel=0.02)


def test_the_table_of_backbones_has_all_rows_and_tests_of_their_classes():
    assert [(*each[:3], each[3].strip("`")) for each in cells(BACKBONES)] == planning.ROWS
    for backbone, _, _, tests in planning.ROWS:
        text = (ROOT / tests).read_text()
        if "from stand_ins import" in text:
            text += (ROOT / "tests" / "stand_ins.py").read_text()
        assert f"{type(planning.BACKBONES[backbone]).__name__}(" in text


def test_a_ledger_tells_the_memory_of_every_batch_from_one():
    ledger, each, weights = Ledger(), 8 * 4, 8 * 8 * 4
    with FakeTensorMode(), ledger:
        weight = torch.empty(8, 8)
        batch = torch.empty(IMAGES, 8)
        product = batch @ weight
        view = product[:1]
        del batch, product
        view = torch.empty(100)
    assert ledger.flops == IMAGES * 2 * 8 * 8
    steps = [(0, 1), (0, 2), (0, 1), (400, 1), (400, 0)]  # the batch, the product, no batch, `view`, no product
    assert ledger.history[:6] == [(weights, 0), *((weights + fixed, number * each) for fixed, number in steps)]
    assert view.numel() == weight.numel() + 36
    assert peak(np.array(ledger.history[:6]), 100) * 2**30 == weights + 200 * each
    assert largest(np.array([[0, 2**30], [2**33, 0]]), 12) == 10
    assert largest(np.array([[12 * 2**30, 0]]), 12) == 0


@pytest.mark.slow
@pytest.mark.parametrize("setting", planning.CHECKED)
def test_the_planned_memory_is_the_measured_one(setting):
    planned, measured = planning.compare(setting)
    assert planned == pytest.approx(measured, rel=0.15, abs=0.08)  # a process takes 0.05 GiB beside its tensors
