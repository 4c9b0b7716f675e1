"""Published numbers of a setting, shipped with the package as ``published.yaml``."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import yaml

from ppar_lightning.report.comparison import Comparison
from ppar_lightning.runs.tested_run import UNKNOWN


@dataclass(frozen=True)
class Published:
    """A row of a published table.

    Attributes:
        method: its name.
        backbone: it was trained with.
        scores: domain -> mIoU in per cent, None where it was not published.
        average: over all of the domains, None where it was not published.
        protocol: its numbers were taken by.
        source: where the numbers are from.
    """

    method: str
    backbone: str
    scores: dict[str, float | None]
    average: float | None
    protocol: str
    source: str


def read_published(setting: str) -> list[Published]:
    """Read the published rows of a setting; none for most."""
    tables = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
    if setting not in tables:
        return []
    domains = tables[setting]["domains"]
    rows = []
    for line in tables[setting]["rows"]:
        method, backbone, *scores, average, protocol, source = line
        rows.append(Published(method, backbone, dict(zip(domains, scores, strict=True)), average, protocol, source))
    return rows


def by_protocol(comparison: Comparison) -> dict[str, list[Published]]:
    """Published rows beside the setting's own where the protocol is the same, in tables by protocol.

    Returns:
        Empty for a setting without published rows.
    """
    tables: dict[str, list[Published]] = defaultdict(list)
    published = read_published(comparison.setting)
    for row in published:
        tables[row.protocol].append(row)
    for own in own_rows(comparison, list(published[0].scores)) if published else []:
        tables[own.protocol].append(own)
    return dict(sorted(tables.items(), key=lambda item: item[0] == UNKNOWN))  # what is not stated comes last


def own_rows(comparison: Comparison, domains: list[str]) -> list[Published]:
    """Means over seeds in the form of published rows; none unless all domains were scored by one protocol."""
    protocols = {comparison.scores[name].protocol if name in comparison.scores else None for name in domains}
    if len(protocols) > 1 or None in protocols:
        return []
    rows = []
    for row, runs in comparison.rows.items():
        scores = {name: comparison.spread(row, name).mean for name in domains}
        (protocol,) = protocols
        source = f"this report, {len(runs)} seed{'s' if len(runs) > 1 else ''}"
        rows.append(
            Published(f"{row} (ours)", "as configured", {**scores}, fmean(scores.values()), str(protocol), source)
        )
    return rows
