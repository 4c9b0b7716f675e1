"""The subcommand ``ppar report``.

ppar report runs/reproduce/demo
ppar report runs/reproduce/demo runs/reproduce/gta --output docs
ppar report docs/results.csv
ppar report --html runs/demo
ppar report --diagnostics runs/demo
ppar report runs/demo runs/other
"""

from collections.abc import Sequence
from pathlib import Path

from ppar_lightning.console import PlainParser
from ppar_lightning.runs.run_folder import is_scored


def main(args: Sequence[str]) -> None:
    """Run the subcommand with its arguments.

    Raises:
        ValueError: The arguments contradict each other.
    """
    parser = PlainParser("ppar report", description="Tables over seeds, runs side by side, or the page of one run.")
    places = "folder of a setting, with runs in ROW/SEED; results.csv of an earlier report; or two or more run folders"
    parser.add_argument("sources", nargs="+", type=Path, metavar="FOLDER", help=places)
    output = "folder that is written to (default: the first FOLDER; for run folders none); with --html the file"
    parser.add_argument("--output", type=Path, help=output)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--html", action="store_true", help="write the page of one run, a single HTML file")
    images = "with --html, images of each domain to find the best and worst among (default: 60)"
    parser.add_argument("--images", type=int, default=60, help=images)
    diagnostics = "measure features, anchors and weights of each run, which takes half a minute a run"
    kind.add_argument("--diagnostics", action="store_true", help=diagnostics)
    given = parser.parse_args(args)
    sources: list[Path] = given.sources
    if given.html:
        from ppar_lightning.report.html import write_page

        if len(sources) > 1 or given.images < 0:
            raise ValueError("--html writes the page of one run: name one folder, and give --images of at least 0")
        print(f"Written to {write_page(sources[0], given.output, given.images)}")
    elif given.diagnostics:
        from ppar_lightning.analysis.diagnosis import diagnose
        from ppar_lightning.analysis.loaded_run import load_run

        for folder in sources:
            table = folder / "diagnostics.csv"
            diagnose(load_run(folder)).to_csv(table, index=False, float_format="%.6f", lineterminator="\n")
            print(f"Written to {table}")
    elif any(map(is_scored, sources)):
        from ppar_lightning.report.side_by_side import print_side_by_side

        print_side_by_side(sources, given.output)
    else:
        from ppar_lightning.report.seed_report import write_report

        write_report(sources, given.output)
