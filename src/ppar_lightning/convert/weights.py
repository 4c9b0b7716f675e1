"""The subcommand ``ppar convert weights``: ResNets and DeepLabs of other libraries as weights to start from.

ppar convert weights deeplabv3_resnet50_coco.pth weights --style torchvision --classes voc21
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save
from torch import Tensor, nn

from ppar_lightning.console import PlainParser
from ppar_lightning.disk.files import write_whole
from ppar_lightning.disk.tensors import read_tensors
from ppar_lightning.images.classes import ClassList, class_list
from ppar_lightning.segmenter.parts import faults, part_of
from ppar_lightning.segmenter.segmenter import Segmenter

STYLES: Mapping[str, Mapping[str, str]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
"""Style -> beginning of a foreign name, as a regular expression, -> beginning of ours."""

KNOWN = [f"microsoft/resnet-{depth}" for depth in (18, 34, 50, 101, 152)]
"""ResNets that there are."""

STATE = "give a state dict of tensors, as torch.save(network.state_dict(), FILE) writes it"


def main(words: Sequence[str]) -> None:
    """Run the subcommand with its arguments."""
    parser = PlainParser("ppar convert weights", description="Convert weights of other libraries to start from.")
    parser.add_argument("file", type=Path, help="state dict of a ResNet or DeepLab: .pth or .safetensors")
    parser.add_argument("output", type=Path, help="folder to write, for `ppar fit --weights`")
    parser.add_argument("--style", choices=sorted(STYLES), required=True, help="library whose names the file has")
    parser.add_argument("--classes", default="cityscapes19", help="list of its classes: a name, or a YAML file")
    parser.add_argument("--output_stride", type=int, choices=(8, 16, 32), default=8, help="of its last map; default 8")
    given = parser.parse_args(words)
    output = given.output.expanduser()
    if output.exists():
        raise FileExistsError(f"{output} already exists: move it away, or give another folder")
    convert(given.file.expanduser(), output, given.style, class_list(given.classes), given.output_stride)


def convert(file: Path, output: Path, style: str, classes: ClassList, stride: int) -> None:
    """Write the parts that fit as `Segmenter.save_pretrained` does, and print what was taken and what not.

    Args:
        file: A state dict; it may lie in the file as ``state_dict``, ``model`` or ``model_state``.
        output: Folder to write.
        style: One of STYLES.
        classes: Classes of the file's classifiers.
        stride: Stride of the last map.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no tensors, no whole ResNet of this style, or other classes.
    """
    content: Any = read_tensors(file, STATE)
    for entry in ("state_dict", "model", "model_state"):
        content = content.get(entry, content) if isinstance(content, dict) else {}
    foreign = {str(name).removeprefix("module."): each for name, each in content.items() if isinstance(each, Tensor)}
    names = {name: translated(name, style) for name in foreign}
    state = {ours: foreign[name] for name, ours in names.items() if ours}
    rows = {len(state[name]) for name in ("classifier.bias", "auxiliary.1.bias") if name in state} - {len(classes)}
    if rows:
        raise ValueError(f"{file} has {rows.pop()} classes, the list {len(classes)}: give its own with --classes")
    complete(state)
    description = resnet(state) | {"output_stride": stride, "classes": classes.entries()}
    segmenter = Segmenter(**description, head="deeplabv3plus", pretrained=False, auxiliary="auxiliary.1.bias" in state)
    own = segmenter.state_dict()
    new = faults(own, {name: own[name] for name in ("backbone.mean", "backbone.std")} | state)
    if description["backbone"] not in KNOWN:
        new["backbone"] = new["backbone"] or f"{description['backbone_config']['depths']} blocks"
    if new["backbone"]:
        fault = f"{file} holds no whole ResNet in the names of {style} ({new['backbone']})"
        raise ValueError(f"{fault}: {STATE}, of a plain ResNet (no V1c) or a DeepLab, and its --style")
    taken = {name: state.get(name, own[name]).contiguous() for name in own if not new[part_of(name)]}
    write_whole(output / "model.safetensors", save(taken))
    write_whole(output / "config.json", json.dumps(segmenter.description, indent=2).encode())
    for part, fault in new.items():
        print(f"{part}: {f'new, {fault}' if fault else 'taken'}")
    left = Counter(".".join(name.split(".")[:2]) for name, ours in names.items() if ours not in taken)
    print(f"not taken: {', '.join(f'{name} ({count})' for name, count in left.items()) or 'nothing'}")
    whole = f"load_segmenter({str(output)!r}) loads it, " * (not any(new.values()))
    print(f"{output}: {len(taken)} tensors; {whole}`ppar fit --weights {output}` starts from it")


def translated(name: str, style: str) -> str | None:
    """Return our name of a foreign tensor; None if there is no counterpart."""
    for pattern, target in STYLES[style].items():
        if match := re.fullmatch(rf"{pattern}(?P<rest>\w+)", name):
            less = {key: int(value) - 1 for key, value in match.groupdict().items() if key in ("stage", "unit")}
            return target.format(**match.groupdict() | less) + match["rest"]
    return None


def resnet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of a segmenter for the ResNet that the tensors, by our names, belong to."""
    found = re.findall(r"stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.convolution", " ".join(state))
    depths = [len({block for stage, block, _ in found if stage == str(k)}) for k in range(4)]
    units = len({unit for *_, unit in found})
    kind, width = ("bottleneck", 256) if units == 3 else ("basic", 64)
    shape = {"depths": depths, "hidden_sizes": [width << stage for stage in range(4)], "layer_type": kind}
    return {
        "backbone": f"microsoft/resnet-{2 + units * sum(depths)}",
        "backbone_config": {"model_type": "resnet"} | shape,
    }


def complete(state: dict[str, Tensor]) -> None:
    """Bring the decoder of a torchvision-style DeepLabV3+, one 3x3 convolution, into ours, which has two.

    It reads the low-level channels first, ours last; and our second convolution passes on what the first one gives.
    """
    first, low = state.get("head.decoder.0.0.weight"), state.get("head.low_level.0.weight")
    if first is not None and low is not None:
        norm = nn.BatchNorm2d(len(first))
        nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)
        state["head.decoder.0.0.weight"] = torch.cat([first[:, len(low) :], first[:, : len(low)]], dim=1)
        state["head.decoder.1.0.weight"] = nn.init.dirac_(torch.empty(len(first), len(first), 3, 3))
        state |= {f"head.decoder.1.1.{name}": each for name, each in norm.state_dict().items()}
