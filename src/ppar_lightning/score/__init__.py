"""The subcommand ``ppar score``: label maps that any program has made, scored by a protocol.

ppar score predictions/ data/cityscapes --dataset cityscapes --protocol rein --ci
"""

from collections.abc import Sequence
from pathlib import Path

from ppar_lightning.console import PlainParser, add_ci
from ppar_lightning.runs.run_folder import refuse_run


def main(words: Sequence[str]) -> None:
    """Run the subcommand with its arguments.

    Raises:
        OSError, ValueError: The maps cannot be scored; the message names the fault and the remedy.
    """
    parser = add_ci(PlainParser("ppar score", description="Score label maps of train ids that any program has made."))
    parser.add_argument("predictions", type=Path, help="folder of the maps, PNG; 255 is no class")
    parser.add_argument("labels", help="root of the data set, or folder of label maps like these")
    parser.add_argument("--dataset", default="folder", help="data set of the labels, such as cityscapes")
    parser.add_argument("--split", help="its split (default: the one that is scored)")
    parser.add_argument("--protocol", default="full", help="name of the protocol (default: full)")
    parser.add_argument("--classes", default="cityscapes19", help="list of the package, or YAML file")
    parser.add_argument("--name", help="name of the domain (default: that of the data set)")
    parser.add_argument("--output", type=Path, help="folder of the scores (default: runs/NAME_OF_PREDICTIONS)")
    given = parser.parse_args(words)
    given.output = given.output or Path("runs", given.predictions.resolve().name)
    refuse_run(given.output, "--output")
    if given.split and given.dataset == "folder":
        raise ValueError("--split names a split of a data set: give its name as --dataset, or leave --split out")
    from ppar_lightning.score.map_reader import score  # imported here, because the help does not need Lightning

    score(given)
