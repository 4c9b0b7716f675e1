"""Published scores of a setting, from ``published.yaml`` in the package."""

from importlib.resources import files

import pandas as pd
import yaml

from ppar_lightning.report.seed_table import SeedTable
from ppar_lightning.runs.tested_run import UNKNOWN


def read_published(setting: str) -> pd.DataFrame:
    """Read the published rows of a setting; most settings have none.

    Returns:
        ``method``, ``backbone``, mIoU in per cent of each domain and their ``average`` (NaN where it was not
        published), ``source`` of the numbers and ``protocol`` that they were taken by.
    """
    text = (files(__package__) / "published.yaml").read_text()
    shipped = yaml.safe_load(text).get(setting, {"domains": [], "rows": []})
    columns = ["method", "backbone", *shipped["domains"], "average", "protocol", "source"]
    rows = pd.DataFrame(shipped["rows"], columns=columns)
    numbers = dict.fromkeys([*shipped["domains"], "average"], float)
    return rows.astype(numbers)[[*(name for name in columns if name != "protocol"), "protocol"]]


def published_tables(seeds: SeedTable) -> dict[str, pd.DataFrame]:
    """Published rows by protocol, with the setting's own means over seeds where all domains have one protocol.

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
    """Means over seeds in the form of published rows; none unless one protocol scored all of the domains."""
    protocols = set(seeds.domains["protocol"].reindex(domains))
    if len(protocols) > 1 or not set(domains) <= set(seeds.domains.index):
        return pd.DataFrame()
    means = seeds.summary()["mean"].unstack("domain").loc[seeds.rows, domains]
    seeds_of = seeds.summary()["n"].groupby("row").max()
    return means.assign(
        method=[f"{row} (ours)" for row in means.index],
        backbone="as configured",
        average=means.mean(axis=1),
        protocol=protocols.pop(),
        source=[f"this report, {seeds_of[row]} seed{'s' * bool(seeds_of[row] > 1)}" for row in means.index],
    )
