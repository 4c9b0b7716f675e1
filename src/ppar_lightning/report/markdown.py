"""The report as Markdown."""

import math
import re
from collections.abc import Iterable, Sequence

from ppar_lightning.report.comparison import Comparison, Spread
from ppar_lightning.report.published import Published, by_protocol
from ppar_lightning.report.rows import BASELINE
from ppar_lightning.runs.tested_run import TestedRun, distinct

CLAIMS = (
    ("progressive alignment beats direct alignment", "progressive", "otp"),
    ("CLIP's prototypes beat naive ones", "otp", "naive"),
    ("reweighting limits negative transfer", "ppar", "progressive"),
    ("(control) CLIP's text beats random directions", "otp", "random"),
)
HEAD = """# Results

Written by `ppar report`, never by hand; `ppar report {csv}` writes it again from the CSV beside it. mIoU in per cent,
last checkpoint, mean ± standard deviation (n - 1) over seeds. Differences are paired: of runs with the same seed.
"""


def render(comparisons: Iterable[Comparison], chart: str, csv: str) -> str:
    """Render all settings.

    Args:
        comparisons: one a setting.
        chart: path of the picture, relative to the Markdown file.
        csv: path of the CSV of all runs, as a reader would type it.
    """
    sections = "\n".join(_section(comparison) for comparison in comparisons)
    return f"{HEAD.format(csv=csv)}\n![mean over the unseen domains by row]({chart})\n\n{sections}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """Render a table; the first `text` columns are aligned to the left, the others to the right."""
    rule = ["---"] * text + ["---:"] * (len(header) - text)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))


def number(value: float, form: str = ".1f") -> str:
    """Format a number, a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:{form}}"


def mean_title(mean: str) -> str:
    """Write a mean as it is read: ``miou_16`` is "mIoU over 16 classes"."""
    return mean.replace("miou", "mIoU").replace("_", " over ") + ("" if mean == "miou" else " classes")


def spread(values: Spread, form: str = ".1f") -> str:
    """Format mean and, over several seeds, standard deviation."""
    deviation = f" ± {values.deviation:{form.lstrip('+')}}" if len(values.values) > 1 else ""
    return number(values.mean, form) + deviation


def _section(comparison: Comparison) -> str:
    parts = [f"## {comparison.setting}", _protocols(comparison)]
    for mean in comparison.means:
        parts += [f"### {mean_title(mean)}", _scores(comparison, mean)]
        if BASELINE in comparison.rows:
            parts += [f"### Difference to `{BASELINE}`, {mean_title(mean)}", _differences(comparison, mean)]
    claims = _claims(comparison)
    parts += ["### The claims of the abstract", claims] if claims else []
    parts += ["### Cost", _cost(comparison)]
    parts += _published(by_protocol(comparison))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _protocols(comparison: Comparison) -> str:
    cells = []
    for name in comparison.domains:
        score = comparison.scores[name]
        cells.append([name, "unseen" if score.unseen else "source", score.protocol, str(score.images)])
    runs = [run for runs in comparison.rows.values() for run in runs]
    selected = [f"{run.row}/{run.seed} ({run.selected_on})" for run in runs if run.selected_on]
    warning = f"\n**Checkpoints selected on unseen domains, no measure of them:** {', '.join(selected)}.\n"
    return table(["domain", "role", "protocol", "images"], cells, 3) + (warning if selected else "")


def _scores(comparison: Comparison, mean: str) -> str:
    lines = [
        [row, str(len(runs)), *(spread(comparison.spread(row, column, mean)) for column in comparison.columns)]
        for row, runs in comparison.rows.items()
    ]
    return table(["row", "n", *comparison.columns], lines)


def _differences(comparison: Comparison, mean: str) -> str:
    lines = []
    for row in comparison.rows:
        if row == BASELINE:
            continue
        gains = [comparison.difference(row, column, mean=mean) for column in comparison.columns]
        last = gains[-1]
        lines.append([row, str(len(last.values)), *(spread(gain, "+.2f") for gain in gains), _won(last)])
    return table(["row", "n", *comparison.columns, f"seeds won, {comparison.columns[-1]}"], lines)


def _won(gains: Spread) -> str:
    return f"{gains.wins} of {len(gains.values)}"


def _claims(comparison: Comparison) -> str:
    column, lines = comparison.columns[-1], []
    for claim, row, other in CLAIMS:
        gains = comparison.difference(row, column, other)
        if gains.values:
            by_seed = ", ".join(f"{value:+.2f}" for value in gains.values.values())
            lines.append([claim, f"{row} - {other}", by_seed, spread(gains, "+.2f"), _won(gains)])
    header = ["claim", f"difference, {column}", "by seed", "mean", "seeds won"]
    return table(header, lines, 2) if lines else ""


def _cost(comparison: Comparison) -> str:
    lines = []
    for row, runs in comparison.rows.items():
        minutes = Spread({run.seed: run.seconds / 60 for run in runs}).mean
        memory = Spread({run.seed: run.peak_memory for run in runs}).mean
        hardware, revision = (distinct(getattr(run, name) for run in runs) for name in ("hardware", "revision"))
        lines.append(
            [
                row,
                hardware,
                re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", revision),
                number(minutes),
                number(memory, ".2f"),
            ]
        )
    header = ["row", "hardware", "git revision", "time (min)", "peak memory (GiB)"]
    all_runs: list[TestedRun] = [run for runs in comparison.rows.values() for run in runs]
    remark = "Means over seeds, of training with its validation; memory on CUDA allocated, else resident."
    return f"{table(header, lines, 3)}\n{remark} Versions: {distinct(run.versions for run in all_runs)}.\n"


def _published(tables: dict[str, list[Published]]) -> list[str]:
    if not tables:
        return []
    parts = [
        "### Published",
        "Trained on the same source. One table a protocol: across tables, numbers do not compare.",
    ]
    for protocol, rows in tables.items():
        header = ["method", "backbone", *rows[0].scores, "average", "source"]
        lines = [
            [row.method, row.backbone, *(_given(v) for v in (*row.scores.values(), row.average)), row.source]
            for row in rows
        ]
        parts += [f"Protocol {protocol}:", table(header, lines, 2)]
    return parts


def _given(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"  # no more digits than were published
