"""The subcommand ``ppar doctor``.

ppar doctor --config configs/gta.yaml --data.sources.gta.root /data/gta5 --samples 20
"""

import logging
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.progress import track

from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.doctor.domains import SplitCheck, decode, judge_samples, open_split, sample_indices, splits
from ppar_lightning.doctor.environment import check_devices, check_run_folder, check_versions, check_wandb
from ppar_lightning.doctor.finding import Finding, Level
from ppar_lightning.doctor.report import Report
from ppar_lightning.doctor.weights import check_weights, weights_size
from ppar_lightning.images.drawing import Picture, sheet, write_picture


def examine(config: Namespace) -> NoReturn:
    """Report on a parsed config, and exit with status 1 if training or testing would fail."""
    logging.disable(logging.INFO)  # what Lightning and the data sets would say is among the findings
    try:
        with warnings.catch_warnings(action="ignore"):
            failed = report_on(config).failed
    finally:
        logging.disable(logging.NOTSET)
    sys.exit(int(failed))


def report_on(config: Namespace) -> Report:
    """Check machine and data; print and write what is found, and draw the samples."""
    output = Path(config.output or Path(config.trainer.default_root_dir) / "doctor")
    report = Report(output / "findings.txt")
    data = _data_module(config.data)
    findings, processes = check_machine(config)
    report.add([*findings, *check_selection(config, data)])
    examined = list(splits(data))
    for split in examined:
        _examine_split(split, data, config.samples, report.console)
        report.add(split.findings)
    report.add(check_batches(examined, data.batch_size, processes))
    pixels = {split.name: np.zeros(256, dtype=np.int64) for split in examined if split.tiles}
    for split in examined:
        if split.tiles:
            pixels[split.name] += split.pixels
    if pixels:
        report.add_histogram(pixels)
    for name in (*data.source_names, *data.unseen_names):
        draw(output / f"{name}.png", [tile for split in examined if split.name == name for tile in split.tiles])
    report.save()
    return report


def draw(path: Path, tiles: list[tuple[str, Picture]]) -> None:
    """Write a domain's sheet, or take away that of an earlier call if there is nothing to show."""
    path.unlink(missing_ok=True)
    if tiles:
        write_picture(path, sheet(tiles))


def check_machine(config: Namespace) -> tuple[list[Finding], int]:
    """Check all but the data; return the findings and the number of processes that would train."""
    devices, processes = check_devices(config.trainer)
    weights = check_weights(config.model)
    known = weights[0].level == "ok" and config.model.segmenter.pretrained
    size = weights_size(config.model.segmenter.backbone) if known else 0
    folder = Path(config.trainer.default_root_dir)
    own = (folder / "config.yaml").resolve() in [Path(path).resolve() for path in config.config or []]
    found = check_run_folder(folder, config.ckpt_path is not None, own, size)
    return [check_versions(), devices, *weights, *found, check_wandb(config.trainer)], processes


def check_selection(config: Namespace, data: DomainDataModule) -> list[Finding]:
    """See whether a callback selects checkpoints on an unseen domain, by the rule of the guard."""
    callbacks = config.trainer.callbacks or []
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    monitors = [config.checkpoint, *(callback.get("init_args") for callback in listed)]
    targets = ", ".join(monitored_targets(SimpleNamespace(callbacks=monitors, datamodule=data)))  # type: ignore[arg-type]
    if not targets:
        return []
    if config.allow_target_selection:
        return [Finding("note", "selection", f"{targets} is monitored: checkpoints are selected on unseen domains")]
    remedy = "monitor a source domain, or set --allow_target_selection true"
    return [Finding("error", "selection", f"{targets} is monitored, of an unseen domain; {remedy}")]


def check_batches(examined: list[SplitCheck], batch_size: int, processes: int) -> list[Finding]:
    """See whether the sources make a batch on each device; say nothing where one of them does not open."""
    images = [split.images for split in examined if split.role == "train"]
    known = [count for count in images if count is not None]
    if len(known) < len(images):
        return []
    share = sum(known) // processes
    if share < batch_size:
        message = f"{share} training images per device are less than a batch of {batch_size}; lower --data.batch_size"
        return [Finding("error", "batches", message)]
    steps = f"{share // batch_size:,} steps an epoch"
    return [Finding("ok", "batches", f"{sum(known):,} training images, {steps} with {batch_size} images x {processes}")]


def _examine_split(split: SplitCheck, data: DomainDataModule, samples: int, console: Console) -> None:
    bad: Level = "note" if data.on_bad_sample == "skip" else "error"
    dataset = open_split(split, bad)
    if dataset is None:
        return
    indices = track(
        sample_indices(split.images or 0, samples),
        f"{split.name}/{split.role}",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    seconds = [decode(split, dataset, index, bad) for index in indices]
    judge_samples(split, seconds)


def _data_module(config: Namespace) -> DomainDataModule:
    """Make the data module alone; it opens nothing yet."""
    parser = ArgumentParser()
    parser.add_class_arguments(DomainDataModule, "data")
    return parser.instantiate_classes(Namespace(data=config)).data
