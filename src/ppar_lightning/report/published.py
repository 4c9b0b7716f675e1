"""Published scores of a setting, from ``published.yaml`` in the package."""

from importlib.resources import files

import pandas as pd
import yaml

from ppar_lightning.report.seed_table import SeedTable
from ppar_lightning.runs.manifest import UNKNOWN


def read_published(setting: str) -> pd.DataFrame:
    """Read the published rows of a setting; most settings have none.

    Returns:
        Columns ``method``, ``backbone``, mIoU in per cent of each domain and their ``average`` (NaN if it was not
        published), ``source`` of the numbers, and ``protocol`` that they were computed by.
    """
    text = (files(__package__) / "published.yaml").read_text()
    shipped = yaml.safe_load(text).get(setting, {"domains": [], "rows": []})
    numbers = [*shipped["domains"], "average"]
    rows = pd.DataFrame(shipped["rows"], columns=["method", "backbone", *numbers, "source", "protocol"])
    return rows.astype(dict.fromkeys(numbers, float))


def published_tables(seeds: SeedTable) -> dict[str, pd.DataFrame]:
    """Group published rows by protocol, and add the setting's own means over seeds if all domains have one protocol.

    Returns:
        Protocol -> rows, those without a stated protocol last; empty for a setting without published rows.
    """
    rows = read_published(seeds.setting)
    if rows.empty:
        return {}
    rows = pd.concat([rows, own_rows(seeds, list(rows.columns[2:-3]))], ignore_index=True)
    tables = {str(protocol): own for protocol, own in rows.groupby("protocol", sort=False)}
    return dict(sorted(tables.items(), key=lambda item: item[0] == UNKNOWN))


def own_rows(seeds: SeedTable, domains: list[str]) -> pd.DataFrame:
    """Return means over seeds in the form of published rows; none unless one protocol scored all of the domains."""
    protocols = set(seeds.domains["protocol"].reindex(domains))
    if len(protocols) > 1 or not set(domains) <= set(seeds.domains.index):
        return pd.DataFrame()
    summary = seeds.summary()
    means = summary["mean"].unstack("domain").loc[seeds.rows, domains]
    counts = summary["n"].groupby("row").max()
    return means.assign(
        method=[f"{row} (ours)" for row in means.index],
        backbone="; ".join(["as configured", *seeds.departures]),
        average=means.mean(axis=1),
        protocol=protocols.pop(),
        source=[f"this report, {counts[row]} seed{'s' * bool(counts[row] > 1)}" for row in means.index],
    )
