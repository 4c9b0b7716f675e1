"""The subcommand ``ppar doctor``.

ppar doctor --config configs/gta.yaml --data.sources.gta.root /data/gta5 --samples 20
"""

import logging
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.progress import track

from ppar_lightning.callbacks.results import lay_out
from ppar_lightning.console import plain
from ppar_lightning.data.datamodule import DomainDataModule, refuse_small_share
from ppar_lightning.data.roles import shared_images
from ppar_lightning.doctor.downloads import check_downloads, check_rendered
from ppar_lightning.doctor.finding import Finding, attempt
from ppar_lightning.doctor.machine import check_devices, check_run_folder
from ppar_lightning.doctor.plan import plan
from ppar_lightning.doctor.samples import SplitCheck, splits
from ppar_lightning.images.drawing import sheet, write_picture

STYLES = {"ok": "green", "note": "yellow", "error": "bold red"}
PLAN = "plan"
"""Subject of the findings that are printed as a table."""
SHOWN = 5
"""Number of findings of one level about one subject that are printed; the file holds all of them."""


def examine(config: Namespace, trial: Callable[[], str | None]) -> NoReturn:
    """Check the data and the machine that a config names, and if no fault is found, make the first step of a training.

    The findings are printed and written to ``findings.txt``, beside a picture of each domain's samples with their
    labels. The exit status is 1 if training or testing would fail.

    Args:
        config: What ``ppar fit`` takes, with ``samples`` (pairs of each split that are decoded, evenly spaced) and
            ``output`` (folder of the findings and pictures, by default ``doctor`` in the run folder).
        trial: Function that trains up to the end of the first step, and returns what it took; None if none is left.
    """
    output = Path(config.output or Path(config.trainer.default_root_dir) / "doctor")
    # A file or another program gets lines that are not broken.
    console = Console(highlight=False, width=None if Console().is_terminal else 10_000)
    findings = []
    logging.disable(logging.INFO)  # the findings already contain what Lightning and the data sets would log
    try:
        with warnings.catch_warnings(action="ignore"):
            parser = ArgumentParser()
            parser.add_class_arguments(DomainDataModule, "data")
            data = parser.instantiate_classes(Namespace(data=config.data)).data  # which opens nothing yet
            checks = list(splits(data, config.trainer.limit_val_batches != 0))
            for found in examinations(config, data, checks):
                findings += found
                show(console, found, output)
            show(console, found := check_trial(findings, trial), output)
            findings += found
    finally:
        logging.disable(logging.NOTSET)
    show_pixels(console, [check for check in checks if check.tiles])
    for name in (*data.sources, *data.unseen):
        path = output / f"{name}.png"
        path.unlink(missing_ok=True)  # of an earlier call
        if tiles := [tile for check in checks if check.name == name for tile in check.tiles]:
            write_picture(path, sheet(tiles, data.classes))
    output.mkdir(parents=True, exist_ok=True)
    (output / "findings.txt").write_text("".join(f"{finding}\n" for finding in findings))
    errors, notes = (sum(finding.level == level for finding in findings) for level in ("error", "note"))
    counted = f"{errors} error{'s' * (errors != 1)}, {notes} note{'s' * (notes != 1)}"
    ready = "ready to train" if findings[-1].level == "ok" else "no fault found, but no step was tried"
    end = "training or testing would fail" if errors else ready
    console.print(f"Samples with their labels, and all findings: {output}\n{counted}: {end}", soft_wrap=True)
    sys.exit(int(errors > 0))


def examinations(config: Namespace, data: DomainDataModule, checks: Sequence[SplitCheck]) -> Iterator[list[Finding]]:
    """Check the machine, then each split, then whether there are enough images, and yield findings as they are made."""
    devices, processes = check_devices(config.trainer)
    models = [*check_downloads(config.model), *check_rendered(config.model, data.sources)]
    yield [devices, *models, *check_run_folder(config), *check_plan(config)]
    for check in checks:
        if (dataset := check.open()) is not None:
            even = np.linspace(0, len(dataset) - 1, min(config.samples, len(dataset))).round().astype(int)
            for index in track(even.tolist(), check.subject, transient=True, disable=not sys.stdout.isatty()):
                check.decode(dataset, index)
            check.judge(dataset)
        yield check.findings
    yield [*check_crop(checks, data), *check_batches(checks, data.batch_size, processes)]
    yield check_shared(checks, data.unseen)


def check_crop(checks: Sequence[SplitCheck], data: DomainDataModule) -> list[Finding]:
    """Note a crop that is higher or wider than every sample of a source at its largest scale."""
    scale, found = data.augmentation.scale[1], []
    for check in checks:
        height, width = (int(scale * max(sides)) for sides in zip(*check.sizes or [(0, 0)], strict=True))
        if check.role == "train" and check.sizes and (data.crop[0] > height or data.crop[1] > width):
            fault = f"the crop {list(data.crop)} is larger than every sample at its largest scale, [{height}, {width}]"
            found.append(Finding("note", check.subject, f"{fault}: all are padded; lower --data.crop"))
    return found


def check_batches(checks: Sequence[SplitCheck], batch_size: int, processes: int) -> list[Finding]:
    """Check whether the sources hold a batch for each device, unless one of them does not open or is empty."""
    counts = [len(check.split or ()) for check in checks if check.role == "train"]
    good = f"{sum(counts):,} training images for {processes} x {batch_size} a step"
    refuse = partial(refuse_small_share, sum(counts) // processes, batch_size)
    return attempt("batches", refuse, good) if all(counts) else []


def check_shared(checks: Sequence[SplitCheck], unseen: Collection[str]) -> list[Finding]:
    """Check whether images are trained on and scored, which is an error for an unseen domain, else a note."""
    opened = [(check.role, check.name, check.split) for check in checks if check.split]
    trained, scored = ({name: split for role, name, split in opened if role == part} for part in ("train", "eval"))
    found = shared_images(trained, scored, unseen)
    return [Finding("error" if name in unseen else "note", f"{name}/eval", line) for name, line in found.items()]


def check_plan(config: Namespace) -> list[Finding]:
    """Estimate what a training step takes; note what prevents that."""
    try:
        return [Finding("ok", PLAN, f"{name}: {value}") for name, value in plan(config)]
    except Exception as error:  # the trial finds whether it stops a training
        return [Finding("note", PLAN, f"left out: {plain(error)}")]


def check_trial(findings: Sequence[Finding], trial: Callable[[], str | None]) -> list[Finding]:
    """Make the first step of a training, unless it is known to fail or would download weights."""
    if any(finding.level == "error" for finding in findings):
        return []
    if any(finding.level == "note" and finding.subject in ("backbone", "CLIP") for finding in findings):
        remedy = "download them and call this again"
        return [Finding("note", "trial", f"no step was tried, as weights are missing; {remedy}")]
    more = "no step is left to train; give more with --trainer.max_steps or --trainer.max_epochs"
    return attempt("trial", trial) or [Finding("note", "trial", more)]


def show(console: Console, findings: Iterable[Finding], output: Path) -> None:
    """Print findings, one per line or those of the plan as a table; if there are many about a subject, the first."""
    for (level, subject), group in groupby(findings, key=lambda finding: (finding.level, finding.subject)):
        lines = list(group)
        if (level, subject) == ("ok", PLAN):
            rows = [finding.message.split(": ") for finding in lines]
            console.print(lay_out("A training step, estimated", ["quantity", "value"], rows, texts=1))
            continue
        if len(lines) > SHOWN:
            more = f"and {len(lines) - SHOWN:,} more, all in {output / 'findings.txt'}"
            lines[SHOWN:] = [Finding(level, subject, more)]
        for finding in lines:
            console.print(str(finding), style=STYLES[level], markup=False, soft_wrap=True)


def show_pixels(console: Console, checks: Sequence[SplitCheck]) -> None:
    """Print a table of class x domain: per cent of the labelled pixels, and the ignored pixels in per cent of all."""
    if not checks:
        return
    classes, number = checks[0].classes, len(checks[0].classes)
    by_split = pd.DataFrame([check.pixels for check in checks], index=[check.name for check in checks])
    pixels = by_split.groupby(level=0, sort=False).sum().T
    shares = pixels[:number] / pixels[:number].sum()
    shares.loc["ignored"] = pixels[number:].sum() / pixels.sum()
    cells = shares.map(lambda share: f"{100 * share:.2f}" if share > 0 else "-").to_numpy().tolist()
    rows = [[name, *each] for name, each in zip((*classes, "ignored"), cells, strict=True)]
    console.print(lay_out("Pixels of the samples (%)", ["class", *shares], rows, texts=1))
