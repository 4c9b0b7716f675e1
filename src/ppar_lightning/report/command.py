"""The subcommand ``ppar report``.

ppar report runs/reproduce/demo
ppar report runs/reproduce/demo runs/reproduce/gta --output docs
ppar report docs/results.csv
ppar report --diagnostics runs/reproduce/demo
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ppar_lightning.analysis.diagnosis import FILE, diagnose, write
from ppar_lightning.analysis.figures import draw_diagnostics
from ppar_lightning.analysis.run import load_run
from ppar_lightning.parser import PlainParser
from ppar_lightning.report.chart import draw
from ppar_lightning.report.comparison import Comparison
from ppar_lightning.report.markdown import render
from ppar_lightning.report.runs import Run, read_csv, read_folder, write_csv
from ppar_lightning.report.summary import write_summary


def main(args: Sequence[str]) -> None:
    """Run the subcommand with its arguments."""
    given = parse(args)
    if given.diagnostics:
        return report_diagnostics(given.sources)
    report(given.sources, given.output)


def parse(args: Sequence[str]) -> Namespace:
    """Parse the subcommand's arguments."""
    parser = PlainParser("ppar report", description="Tables, CSV and chart of runs over seeds.")
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folder of a setting, with runs in ROW/SEED; or a results.csv that an earlier report wrote",
    )
    parser.add_argument("--output", type=Path, help="folder of what is written (default: the first FOLDER itself)")
    parser.add_argument(
        "--diagnostics",
        action="store_true",
        help="measure features, anchors and weights of each run with prototypes instead, half a minute each or so",
    )
    return parser.parse_args(args)


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
    runs: list[Run] = []
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


def _read(source: Path) -> list[Run]:
    if source.suffix == ".csv":
        return read_csv(source)
    runs, unfinished = read_folder(source)
    for folder in unfinished:
        print(f"{folder} is left out: its training or its test is not finished")
    return runs
