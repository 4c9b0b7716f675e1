"""The subcommand ``ppar convert labels``: labels of any kind as maps of train ids."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from jsonargparse import ArgumentError, ArgumentParser
from PIL import Image
from rich.progress import track

from ppar_lightning.data.datasets.folder import Folder


def main(words: Sequence[str]) -> None:
    """Run the subcommand with its arguments, the options of data set `folder`.

    Raises:
        ValueError: The arguments are no such options.
    """
    parser = ArgumentParser("ppar convert labels", exit_on_error=False, description=__doc__)
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument("output", type=Path, help="folder that is written, one PNG for each sample")
    parser.add_argument("--split", default="all", help="replaces {split} in the patterns")
    parser.add_class_arguments(Folder, skip={"root", "split", "domain", "target", "on_bad_sample"})
    try:
        given = vars(parser.parse_args(words))
    except ArgumentError as error:
        raise ValueError(f"{error}; `ppar convert labels --help` lists the options") from error
    output = given.pop("output").expanduser()
    dataset = Folder(Path(given.pop("root")).expanduser(), domain="convert", **given)
    write_maps(dataset, output)
    print(f"{output}: {len(dataset)} maps of train ids 0-{len(dataset.labelled_in) - 1}, and 255, which is ignored")


def write_maps(dataset: Folder, output: Path) -> None:
    """Write the labels as PNG files of train ids, named like their samples, all or none.

    Args:
        dataset: The data set.
        output: A folder that does not exist yet.

    Raises:
        FileExistsError: It does.
        ValueError: A label cannot be read.
        OSError: The folder cannot be written to.
    """
    if output.exists():
        raise FileExistsError(f"{output} already exists: move it away, or give another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".") as folder:
        for index, name in enumerate(track(dataset.names, "labels")):
            path = Path(folder, output.name, f"{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(dataset.read_label(index)).save(path)
        Path(folder, output.name).rename(output)
