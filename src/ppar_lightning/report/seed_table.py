"""Runs of one setting over seeds: how they are read, their means, and differences paired by seed."""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from statistics import stdev

import pandas as pd

from ppar_lightning.metrics import UNSEEN, unseen_mean
from ppar_lightning.runs.manifest import training_cost
from ppar_lightning.runs.run_folder import find_runs
from ppar_lightning.runs.tested_run import read_test

BASELINE = "source_only"
"""Row that the others are compared with."""
ROWS = (
    *(BASELINE, "naive", "random", "otp", "vtp", "progressive", "reversed", "reweighting", "ppar"),
    *("isw", "isw_ppar", "style", "style_ppar", "ema", "class_uniform", "rare_class"),
)
"""The rows of the table of ablations, in the order in which they are run and shown."""
TEXT = ("setting", "row", "domain", "protocol", "hardware", "revision", "versions", "selected_on", "departures")
COLUMNS = [
    *("setting", "row", "seed", "domain", "unseen", "protocol", "images", "images_of"),
    *("seconds", "peak_memory", "hardware", "revision", "versions", "selected_on", "departures"),
]
"""Columns of ``results.csv``, a line for each run and domain; the means (``miou``, ``miou_16``) follow, in [0, 1]."""


def read_results(source: Path) -> pd.DataFrame:
    """Read the tested runs of a setting from its folder, or those of all settings in a ``results.csv``.

    Raises:
        FileNotFoundError: There is no such file, or the folder holds no tested run.
        ValueError: The CSV lacks a column, a run is damaged, or its folder is not named by its seed.
    """
    if source.suffix != ".csv":
        return _read_folder(source)
    if not source.is_file():
        raise FileNotFoundError(f"{source} not found: give a results.csv of `ppar report`, or the folder of a setting")
    text = dict.fromkeys(TEXT, str)
    results = pd.read_csv(source, dtype=text, keep_default_na=False, na_values=[""], float_precision="round_trip")
    missing = [name for name in COLUMNS if name not in results]
    if missing:
        raise ValueError(f"{source} has no column {', '.join(missing)}: give a results.csv of `ppar report`")
    return results.fillna(dict.fromkeys(TEXT, ""))


def _read_folder(folder: Path) -> pd.DataFrame:
    lines = []
    for path in find_runs(folder):
        row, seed = path.parts[-2:]
        run = read_test(path) if (path / "test.json").is_file() else None
        if run is None or not run.finished or run.outdated:
            why = "its training is not finished" if run and not run.finished else "its last checkpoint is not tested"
            print(f"{path} is left out: {why}")
            continue
        trained = str((run.manifest or {}).get("seed", seed))
        if not seed.isdigit() or seed != trained:
            name = trained if trained.isdigit() else "its seed"
            raise ValueError(f"{path}: the folder of a run must have its seed as its name: rename it to {name}")
        about = {"setting": folder.resolve().name, "row": row, "seed": int(seed)}
        about |= {"selected_on": ", ".join(run.selected_on), "departures": "; ".join(run.departures)}
        about |= training_cost(run.manifest)
        for domain, score in run.scores.items():
            scored = {"unseen": int(score.unseen), "protocol": score.protocol}
            scored |= {"images": score.images, "images_of": score.images_of}
            lines.append(about | {"domain": domain} | scored | score.means)
    if not lines:
        remedy = "name the folder of a setting that `ppar reproduce` has written"
        raise FileNotFoundError(f"{folder}: no tested run in ROW/SEED: {remedy}")
    return pd.DataFrame(lines)


def check_comparable(lines: pd.DataFrame, aspects: Sequence[str]) -> None:
    """Check that all runs were scored alike on each domain.

    Args:
        lines: A line for each ``run`` and ``domain``, with the aspects as columns.
        aspects: Columns that must be equal for all runs on a domain, such as ``protocol``.

    Raises:
        ValueError: Two runs differ.
    """
    for domain, own in lines.groupby("domain", sort=False):
        for aspect in aspects:
            different = own.drop_duplicates(aspect)
            if len(different) > 1:
                (one, value), (other, another) = different[["run", aspect]].to_numpy().tolist()[:2]
                raise ValueError(
                    f"{one} and {other} were scored on {domain} with {aspect} {value!r} and {another!r}: such numbers "
                    "do not belong in one column; test the runs again in the same way, or keep them apart"
                )


def deviation(values: Collection[float]) -> float:
    """Return the standard deviation of a sample (n - 1), rounded exactly unlike pandas'; NaN for fewer than two."""
    return stdev(values) if len(values) > 1 else math.nan


def in_order(rows: Iterable[str]) -> list[str]:
    """Sort rows in the order of the table; other rows follow by name."""
    return sorted(set(rows), key=lambda row: (ROWS.index(row) if row in ROWS else len(ROWS), row))


class SeedTable:
    """Rows of one setting, whose runs were all scored on the same domains in the same way.

    Attributes:
        setting: Name of the setting.
        rows: Names of its rows, in their order.
        results: Lines of ``results.csv``, sorted by row and seed.
        domains: Domain -> unseen, protocol, images and images_of; the sources come first.
        columns: The domains, and UNSEEN if one of them is unseen.
        means: Names of the means over classes.
    """

    def __init__(self, results: pd.DataFrame) -> None:
        """Order the runs of a setting.

        Args:
            results: Lines of one setting, see :func:`read_results`.

        Raises:
            ValueError: Two runs were scored differently, so that they cannot be compared; or a run is listed twice.
        """
        means = [name for name in results if name not in COLUMNS and results[name].notna().any()]
        runs = results["setting"] + "/" + results["row"] + "/" + results["seed"].astype(str)
        twice = runs[results.duplicated(["row", "seed", "domain"])]
        if len(twice):
            raise ValueError(f"{twice.iloc[0]} is given twice: report a folder or its CSV, not both")
        kinds = results[means].apply(lambda scores: ", ".join(scores.dropna().index), axis=1)
        domains = results["domain"].groupby(runs).transform(lambda names: ", ".join(sorted(names)))
        lines = results.assign(run=runs, means=kinds, domains=domains)
        check_comparable(lines.assign(domain="the domains"), ["domains"])
        check_comparable(lines, ["unseen", "protocol", "images", "images_of", "means"])
        self.setting = str(results["setting"].iloc[0])
        self.rows, self.means = in_order(results["row"]), means
        domain = results.drop_duplicates("domain").set_index("domain")[["unseen", "protocol", "images", "images_of"]]
        self.domains = domain.sort_values("unseen", kind="stable")
        self.columns = [*self.domains.index, *[UNSEEN] * bool(self.domains["unseen"].any())]
        by_seed = results.sort_values("seed", kind="stable").set_index("row")
        self.results = by_seed.loc[self.rows].reset_index()

    @property
    def departures(self) -> dict[str, str]:
        """What sets runs apart from the setting -> their names, ``row/seed`` each."""
        runs = self.results[self.results["departures"] != ""].drop_duplicates(["row", "seed"])
        titles = runs["row"] + "/" + runs["seed"].astype(str)
        return titles.groupby(runs["departures"], sort=False).agg(", ".join).to_dict()

    def scores(self, mean: str = "miou") -> pd.DataFrame:
        """Return the scores in per cent: (row, seed) x columns."""
        wide = self.results.pivot(index=["row", "seed"], columns="domain", values=mean)
        unseen = set(self.domains.index[self.domains["unseen"] == 1])
        wide[UNSEEN] = [unseen_mean(values, unseen) for values in wide.to_dict("records")]
        return 100 * wide[self.columns]

    def gains(self, mean: str = "miou", other: str = BASELINE) -> pd.DataFrame:
        """Return the scores minus those of another row with the same seed: (row, seed) x columns, for shared seeds."""
        scores = self.scores(mean)
        if other not in self.rows:
            return scores.iloc[:0]
        return scores.sub(scores.loc[other], level="seed").drop(other, level="row").dropna(how="all")

    def summary(self, mean: str = "miou") -> pd.DataFrame:
        """Compute statistics over the seeds of each row (outer index) and column (inner index), in per cent.

        Returns:
            ``n``, ``mean``, ``deviation`` (of a sample, n - 1) of the scores; ``paired_n``, ``difference``,
            ``difference_deviation`` and ``wins`` (seeds above 0) of the gains over the baseline. NaN means no value.
        """
        places = pd.MultiIndex.from_product([self.rows, self.columns], names=["row", "domain"])
        scores, gains = (
            frame.rename_axis(columns="domain").stack().groupby(["row", "domain"])
            for frame in (self.scores(mean), self.gains(mean))
        )
        table = scores.agg(n="count", mean="mean", deviation=deviation).reindex(places)
        paired = {"paired_n": "count", "difference": "mean", "difference_deviation": deviation}
        table = table.join(gains.agg(**paired, wins=lambda values: (values > 0).sum()))
        return table.fillna({"n": 0, "paired_n": 0}).astype({"n": int, "paired_n": int, "wins": "Int64"})
