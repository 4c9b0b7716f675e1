"""The subcommand ``ppar reproduce``: train, test and report the rows of a table, with several seeds each.

ppar reproduce demo --seeds 0 1 2 --rows source_only ppar -- --data.workers 2

Each run has a folder, ``{output}/{row}/{seed}``, whose ``config.yaml`` holds all options. A run that is finished and
whose config is still what the files and overrides give is not run again. A run that was stopped continues from its last
checkpoint. A run whose config has changed is moved to ``replaced/`` and run again. Changes of code or data are not
noticed: move the run's folder away after one.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from ppar_lightning.console import PlainParser, leave
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.run_folder import CONFIG, is_run, read_config
from ppar_lightning.shipped_configs import FOLDER, find

Resolved = dict[str, Any]
Resolve = Callable[[Sequence[str]], Resolved]
"""Turns command-line arguments of ``ppar fit`` into the config that it would save."""

OWN = ("--seed_everything", "--trainer.default_root_dir", "--ckpt_path")
"""Options of ``ppar fit`` that each run sets itself."""


@dataclass(frozen=True)
class Planned:
    """A run that the table needs.

    Attributes:
        folder: Its folder, ``{output}/{row}/{seed}``.
        words: Command-line arguments of ``ppar fit`` that train it.
        resolved: The config that these arguments give.
    """

    folder: Path
    words: list[str]
    resolved: Resolved

    @property
    def title(self) -> str:
        """The row and the seed, as ``{row}/{seed}``."""
        return "/".join(self.folder.parts[-2:])

    @property
    def state(self) -> str:
        """State of the folder: missing, changed, without a checkpoint, stopped, untested or done.

        A test of another checkpoint, or with other options than the run's, does not count.
        """
        from ppar_lightning.runs.renamed import completed  # here, as the help does not need Lightning
        from ppar_lightning.runs.tested_run import find_test

        if not is_run(self.folder):
            return "missing"
        if completed(read_config(self.folder), self.resolved) != self.resolved:
            return "changed"
        if not (read_manifest(self.folder) or {"finished": False})["finished"]:
            return "stopped" if any(self.folder.glob("checkpoints/*.ckpt")) else "without a checkpoint"
        test = find_test(self.folder)
        return "untested" if test is None or test.outdated or test.changes else "done"


class Processes:
    """Processes that train and test runs.

    They inherit the lock of the table, so the table stays locked as long as one of them outlives a killed parent.
    """

    def __init__(self, lock: int) -> None:
        """Start with none.

        Args:
            lock: File descriptor of the lock.
        """
        self.lock = lock
        self.started: list[subprocess.Popen[bytes]] = []
        self.stopped = threading.Event()

    def call(self, words: Sequence[str], devices: str | None, log: Path | None) -> int:
        """Run ``ppar`` and return its exit status.

        Args:
            words: Command-line arguments of ``ppar``.
            devices: Value of ``CUDA_VISIBLE_DEVICES``; None leaves the variable unchanged.
            log: File that the output is appended to; None writes to the terminal.
        """
        command = [sys.executable, "-m", "ppar_lightning", *words]
        environment = os.environ | ({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices})
        with log.open("a") if log else nullcontext() as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, pass_fds=[self.lock])
            self.started.append(process)
            if self.stopped.is_set():
                process.terminate()
            return process.wait()

    def stop(self, *_: object) -> NoReturn:
        """Pass SIGTERM on to the runs, as a terminal does with Ctrl-C, so that trainings end with a checkpoint."""
        self.stopped.set()
        for process in self.started:
            process.terminate()
        raise KeyboardInterrupt


def main(words: Sequence[str], resolve: Resolve) -> None:
    """Run the subcommand.

    Args:
        words: Command-line arguments of the subcommand; those after ``--`` are handed to ``ppar fit``.
        resolve: Function that turns arguments of ``ppar fit`` into a config.

    Raises:
        OSError, ValueError: The command cannot be carried out; the message names the fault and the remedy.
    """
    what = "Train and test the rows of a table over seeds, and report them."
    parser = PlainParser("ppar reproduce", description=what)
    parser.add_argument("config", help="config of the setting: a file, or one of `ppar configs`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of each row (default: 0 1 2)")
    parser.add_argument("--rows", nargs="+", help="names of overlays in ablations/ (default: all)")
    parser.add_argument("--output", type=Path, help="folder of the runs (default: runs/reproduce/SETTING)")
    split = words.index("--") if "--" in words else len(words)
    given, unknown = parser.parse_known_args(words[:split])
    if unknown:
        after = f"options of `ppar fit` follow --, as in `ppar reproduce {given.config} -- {' '.join(unknown)}`"
        raise ValueError(f"{unknown[0]} is no option of `ppar reproduce`; {after}")
    from ppar_lightning.report.seed_report import write_report  # imported here, because the help does not need pandas

    config = Path(find(given.config))
    output = given.output or Path("runs/reproduce") / config.stem
    runs = plan(config, given.rows, given.seeds, output, words[split + 1 :], resolve)
    with locked(output) as lock:
        processes = Processes(lock)
        before = signal.signal(signal.SIGTERM, processes.stop)
        try:
            execute(runs, output, processes)
        except KeyboardInterrupt:
            leave("stopped; the same command continues", status=130)
        finally:
            signal.signal(signal.SIGTERM, before)
        if any((run.folder / "test.json").is_file() for run in runs):  # none, if max_time stopped them all
            write_report([output])


def plan(
    config: Path, rows: Sequence[str] | None, seeds: Sequence[int], output: Path, more: Sequence[str], resolve: Resolve
) -> list[Planned]:
    """List the runs, seed by seed, so that a table of fewer seeds is complete early.

    The overlays are those in ``ablations/`` beside the config; if there is no such folder, those of the package. Each
    run has ``more`` words of the command line.

    Raises:
        FileNotFoundError: There is no such overlay.
        ValueError: An override sets what each run sets itself.
    """
    from ppar_lightning.report.seed_table import in_order  # imported here, because the help does not need pandas

    if given := {word.partition("=")[0] for word in more} & {*OWN}:
        raise ValueError(f"{given.pop()} is set for each run: leave it out; --seeds and --output choose the runs")
    beside = config.parent / "ablations"
    overlays = {path.stem: path for path in (beside if beside.is_dir() else FOLDER / "ablations").glob("*.yaml")}
    if unknown := set(rows or ()) - set(overlays):
        raise FileNotFoundError(f"no overlay {unknown.pop()}.yaml; there are: {', '.join(in_order(overlays))}")
    runs = []
    for seed, row in product(dict.fromkeys(seeds), in_order(rows or overlays)):
        folder = output / row / str(seed)
        words = ["--config", str(config), "--config", str(overlays[row]), *more]
        words += ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder)]
        runs.append(Planned(folder, words, resolve(words)))
    return runs


@contextmanager
def locked(output: Path) -> Iterator[int]:
    """Lock a table's folder. The system releases the lock when the last process that holds it ends, even if killed.

    Yields:
        File descriptor of the lock.

    Raises:
        BlockingIOError: Another process holds the lock.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = "another `ppar reproduce`, or a training that it started,"
            raise BlockingIOError(f"{other} is using {output}: wait until it ends, or give another --output") from error
        yield file.fileno()


def execute(runs: Sequence[Planned], output: Path, processes: Processes) -> None:
    """Run what is not done, as many runs at once as the devices allow; stop at the first failure.

    Raises:
        ChildProcessError: A run failed. Runs in progress are completed first, and no other run is started.
    """
    missing = [run for run in runs if run.state != "done"]
    done = len(runs) - len(missing)
    print(f"{output}: {len(runs)} runs, {done} of them done", flush=True)
    groups = device_groups(runs[0].resolved["trainer"]) if missing else [None]
    free: SimpleQueue[str | None] = SimpleQueue()
    for group in groups:
        free.put(group)
    failed = threading.Event()

    def work(number: int, run: Planned) -> None:
        group = free.get()
        try:
            if not failed.is_set():
                print(f"[{number}/{len(runs)}] {run.title}: {run.state}", flush=True)
                log = run.folder / "log.txt" if len(groups) > 1 else None
                train_and_test(run, output, lambda words: processes.call(words, group, log), log)
        except BaseException:
            failed.set()  # before this thread takes the next run
            raise
        finally:
            free.put(group)

    with ThreadPoolExecutor(len(groups)) as pool:
        for _ in pool.map(work, range(done + 1, len(runs) + 1), missing):  # raises what a run has raised
            pass


def device_groups(trainer: Resolved) -> list[str | None]:
    """Divide the CUDA devices of this machine among runs that train at the same time.

    Args:
        trainer: Options of the trainer. A run gets the number of devices that they name. ``auto`` means one device, so
            that the batch does not depend on the machine.

    Returns:
        Value of ``CUDA_VISIBLE_DEVICES`` for each of the runs that train at once. A single None leaves the variable
        unchanged: the runs then train one after the other.
    """
    import torch  # imported here, because `ppar reproduce --help` does not need it

    if trainer["accelerator"] not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return [None]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
    given = "1" if trainer["devices"] == "auto" else str(trainer["devices"])
    if not given.isdigit() or not 0 < (size := int(given)) <= len(devices):  # a list, -1 for all, or too many
        return [None]
    return [",".join(devices[start : start + size]) for start in range(0, len(devices) - size + 1, size)]


def train_and_test(run: Planned, output: Path, call: Callable[[Sequence[str]], int], log: Path | None) -> None:
    """Train and test a run, as far as its state requires.

    Args:
        run: The run to complete.
        output: Folder of all runs; an earlier run of another config moves to ``replaced/`` there.
        call: Function that runs ``ppar`` with given arguments and returns its exit status.
        log: File that the output goes to, for error messages; None stands for the terminal.

    Raises:
        ChildProcessError: Training or test failed.
    """
    state = run.state
    if state in ("changed", "without a checkpoint"):
        print(f"{run.title}: the earlier run is kept in {move_aside(run.folder, output)}", flush=True)
    resume = ["--ckpt_path", "last"] if state == "stopped" else []
    commands = [["fit", *run.words, *resume], ["test", "--config", str(run.folder / CONFIG)]]
    run.folder.mkdir(parents=True, exist_ok=True)
    for words in commands[state == "untested" :]:
        if status := call(words):
            what = f"{run.title}: ppar {words[0]} ended with status {status}" + (f" (see {log})" if log else "")
            raise ChildProcessError(f"{what}; after that is fixed, the same command continues")
        if words[0] == "fit" and run.state == "stopped":
            print(f"{run.title}: stopped before its last step, so it is not tested; the same command continues it")
            break


def move_aside(folder: Path, output: Path) -> Path:
    """Move a run's folder to the first free ``replaced/{row}/{seed}-{n}``, and return that."""
    place = output / "replaced" / folder.parent.name
    place.mkdir(parents=True, exist_ok=True)
    targets = (place / f"{folder.name}-{number}" for number in count(1))
    return folder.rename(next(target for target in targets if not target.exists()))
