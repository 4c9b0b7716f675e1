"""The tables over seeds: ``results.md``, ``results.csv``, ``summary.csv`` and ``results.png``."""

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
import yaml

from ppar_lightning.report.chart import draw_bars
from ppar_lightning.report.seed_table import BASELINE, COLUMNS, SeedTable, read_results
from ppar_lightning.runs.manifest import distinct
from ppar_lightning.runs.markdown import mean_title, number, table
from ppar_lightning.runs.tested_run import count_of

CLAIMS = (
    ("progressive alignment beats direct alignment", "progressive", "otp"),
    ("CLIP's prototypes beat naive ones", "otp", "naive"),
    ("reweighting limits negative transfer", "ppar", "progressive"),
    ("(control) CLIP's text beats random directions", "otp", "random"),
)
"""Claim, the row that should be better, the row that it is compared with."""
HEAD = (
    "# Results",
    "Written by `ppar report`, never by hand; `ppar report results.csv` writes it again from the CSV beside it. "
    "mIoU in per cent,\nlast checkpoint, mean ± standard deviation (n - 1) over seeds. "
    "Differences are paired: of runs with the same seed.",
    "![mean over the unseen domains by row](results.png)",
)


def write_report(sources: Sequence[Path], output: Path | None = None) -> None:
    """Write ``results.md``, ``results.csv`` (all runs), ``summary.csv`` (means and differences) and ``results.png``.

    Args:
        sources: Folders of settings with runs in ROW/SEED, or ``results.csv`` files of earlier reports.
        output: Folder that is written to; by default the first source, or its folder if it is a file.

    Raises:
        FileNotFoundError: A source does not exist, or holds no tested run.
        ValueError: Runs of one setting were scored differently.
    """
    results = pd.concat([read_results(source) for source in sources], ignore_index=True)
    tables = [SeedTable(own) for _, own in results.groupby("setting", sort=False)]
    folder = output or (sources[0] if sources[0].is_dir() else sources[0].parent)
    folder.mkdir(parents=True, exist_ok=True)
    means = [name for name in results if name not in COLUMNS]
    ordered = pd.concat([each.results for each in tables]).reindex(columns=[*COLUMNS, *means])
    ordered.to_csv(folder / "results.csv", index=False, lineterminator="\n")
    parts = {(each.setting, mean): each.summary(mean) for each in tables for mean in each.means}
    summary = pd.concat(parts, names=["setting", "metric"]).reorder_levels(["setting", "row", "domain", "metric"])
    summary.to_csv(folder / "summary.csv", float_format="%.4f", lineterminator="\n")
    draw_bars(tables, folder / "results.png")
    text = "\n\n".join([*HEAD, "\n".join(map(_section, tables))])
    (folder / "results.md").write_text(text)
    print(f"{text}\nWritten to {folder}: results.md, results.csv, summary.csv, results.png")


def _section(seeds: SeedTable) -> str:
    parts = [f"## {seeds.setting}", _protocols(seeds)]
    for mean in seeds.means:
        summary = seeds.summary(mean)
        parts += [f"### {mean_title(mean)}", _scores(seeds, summary)]
        if BASELINE in seeds.rows:
            parts += [f"### Difference to `{BASELINE}`, {mean_title(mean)}", _differences(seeds, summary)]
    claims = _claims(seeds)
    parts += ["### The claims of the abstract", claims] if claims else []
    parts += ["### Cost", _cost(seeds), *_published(seeds)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _spread(mean: float, deviation: float, form: str) -> str:
    """Format a mean and, over several seeds, the standard deviation."""
    return number(mean, form) + ("" if pd.isna(deviation) else f" ± {deviation:{form.lstrip('+')}}")


def _protocols(seeds: SeedTable) -> str:
    roles = seeds.domains["unseen"].map({0: "source", 1: "unseen"})
    counted = [count_of(*pair) for pair in zip(seeds.domains["images"], seeds.domains["images_of"], strict=True)]
    domains = seeds.domains.assign(unseen=roles, images=counted).drop(columns="images_of").astype(str).reset_index()
    runs = seeds.results[seeds.results["selected_on"] != ""].drop_duplicates(["row", "seed"])
    selected = ", ".join(f"{run.row}/{run.seed} ({run.selected_on})" for run in runs.itertuples())
    warning = f"\n**Checkpoints selected on unseen domains, so scores are biased:** {selected}.\n" if selected else ""
    for departure, titles in seeds.departures.items():
        warning += f"\n**Not the scores of the setting and its protocols, {departure}:** {titles}.\n"
    return table(["domain", "role", "protocol", "images"], domains.to_numpy().tolist(), 3) + warning


def _scores(seeds: SeedTable, summary: pd.DataFrame) -> str:
    lines = [[row, *_statistics(summary.loc[row], ["n", "mean", "deviation"], ".1f")] for row in seeds.rows]
    return table(["row", "n", *seeds.columns], lines)


def _differences(seeds: SeedTable, summary: pd.DataFrame) -> str:
    lines = []
    for row in [row for row in seeds.rows if row != BASELINE]:
        cells = _statistics(summary.loc[row], ["paired_n", "difference", "difference_deviation"], "+.2f")
        lines.append([row, *cells, f"{summary.loc[row]['wins'].fillna(0).iloc[-1]} of {cells[0]}"])
    return table(["row", "n", *seeds.columns, f"seeds won, {seeds.columns[-1]}"], lines)


def _statistics(own: pd.DataFrame, names: list[str], form: str) -> list[str]:
    """Format the number of seeds, and mean ± deviation of each column."""
    n, means, deviations = (own[name] for name in names)
    return [str(n.iloc[-1]), *(_spread(*pair, form) for pair in zip(means, deviations, strict=True))]


def _claims(seeds: SeedTable) -> str:
    column, lines = seeds.columns[-1], []
    for claim, row, other in CLAIMS:
        gains = seeds.gains(other=other).query("row == @row")[column]
        if len(gains):
            by_seed, spread = ", ".join(map("{:+.2f}".format, gains)), _spread(gains.mean(), gains.std(), "+.2f")
            lines.append([claim, f"{row} - {other}", by_seed, spread, f"{(gains > 0).sum()} of {len(gains)}"])
    header = ["claim", f"difference, {column}", "by seed", "mean", "seeds won"]
    return table(header, lines, 2) if lines else ""


def _cost(seeds: SeedTable) -> str:
    runs = seeds.results.drop_duplicates(["row", "seed"])
    lines = []
    for row, own in runs.groupby("row", sort=False):
        revision = re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", distinct(own["revision"]))
        minutes, memory = (own["seconds"] / 60).mean(), own["peak_memory"].mean()
        lines.append([str(row), distinct(own["hardware"]), revision, number(minutes), number(memory, ".2f")])
    header = ["row", "hardware", "git revision", "time (min)", "peak memory (GiB)"]
    remark = "Means over seeds, of training with its validation; memory on CUDA allocated, else resident."
    return f"{table(header, lines, 3)}\n{remark} Versions: {distinct(runs['versions'])}.\n"


def _published(seeds: SeedTable) -> Iterator[str]:
    """Write what was published for the same sources, a table a protocol; the runs stand in that of their own alone."""
    sources = ", ".join(sorted(seeds.domains.index[seeds.domains["unseen"] == 0]))
    text = (files(__package__) / "published.yaml").read_text()
    shipped = yaml.load(text, yaml.BaseLoader).get(sources)  # strings, so that numbers keep the digits they have there
    if not shipped:
        return
    domains = shipped["domains"]
    titles = {"not at all" if pd.isna(title) else title for title in seeds.domains["protocol"].reindex(domains)}
    reasons = [f"they were scored on {', '.join(domains)} by {', '.join(sorted(titles))}"] * (len(titles) > 1)
    reasons += [f"no row of protocol {', '.join(titles)} is known"] * (not titles & {*shipped["protocols"]})
    reasons += ["they are not the scores of the setting, see above"] * bool(seeds.departures)
    where = "none of them: " + "; ".join(reasons) if reasons else f"that of protocol {', '.join(titles)}"
    yield "### Published"
    yield f"Trained on the same sources. Across tables, numbers do not compare: the runs above stand in {where}."
    header = ["method", "backbone", *domains, "average", "test size", "several scales", "steps x batch", "source"]
    scores = seeds.scores().reindex(columns=domains)
    means = scores.assign(average=scores.mean(axis=1, skipna=False)).groupby("row", sort=False).mean()
    ours = [
        [f"`{row}`, above", "-", *map(number, values), "-", "-", "-", "this report"]
        for row, *values in means.itertuples()
    ]
    for title, rows in shipped["protocols"].items():
        cells = [["-" if cell == "null" else cell for cell in row] for row in rows]
        yield f"Protocol {title}:"
        yield table(header, cells + (ours if not reasons and title in titles else []), 2)
