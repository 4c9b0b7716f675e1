"""The table of ablations: rows x seeds of a setting, trained, tested and reported; ``make reproduce`` runs it.

python -m ppar_lightning.reproduce configs/demo.yaml --seeds 0 1 2 --rows source_only ppar -- --data.workers 2

A run is what its ``config.yaml`` says, all defaults among it. So one that is finished and whose config is still what
the files and overrides give is not run again; one that was stopped goes on from its last checkpoint; one whose config
has changed is moved to ``replaced/`` and run again. Changes of code or data are not seen: move the run's folder then.
"""

import io
import os
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import torch
import yaml

from ppar_lightning.cli import main as cli
from ppar_lightning.console import PlainParser, leave
from ppar_lightning.report.arguments import report
from ppar_lightning.report.rows import in_order
from ppar_lightning.runs.manifest import read_manifest

State = Literal["missing", "changed", "without a checkpoint", "stopped", "untested", "done"]
Resolved = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """A run that the table needs.

    Attributes:
        folder: of the run, ``{output}/{row}/{seed}``.
        words: of ``ppar fit`` that train it.
        resolved: the config that they give.
    """

    folder: Path
    words: list[str]
    resolved: Resolved

    @property
    def title(self) -> str:
        """Row and seed."""
        return "/".join(self.folder.parts[-2:])

    @property
    def state(self) -> State:
        """What is in the run's folder."""
        config = self.folder / "config.yaml"
        if not config.is_file():
            return "missing"
        if yaml.safe_load(config.read_text()) != self.resolved:
            return "changed"
        if not (read_manifest(self.folder) or {"finished": False})["finished"]:
            return "stopped" if any(self.folder.glob("checkpoints/*.ckpt")) else "without a checkpoint"
        return "done" if (self.folder / "test.json").is_file() else "untested"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command."""
    words = list(sys.argv[1:] if args is None else args)
    split = words.index("--") if "--" in words else len(words)
    given = parse(words[:split])
    try:
        output = given.output or Path("runs/reproduce") / given.config.stem
        runs = plan(given.config, given.rows, given.seeds, output, words[split + 1 :])
        execute([run for run in runs if run.state != "done"], len(runs), output)
        report([output])
    except (OSError, ValueError) as error:
        leave(error)
    except KeyboardInterrupt:
        leave("stopped; the same command goes on", status=130)


def parse(words: Sequence[str]) -> Namespace:
    """Parse the arguments before ``--``; what follows it is handed to ``ppar fit``."""
    parser = PlainParser("python -m ppar_lightning.reproduce", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="config of the setting, with ablations/ beside it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", help="names of overlays in ablations/ (default: all)")
    parser.add_argument("--output", type=Path, help="folder of the runs (default: runs/reproduce/SETTING)")
    return parser.parse_args(words)


def plan(
    config: Path, rows: Sequence[str] | None, seeds: Sequence[int], output: Path, overrides: Sequence[str]
) -> list[Planned]:
    """List the runs, seed by seed, so that a table of fewer seeds is whole early.

    Raises:
        FileNotFoundError: There is no such overlay.
    """
    overlays = {path.stem: path for path in (config.parent / "ablations").glob("*.yaml")}
    for row in rows or ():
        if row not in overlays:
            known = ", ".join(in_order(overlays)) or "none"
            raise FileNotFoundError(f"{config.parent / 'ablations'} has no overlay {row}.yaml; there are: {known}")
    runs = []
    for seed in seeds:
        for row in in_order(rows or overlays):
            folder = output / row / str(seed)
            words = ["--config", str(config), "--config", str(overlays[row]), *overrides]
            words += ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder)]
            runs.append(Planned(folder, words, resolve(words)))
    return runs


def resolve(words: Sequence[str]) -> Resolved:
    """Resolve the words of ``ppar fit`` into the config that it would save."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            cli.main(["fit", *words, "--print_config"])
    except SystemExit as end:
        if end.code:
            raise
    return yaml.safe_load(printed.getvalue())


def execute(runs: Sequence[Planned], total: int, output: Path) -> None:
    """Run what is not done, as many at once as the devices allow; stop at the first failure.

    Raises:
        ChildProcessError: A run failed; those that had begun are waited for, no other is begun.
    """
    print(f"{output}: {total} runs, {total - len(runs)} of them done", flush=True)
    if not runs:
        return
    groups = device_groups(runs[0].resolved["trainer"])
    free: SimpleQueue[str | None] = SimpleQueue()
    for group in groups:
        free.put(group)

    failed = threading.Event()

    def work(number: int, run: Planned) -> None:
        group = free.get()
        try:
            if not failed.is_set():
                print(f"[{total - len(runs) + number}/{total}] {run.title}: {run.state}", flush=True)
                train_and_test(run, output, group, quiet=len(groups) > 1)
        except BaseException:
            failed.set()  # before this thread takes the next run
            raise
        finally:
            free.put(group)

    with ThreadPoolExecutor(len(groups)) as pool:
        futures = [pool.submit(work, number, run) for number, run in enumerate(runs, 1)]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def device_groups(trainer: Resolved) -> list[str | None]:
    """Divide the CUDA devices of this machine among runs that go on at once.

    Args:
        trainer: its options. A run gets the number of devices it names, and one for ``auto``, so that its batch does
            not depend on the machine.

    Returns:
        ``CUDA_VISIBLE_DEVICES`` of each; a single None, which leaves them as they are, for runs one after the other.
    """
    if trainer["accelerator"] not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return [None]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
    size = "1" if trainer["devices"] == "auto" else str(trainer["devices"])
    if not size.isdigit() or not 0 < int(size) <= len(devices):  # a list of devices, -1 for all, or more than there are
        return [None]
    starts = range(0, len(devices) - int(size) + 1, int(size))
    return [",".join(devices[start : start + int(size)]) for start in starts]


def train_and_test(run: Planned, output: Path, devices: str | None, quiet: bool) -> None:
    """Bring a run to its end, in processes of its own.

    Args:
        run: which.
        output: folder of all runs; what a run takes the place of moves to ``replaced/`` there.
        devices: ``CUDA_VISIBLE_DEVICES``, None to leave it.
        quiet: write the output to ``log.txt`` in the run's folder, as others run at the same time.
    """
    state = run.state
    if state in ("changed", "without a checkpoint"):
        print(f"{run.title}: the earlier run is kept in {move_aside(run.folder, output)}", flush=True)
    commands = [["test", "--config", str(run.folder / "config.yaml")]]
    if state != "untested":
        resume = ["--ckpt_path", "last"] if state == "stopped" else []
        commands.insert(0, ["fit", *run.words, *resume])
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / "log.txt" if quiet else None
    for words in commands:
        status = call(words, devices, log)
        if status:
            where = f" (see {log})" if log else ""
            what = f"{run.title}: ppar {words[0]} ended with status {status}{where}"
            raise ChildProcessError(f"{what}; once that is put right, the same command goes on")


def call(words: Sequence[str], devices: str | None, log: Path | None) -> int:
    """Run ``ppar`` in a process of its own, its output on the terminal or added to a log; return its status."""
    process = [sys.executable, "-m", "ppar_lightning", *words]
    environment = os.environ | ({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices})
    if log is None:
        return subprocess.run(process, env=environment, check=False).returncode
    with log.open("a") as file:
        return subprocess.run(process, env=environment, check=False, stdout=file, stderr=file).returncode


def move_aside(folder: Path, output: Path) -> Path:
    """Move a run's folder to the first free ``replaced/{row}/{seed}-{n}``, and return that."""
    number = 1
    while (target := output / "replaced" / folder.parent.name / f"{folder.name}-{number}").exists():
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    return folder.rename(target)


if __name__ == "__main__":
    main()
