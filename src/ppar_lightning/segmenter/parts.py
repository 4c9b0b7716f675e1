"""Parts of a network, each of which is taken from other weights whole or not at all."""

from collections.abc import Mapping

from torch import Tensor


def part_of(name: str) -> str:
    """Return the part that a tensor belongs to: ``head.aspp`` of ``head.aspp.local.0.0.weight``, ``backbone``, ..."""
    first, second, *_ = name.split(".")
    if "hidden_states_norms" in name:  # ConvNeXt and Swin have one for each map that a head reads
        return "norms of maps"
    if ".lora_" in name:
        return "adapter"
    return f"{first}.{second}" if first == "head" else first


def faults(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """Compare the tensors of a network with those that a file holds.

    Args:
        wanted: Name -> tensor of the network.
        given: Name -> tensor of the file, which may hold more or fewer.

    Returns:
        Each part of the network -> why it cannot be taken, empty if it can. What reads the decoder's features is not
        taken without the decoder.
    """
    found = {part_of(name): "" for name in wanted}
    for name, tensor in wanted.items():
        shapes = [tuple(each.shape) for each in (tensor, given.get(name, tensor))]
        if shapes[0] != shapes[1]:
            fault = f"{name} has shape {shapes[1]} in place of {shapes[0]}"
        else:  # torch itself does without the count of batches
            fault = f"no {name}" * (name not in given and not name.endswith("num_batches_tracked"))
        found[part_of(name)] = found[part_of(name)] or fault
    new = [part for part in found if part.startswith("head.") and found[part]]
    for part in {"classifier", "objective"} & {*found} if new else ():
        found[part] = found[part] or f"it reads {new[0]}, which is new"
    return found
