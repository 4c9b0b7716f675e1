"""The subcommand ``ppar export``: the segmenter for other runtimes.

ppar export --run runs/demo --format onnx --benchmark
"""

import json
import logging
import re
import warnings
from argparse import ArgumentTypeError
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ppar_lightning.console import PlainParser
from ppar_lightning.disk.files import write_whole
from ppar_lightning.latency import compare
from ppar_lightning.load import load_segmenter
from ppar_lightning.segmenter.segmenter import Segmenter

EXAMPLE = (2, 3, 150, 218)
"""Shape of the traced input. It avoids 1 and multiples of the stride, which tracing might take for fixed sizes."""

AXES = {0: "batch", 2: "height", 3: "width"}
"""Variable axes of the input, with their names."""

LIMIT = 2_000_000_000
"""Bytes of weights that an ONNX file can hold beside its graph: protobuf ends at 2 GiB."""

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}

SIZES = ((512, 512), (1024, 2048))
"""Heights and widths that are measured unless others are given: a window, and an image of Cityscapes."""


def main(words: Sequence[str]) -> None:
    """Run the subcommand with its arguments."""
    parser = PlainParser("ppar export", description="Write a trained segmenter as ONNX or torch.export file.")
    parser.add_argument("--run", required=True, help="run folder, checkpoint, saved segmenter or hub id")
    parser.add_argument("--format", choices=list(SUFFIXES), default="onnx")
    parser.add_argument("--output", type=Path, help="file to write (default: segmenter.onnx or .pt2 in the run folder)")
    helped = "then print its latency and memory beside PyTorch's, on images of these sizes (default: 512x512 1024x2048)"
    parser.add_argument("--benchmark", type=size, nargs="*", metavar="HEIGHTxWIDTH", help=helped)
    given = parser.parse_args(words)
    run = Path(given.run).expanduser()
    output = given.output or (run if run.is_dir() else Path()) / f"segmenter{SUFFIXES[given.format]}"
    output = output.expanduser()
    for path in (output, data_of(output)):
        if path.exists():
            raise FileExistsError(f"{path} already exists: move it away, or give another file with --output")
    if given.benchmark is not None and given.format == "onnx":
        require("onnxruntime")
    segmenter = load_segmenter(given.run)
    if not segmenter.per_pixel:
        raise ValueError(
            "head mask2former is traced for one size of image alone: export another, or use load_segmenter"
        )
    write = export_onnx if given.format == "onnx" else export_torch
    write(segmenter, output)
    count = sum(parameter.numel() for parameter in segmenter.parameters())
    shapes = f"image (B, 3, H, W) in [0, 1] -> logits (B, {segmenter.num_classes}, H, W)"
    print(f"{output}: {count:,} parameters; {shapes}")
    if data_of(output).exists():
        print(f"{data_of(output)}: its weights; the two files belong together, so keep them in one folder")
    if given.benchmark is not None:
        compare({"eager": given.run, given.format: str(output)}, given.benchmark or SIZES)


def size(text: str) -> tuple[int, int]:
    """Read a height and a width in pixels, as in ``512x1024``.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", text):
        raise ArgumentTypeError(f"{text!r} is no size: give HEIGHTxWIDTH in pixels, such as 512x1024")
    height, width = map(int, text.split("x"))
    return height, width


def require(module: str) -> None:
    """Import a module of the extra ``export``.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise ImportError("ONNX needs the extra `export`: pip install '.[export]'") from error


def data_of(path: Path) -> Path:
    """Return the file beside an ONNX file that holds its weights, if they do not fit into it."""
    return path.with_name(f"{path.name}.data")


def export_torch(segmenter: Segmenter, path: Path) -> None:
    """Write a file for ``torch.export.load``, whole or not at all.

    Args:
        segmenter: The network, on the CPU; it is set to eval mode.
        path: The file to write.

    Raises:
        OSError: The file cannot be written.
    """
    axes = dict.fromkeys(AXES, torch.export.Dim.DYNAMIC)
    program = torch.export.export(segmenter.eval(), (torch.rand(EXAMPLE),), dynamic_shapes=(axes,))
    # The guards would accept either only sizes that need padding or only sizes that do not, but the graph is right for
    # both. No public option leaves them out of the file: `module(check_guards=False)` only affects a program in memory.
    program._guards_code.clear()
    content = BytesIO()
    torch.export.save(program, content)
    write_whole(path, content.getvalue())


def export_onnx(segmenter: Segmenter, path: Path) -> None:
    """Write an ONNX file, whole or not at all, from ``image`` to ``logits``; its metadata has ``classes``, a JSON list.

    Weights of more than 2 GB go to a second file, ``{path}.data``, which belongs into the same folder. Both files are
    written or neither.

    Args:
        segmenter: The network, on the CPU; it is set to eval mode.
        path: The file to write.

    Raises:
        ImportError: The extra ``export`` is not installed.
        OSError: The file cannot be written.
    """
    require("onnxscript")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns about operators of unused packages
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            segmenter.eval(),
            (torch.rand(EXAMPLE),),
            dynamic_shapes=(AXES,),
            opset_version=20,
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["classes"] = json.dumps([*segmenter.classes])
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        large = sum(each.nbytes for each in segmenter.state_dict().values()) > LIMIT
        program.save(Path(folder, path.name), external_data=large)
        for each in sorted(Path(folder).iterdir(), reverse=True):  # the weights come before the graph
            each.replace(path.with_name(each.name))
