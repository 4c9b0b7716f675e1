"""Crops and windows that a backbone's patches do not fill."""

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.protocols import protocol_window
from ppar_lightning.doctor.finding import Finding
from ppar_lightning.segmenter.backbones import Backbone


def check_padding(backbone: Backbone, data: DomainDataModule) -> list[Finding]:
    """Note crops and windows that are padded in every pass, with the nearest sizes that are not.

    The scores are right all the same; the padding takes time, and repeats the pixels at a border.
    """
    used: dict[str, tuple[int, ...]] = {"--data.crop": data.crop}
    for name in data.protocols.values():
        if window := protocol_window(name, data.window):
            used["--data.window.size" if name == "full" else f"the window of protocol {name},"] = window[:1]
    found = []
    for name, sides in used.items():
        if any(side % backbone.stride for side in sides):
            below = [side - side % backbone.stride for side in sides]
            above = [side + -side % backbone.stride for side in sides]
            sizes = [str(each if len(each) > 1 else each[0]) for each in (list(sides), below, above) if min(each)]
            patch = next((size for size in (16, 14, 8) if not any(side % size for side in sides)), None)
            other = f", nor {sizes[0]} with --model.segmenter.patch {patch}" if backbone.plain and patch else ""
            fault = f"{name} {sizes[0]} is padded to {sizes[-1]}, as the stride of the backbone is {backbone.stride}"
            found.append(Finding("note", "backbone", f"{fault}: {' or '.join(sizes[1:])} is not{other}"))
    return found
