"""The subcommand ``ppar report``.

ppar report runs/reproduce/demo
ppar report runs/reproduce/demo runs/reproduce/gta --output docs
ppar report docs/results.csv
ppar report --diagnostics runs/reproduce/demo
ppar report --html runs/demo --wandb ppar
ppar report runs/demo runs/other
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ppar_lightning.analysis.diagnosis import FILE, diagnose, write
from ppar_lightning.analysis.figures import draw_diagnostics
from ppar_lightning.analysis.loaded_run import load_run
from ppar_lightning.console import PlainParser
from ppar_lightning.report.chart import draw
from ppar_lightning.report.comparison import Comparison
from ppar_lightning.report.contrast import contrast
from ppar_lightning.report.html import write_page
from ppar_lightning.report.markdown import render
from ppar_lightning.report.summary import write_summary
from ppar_lightning.runs.record import is_run
from ppar_lightning.runs.tested_run import TestedRun, read_csv, read_folder, write_csv


def main(args: Sequence[str]) -> None:
    """Run the subcommand with its arguments.

    Raises:
        ValueError: The arguments do not go together.
    """
    given = parse(args)
    if given.wandb and not given.html:
        raise ValueError("--wandb logs what --html draws: give both")
    if given.html:
        return report_page(given.sources, given.output, given.images, given.wandb)
    if given.diagnostics:
        return report_diagnostics(given.sources)
    if any(map(is_run, given.sources)):
        return report_contrast(given.sources, given.output)
    report(given.sources, given.output)


def parse(args: Sequence[str]) -> Namespace:
    """Parse the subcommand's arguments."""
    parser = PlainParser("ppar report", description="Tables of runs over seeds, runs side by side, one run's page.")
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folder of a setting, with runs in ROW/SEED, or a results.csv that an earlier report wrote; "
        "or the folders of two runs or more, to print them side by side",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of what is written (default: the first FOLDER itself; of runs side by side, nothing is written); "
        "with --html the file (default: report.html in the run's folder)",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--html", action="store_true", help="write a page of one run, which needs nothing beside it")
    parser.add_argument(
        "--images", type=int, default=60, help="images a domain that --html takes the best and worst of (default: 60)"
    )
    parser.add_argument("--wandb", metavar="PROJECT", help="log what --html draws to this project of W&B as well")
    kind.add_argument(
        "--diagnostics",
        action="store_true",
        help="measure features, anchors and weights of each run with prototypes instead, half a minute each or so",
    )
    return parser.parse_args(args)


def report_page(sources: Sequence[Path], output: Path | None, images: int, project: str | None = None) -> None:
    """Write the page of a run.

    Raises:
        ValueError: There are several sources, or a number of images that is negative.
    """
    if len(sources) > 1 or images < 0:
        raise ValueError("--html makes the page of one run: name one folder, and --images of at least 0")
    print(f"Written to {write_page(sources[0], output, images, project)}")


def report_contrast(sources: Sequence[Path], output: Path | None) -> None:
    """Print runs side by side.

    Raises:
        ValueError: There is one run alone, or a source is none.
    """
    other = next((source for source in sources if not is_run(source)), None)
    if other is not None:
        raise ValueError(f"{other} is no run, it has no config.yaml: name runs alone, or folders of settings alone")
    if len(sources) == 1:
        raise ValueError(f"{sources[0]} is one run: give --html for its page, or further runs to compare it with")
    contrast(sources, output)


def report_diagnostics(sources: Sequence[Path]) -> None:
    """Write ``diagnostics.csv`` and ``pictures/diagnostics.png`` into each finished run that was trained with PPAR.

    Args:
        sources: run folders, or folders of settings with runs in ROW/SEED.

    Raises:
        FileNotFoundError: There is no run.
    """
    found = [
        path.parent for source in sources for path in (*source.glob("config.yaml"), *source.glob("*/*/config.yaml"))
    ]
    if not found:
        raise FileNotFoundError(f"no run in {', '.join(map(str, sources))}: name the folder of a run, or of a setting")
    for folder in sorted(found):
        run = load_run(folder)
        if run.module.objective is None:
            print(f"{folder} is left out: it was trained without prototypes")
            continue
        write(diagnose(run), folder / FILE)
        print(f"{folder / FILE}, drawn in {draw_diagnostics(folder)}")


def report(sources: Sequence[Path], output: Path | None = None) -> None:
    """Write ``results.md``, ``results.csv`` (all runs), ``summary.csv`` (means and differences) and ``results.png``.

    Args:
        sources: folders of settings, or CSV files that hold the runs of some.
        output: folder that is written to; by default the first source, or the folder of the first file.

    Raises:
        FileNotFoundError: A source does not exist, or holds no tested run.
        ValueError: Runs of one setting were scored differently.
    """
    runs: list[TestedRun] = []
    for source in sources:
        runs += _read(source)
    comparisons = [
        Comparison([r for r in runs if r.setting == name]) for name in dict.fromkeys(r.setting for r in runs)
    ]
    ordered = [run for comparison in comparisons for row in comparison.rows.values() for run in row]
    folder = output or (sources[0] if sources[0].is_dir() else sources[0].parent)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "results.csv", ordered)
    write_summary(folder / "summary.csv", comparisons)
    draw(comparisons, folder / "results.png")
    text = render(comparisons, "results.png", "results.csv")
    (folder / "results.md").write_text(text)
    print(f"{text}\nWritten to {folder}: results.md, results.csv, summary.csv, results.png")


def _read(source: Path) -> list[TestedRun]:
    if source.suffix == ".csv":
        return read_csv(source)
    runs, unfinished = read_folder(source)
    for folder in unfinished:
        print(f"{folder} is left out: its training or its test is not finished")
    return runs
