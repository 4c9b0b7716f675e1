"""Weights that a new training starts from: which of them are taken, by name of part and class."""

import re
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch import Tensor

from ppar_lightning.callbacks.results import lay_out, print_lines
from ppar_lightning.callbacks.session import origin
from ppar_lightning.images.classes import class_list
from ppar_lightning.load import read_weights
from ppar_lightning.method.prototypes import SAME
from ppar_lightning.module import PPARModule
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.segmenter.adapter import begin
from ppar_lightning.segmenter.parts import faults, part_of

Part = Literal["all", "backbone"]

ROWS = re.compile(r"classifier\.|auxiliary\.1\.|objective\.(prototypes\.bank|visual_bank|statistics)")
"""Tensors with a row for each class; those of PPAR belong to the text of the class."""
OTP = "objective.prototypes.otp"

Pairs = list[tuple[int, int]]
"""Train ids of the same class: in the new training, in the source."""


def start_from(module: PPARModule, source: str, part: Part) -> dict[str, Any]:
    """Take what fits of other weights, and print what was taken and what not.

    A part of the network is taken whole or not at all. Rows of classes are taken by name; other classes keep their new
    rows. PPAR's parts are taken if the text of a class of that name is the same; the text is always the new one.
    Adapters start anew, from the weights that are taken.

    Args:
        module: The module, which is changed.
        source: What `load_segmenter` takes, or what `ppar convert weights` wrote.
        part: ``backbone`` takes nothing else.

    Returns:
        The record for the manifest: of each part what is ``taken``, why it is ``new``, and what is ``unused`` there.

    Raises:
        FileNotFoundError: There is no such source.
        ValueError: It holds no weights, or those of another backbone.
    """
    weights, state = read_weights(source), module.state_dict()
    own = {name.removeprefix("segmenter.").replace(".base_layer.", "."): tensor for name, tensor in state.items()}
    theirs = class_list(weights.description.get("classes", "cityscapes19"))
    pairs = [(new, theirs.index(name)) for new, name in enumerate(module.segmenter.classes) if name in theirs]
    given, texts = dict(weights.state), same_text(pairs, own.get(OTP), weights.state.get(OTP))
    for name in filter(ROWS.match, {*own} & {*given}):
        ours, rows, extra = own[name], given[name], len(given[name]) - len(theirs)  # queries: 1 for "no object"
        if (len(ours) - extra, rows.shape[1:]) == (module.segmenter.num_classes, ours.shape[1:]):
            given[name] = ours.clone()
            for new, old in texts if name.startswith("objective.") else [*pairs, (-1, -1)][: len(pairs) + extra]:
                given[name][new] = rows[old]
    if OTP in {*own} & {*given} and own[OTP].shape[1:] == given[OTP].shape[1:]:
        given[OTP] = own[OTP]
    why = faults(own, given)
    if why["backbone"]:
        names = (weights.description.get("backbone"), module.segmenter.description["backbone"])
        fault = f"--weights {source} is of the backbone {names[0]}, the config has {names[1]} ({why['backbone']})"
        raise ValueError(f"{fault}: set --model.segmenter.backbone as in its training, or give other weights")
    besides = {"classifier": "no class of these names there" * (not pairs), "whitening": "it is of one training"}
    besides |= {"objective": "no class has the same text there" * (not texts)}
    if part == "backbone":
        besides = {each: "--weights_part backbone" for each in why if each not in ("backbone", "norms of maps")}
    why |= {each: why[each] or fault for each, fault in besides.items() if each in why}
    taken = {name: given.get(name, own[name]) for name in own if not why[part_of(name)]}
    module.load_state_dict({full: taken.get(name, own[name]) for full, name in zip(state, own, strict=True)})
    begin(module.segmenter.backbone, module.segmenter.adapter)
    module.segmenter.referable = False
    sizes = {each: [taken[name].numel() for name in taken if part_of(name) == each and name != OTP] for each in why}
    record = origin(weights.file) | {
        "source": source,
        "part": part,
        "taken": {each: [len(found), sum(found)] for each, found in sizes.items() if found},
        "new": {each: fault for each, fault in why.items() if fault},
        "unused": sorted({part_of(name) for name in given} - {*why}),
        "classes": [theirs[k] for _, k in pairs],
        "same_text": [theirs[k] for _, k in texts],
        "new_classes": [name for name in module.segmenter.classes if name not in theirs],
    }
    show(record)
    return record


def same_text(pairs: Pairs, ours: Tensor | None, theirs: Tensor | None) -> Pairs:
    """Keep the pairs whose text prototypes, rows of (K, D) unit vectors, are the same but for rounding."""
    if ours is None or theirs is None or ours.shape[1] != theirs.shape[1]:
        return []
    return [(new, old) for new, old in pairs if float(ours[new] @ theirs[old].to(ours)) >= SAME]


@rank_zero_only
def show(record: dict[str, Any]) -> None:
    """Print the record as a table."""
    named, text, new = record["classes"], record["same_text"], record["new_classes"]
    rows = [[each, "taken", *map(str, sizes)] for each, sizes in record["taken"].items()]
    rows += [[each, f"new: {fault}", "", ""] for each, fault in record["new"].items()]
    rows += [[each, "not taken: the network has no such part", "", ""] for each in record["unused"]]
    title = f"Weights of {record['checkpoint']} ({record['hash']})"
    Console().print(lay_out(title, ["part", "", "tensors", "values"], rows, texts=2))
    found = f"rows of classes by name: {len(named)} of {len(named) + len(new)}, {len(text)} with the same text for PPAR"
    print_lines([shorten(f"{found}{'; new: ' * bool(new)}{', '.join(new)}", 300, placeholder=" ...")])


def refuse_both(options: Any) -> None:
    """Refuse weights to start from beside a checkpoint to continue, unless the run of the folder did start from them.

    Args:
        options: Options of ``ppar fit``, both given.

    Raises:
        ValueError: It started from others.
    """
    manifest = read_manifest(Path(options.trainer.default_root_dir)) or {}
    if (manifest.get("weights") or {}).get("source") != options.weights:
        fault = f"--weights {options.weights} begins a training, --ckpt_path {options.ckpt_path} continues one"
        raise ValueError(f"{fault}: leave one of the two out (null in place of a config's)")
