"""Adapters: a frozen backbone whose linear maps each get a small trained part, through peft (extra ``peft``)."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ppar_lightning.segmenter.backbones import Backbone, stem_and_stages

Kind = Literal["none", "lora", "dora", "soma"]
Targets = Literal["attention", "qkv", "mlp", "all"]

NAMES = {
    "qkv": re.compile(r"(attention|attn).*\b(qkv|q|k|v|query|key|value)(_proj)?$"),
    "attention": re.compile("attention|attn"),
    "mlp": re.compile("^(?!.*(attention|attn))"),
    "all": re.compile(""),
}
"""Targets -> the names of their maps in the networks of transformers."""


@dataclass(frozen=True)
class AdapterOptions:
    """Adapters of the linear maps in a backbone's blocks. Everything else of the backbone is frozen, in float32.

    Args:
        kind: ``none``; ``lora`` (arXiv 2106.09685): W + s B A, with B = 0 at the start and s = alpha / rank; ``dora``
            (arXiv 2402.09353): the same, with a trained length of each row; ``soma`` (arXiv 2412.04077): s B A starts
            as the part of W with the smallest singular values, which W loses, and the biases of W are trained too.
            Only weights that are loaded, by name or with ``--weights``, are decomposed: on drawn ones it is LoRA.
        rank: Number of rows of A and columns of B.
        alpha: Numerator of the scale s.
        dropout: Dropout of the input of A, in [0, 1).
        targets: ``attention`` (all maps of the attention), ``qkv`` (those of queries, keys and values), ``mlp`` (all
            others) or ``all``.
        from_block: First block with adapters, from 0; of a hierarchy, the first stage. Blocks that are frozen by
            ``freeze_stages``, or that no head reads, get none in any case.
    """

    kind: Kind = "none"
    rank: int = 16
    alpha: int = 16
    dropout: float = 0.0
    targets: Targets = "all"
    from_block: int = 0

    def __post_init__(self) -> None:
        """Refuse values that make no adapter.

        Raises:
            ValueError: A value is out of its range.
        """
        choices = f"kind in {get_args(Kind)}, targets in {get_args(Targets)}"
        good = self.kind in get_args(Kind) and self.targets in get_args(Targets) and 0 <= self.dropout < 1
        if not good or min(self.rank, self.alpha) < 1 or self.from_block < 0:
            fault, numbers = f"no adapter has {asdict(self)}", "rank and alpha of 1 or more, from_block of 0 or more"
            raise ValueError(f"{fault}: give {choices}, {numbers}, dropout of 0 or more and below 1")

    def refuse_other(self, trained: "AdapterOptions") -> None:
        """Refuse adapters of a checkpoint that are others than these; only the dropout may differ.

        Raises:
            ValueError: They are.
        """
        if not self.kind == trained.kind == "none" and replace(self, dropout=trained.dropout) != trained:
            remedy = f'set --model.segmenter.adapter "{asdict(trained)}", or start from it with `ppar fit --weights`'
            raise ValueError(f"the checkpoint was trained with another adapter: {remedy}")


def inject(backbone: Backbone, options: AdapterOptions, named: bool) -> bool:
    """Freeze a backbone and add adapters to it, in place; do nothing for ``none``.

    Args:
        backbone: The backbone, in float32, whose parameters without use are frozen already.
        options: Options of the adapters.
        named: Whether the weights are those that the backbone's name gives. Others are drawn or will be replaced, so
            that SoMA does not decompose them.

    Returns:
        Whether the frozen weights are those that its name gives, also with the adapters.

    Raises:
        ImportError: peft is not installed.
        ValueError: The backbone has no such linear maps, or they are too small.
    """
    if options.kind == "none":
        return named
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("model.segmenter.adapter needs the extra `peft`: pip install '.[peft]'") from error
    found = linear_maps(backbone, options)
    if options.rank > (most := min((min(each.weight.shape) for each in found.values()), default=0)):
        others = "kind none, or another from_block or targets, or choose a ViT, Swin or ConvNeXt"
        what = f"trained linear maps ({options.targets}) of rank {options.rank} to adapt"
        remedy = f"set --model.segmenter.adapter.{f'rank {most} or less' if found else others}"
        raise ValueError(f"{type(backbone.network).__name__} has no {what}: {remedy}")
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules="|".join(map(re.escape, found)),
        use_dora=options.kind == "dora",
        bias="lora_only" if options.kind == "soma" else "none",
    )
    inject_adapter_in_model(config, backbone.network)
    if named:
        begin(backbone, options)
    return named and options.kind != "soma"


def linear_maps(backbone: Backbone, options: AdapterOptions) -> dict[str, nn.Linear]:
    """Return the linear maps to adapt by their names in the network: those in its blocks that are trained so far."""
    blocks = stem_and_stages(backbone.network, backbone.depth)[1][options.from_block :]
    inside = {id(module) for block in blocks for module in block.modules()}
    maps = {name: each for name, each in backbone.network.named_modules() if isinstance(each, nn.Linear)}
    trained = {name: each for name, each in maps.items() if id(each) in inside and each.weight.requires_grad}
    return {name: each for name, each in trained.items() if NAMES[options.targets].search(name)}


@torch.no_grad()
def begin(backbone: Backbone, options: AdapterOptions) -> None:
    """Let adapters start from the weights as they are now, so that the network computes what these alone would."""
    layers: list[Any] = [each for each in backbone.modules() if hasattr(each, "lora_A")]
    for layer in layers:
        weight, down, up = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
        if options.kind == "dora":
            layer.lora_magnitude_vector["default"].weight.copy_(weight.norm(dim=1))
        elif options.kind == "soma":
            left, values, right = torch.linalg.svd(weight, full_matrices=False)
            root = (values[-options.rank :] * options.rank / options.alpha).sqrt()
            down.copy_(root[:, None] * right[-options.rank :])
            up.copy_(left[:, -options.rank :] * root)
            weight -= layer.get_delta_weight("default")


def adapter_parameters(module: nn.Module) -> set[int]:
    """Return the ids of the trained parameters of adapters; with SoMA, the biases of the adapted maps too."""
    named = module.named_parameters()
    return {id(p) for name, p in named if p.requires_grad and (".lora_" in name or ".base_layer." in name)}


def merged(state: Mapping[str, Tensor], options: AdapterOptions) -> dict[str, Tensor]:
    """Add adapters to the weights that they belong to, without peft.

    Args:
        state: Name -> tensor of a network with adapters, or without any.
        options: Options of the adapters.

    Returns:
        Name -> tensor of the network without adapters that computes the same.
    """
    plain = {name.replace(".base_layer.", "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    for name in (name for name in state if name.endswith(".lora_A.default.weight")):
        path, scale = name.removesuffix(".lora_A.default.weight"), options.alpha / options.rank
        weight = plain[f"{path}.weight"] + scale * state[f"{path}.lora_B.default.weight"] @ state[name]
        length = state.get(f"{path}.lora_magnitude_vector.default.weight")
        if length is not None:
            weight = weight * (length / weight.norm(dim=1))[:, None]
        plain[f"{path}.weight"] = weight
    return plain
