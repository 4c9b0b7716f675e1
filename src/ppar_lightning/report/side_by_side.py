"""Runs side by side: their scores, and the differences of each to the first, by domain and class."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markdown import Markdown

from ppar_lightning.metrics import unseen_mean
from ppar_lightning.report.seed_table import check_comparable
from ppar_lightning.runs.markdown import mean_title, number, table
from ppar_lightning.runs.run_folder import CONFIG, is_scored
from ppar_lightning.runs.tested_run import TestedRun, read_test

SHARED = "unseen in all (mean)"
"""Label of the mean over the domains that are unseen in every run."""


def print_side_by_side(folders: Sequence[Path], output: Path | None = None) -> None:
    """Print runs side by side; with ``output`` write ``compare.md`` and ``compare.csv`` into that folder.

    Args:
        folders: At least two run folders; the others are compared with the first.
        output: Folder that is written to; None writes nothing.

    Raises:
        FileNotFoundError: A run has not been tested.
        ValueError: A folder is no run, or there is only one run; or two runs were scored on a
            domain by different protocols, on different numbers of images or in other classes.
    """
    other = next((folder for folder in folders if not is_scored(folder)), None)
    if other is not None:
        raise ValueError(f"{other} is no run, it has no {CONFIG}: name only runs, or only folders of settings")
    runs = read_runs(folders)
    if len(runs) == 1:
        raise ValueError(f"{folders[0]} is one run: give --html for its page, or further runs to compare it with")
    lines = score_lines(runs)
    text = "\n".join(["# Runs side by side\n", *_tables(runs, lines), *(f"{note}\n" for note in _notes(runs))])
    Console().print(Markdown(text))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "compare.md").write_text(text)
        columns = ["run", "domain", "protocol", "images", "score", "value", "difference"]
        lines[columns].to_csv(output / "compare.csv", index=False, float_format="%.4f", lineterminator="\n")
        print(f"Written to {output}: compare.md, compare.csv")


def read_runs(folders: Sequence[Path]) -> dict[str, TestedRun]:
    """Read tested runs; the title of each is its path below the folder that holds all of them."""
    whole = {folder.resolve(): folder for folder in folders}
    root = os.path.commonpath([path.parent for path in whole])
    return {path.relative_to(root).as_posix(): read_test(folder) for path, folder in whole.items()}


def score_lines(runs: dict[str, TestedRun]) -> pd.DataFrame:
    """List all scores, a line for each run, domain and mean or class.

    Returns:
        ``run``, ``domain``, ``role``, ``protocol``, ``images``, ``classes``, ``score`` (name of a mean or class),
        ``value`` in per cent and ``difference`` to the first run, NaN where one of them has no value.
    """
    lines = pd.DataFrame(
        {"run": run, "domain": domain, "role": own.role, "protocol": own.protocol, "images": own.counted}
        | {"classes": ", ".join(tested.known), "score": name, "value": 100 * value}
        for run, tested in runs.items()
        for domain, own in tested.scores.items()
        for name, value in own.columns.items()
    )
    check_comparable(lines, ["protocol", "images", "classes"])
    key = ["domain", "score"]
    first = lines[lines["run"] == next(iter(runs))].set_index(key)["value"]
    return lines.assign(difference=lines["value"] - first.reindex(pd.MultiIndex.from_frame(lines[key])).to_numpy())


def _tables(runs: dict[str, TestedRun], lines: pd.DataFrame) -> Iterator[str]:
    """Write a table of domain x run for each mean, and one of class x domain for each difference to the first run."""
    means = list(dict.fromkeys(mean for run in runs.values() for mean in run.unseen_means))
    names = list(dict.fromkeys(name for run in runs.values() for own in run.scores.values() for name in own.columns))
    domains = lines.groupby("domain", sort=False)[["role", "protocol", "images"]].agg(
        lambda values: " / ".join(values.astype(str).unique())
    )
    scores = lines.pivot(index=["run", "score"], columns="domain", values="value")[domains.index]
    scores = scores.reindex(pd.MultiIndex.from_product([runs, names]))
    unseen = [{domain for domain, score in run.scores.items() if score.unseen} for run in runs.values()]
    shared = [domain for domain in domains.index if all(domain in own for own in unseen)]
    if shared:
        scores[SHARED] = [unseen_mean(values, shared) for values in scores.to_dict("records")]
        domains.loc[SHARED] = ["", ", ".join(domains.loc[shared, "protocol"].unique()), ""]
    for mean in means:
        cells = domains.join(scores.xs(mean, level=1).T.map(number)).reset_index()
        yield f"## {mean_title(mean)} (%)\n\n{table(list(cells), cells.to_numpy().tolist(), 3)}"
    first, *others = runs
    for run in others:
        gains = (scores.loc[run] - scores.loc[first]).rename({mean: mean_title(mean) for mean in means})
        cells = gains.map(number, form="+.1f").reset_index()
        rows = [["protocol", *domains["protocol"]], *cells.to_numpy().tolist()]
        yield f"## IoU, {run} minus {first} (points)\n\n{table(['class', *domains.index], rows, 1)}"


def _notes(runs: dict[str, TestedRun]) -> list[str]:
    """List what a reader should know about the runs, one sentence each."""
    notes = [f"{title}: {note}" for title, run in runs.items() for note in run.notes]
    first = next(iter(runs.values())).data
    for title, run in runs.items():
        other = [split for split in first if split in run.data and run.data[split]["hash"] != first[split]["hash"]]
        notes += [f"{title} was scored on other images of {split} than the first run." for split in other]
    return notes
