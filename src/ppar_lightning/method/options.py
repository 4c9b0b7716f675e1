"""The named options of PPAR. Each can be ablated from YAML or the command line."""

from dataclasses import dataclass
from typing import Literal

Prompts = Literal["bare", "photo", "clip80", "driving"] | list[str]
AnchorOrder = Literal["vtp_to_otp", "otp_to_vtp", "joint", "otp", "vtp", "naive"]
Granularity = Literal["off", "pixel", "region", "image"]


@dataclass(frozen=True)
class PPAROptions:
    """What PPAR adds to the supervised loss; docs/method.md gives the formulas.

    Args:
        enabled: False trains only the segmenter on the source: the baseline of every comparison.
        clip: CLIP model whose towers give the prototypes: ``tinyclip`` (included in the package), a hub id or a folder.
        text_embeddings: K x D ``.npy`` file used as text prototypes instead of the text tower's output.
        prompts: Set of sentences that describe a class: ``bare`` is the word alone, ``photo`` "a photo of a ...",
            ``clip80`` CLIP's 80 templates for ImageNet, ``driving`` eight sentences about street scenes; or a list of
            own sentences with {} in place of the class.
        centre: Subtract the mean over classes from the text prototypes and renormalise.
        random_text: Replace the text prototypes by random directions of the same shape. This control shows what the
            content of the text adds.
        context: Source of VTP's visual context: CLIP's image tower, or the segmenter's own embedded features (if the
            image tower of the text prototypes' CLIP is not available).
        visual_size: The image tower's input is resized to the area of a square of this side, in pixels; None keeps the
            size of the crop.
        clip_dtype: Precision of the frozen image tower. None follows the device that a session runs on: bfloat16 on
            CUDA, where it halves the memory, and float32 elsewhere.
        clip_graph: On CUDA, run the frozen image tower as a CUDA graph, whose kernels are launched all at once. If that
            fails, a warning says so; the manifest records how it ran. No effect elsewhere.
        context_every: n: the context is looked at, and VTP trained and Pv moved, in every n-th step only, with n times
            the weight. Pv follows slowly in any case (``momentum``). In trainings of a few hundred steps, 1 is better.
        level: Feature map that is aligned: the decoder's output or the backbone's last map.
        order: Anchors of the alignment and their order in training: from VTP to OTP, from OTP to VTP, both at once
            (``joint``), one of them alone, or the class means of source features (``naive``).
        align_segmenter: False stops the alignment's gradient at the embedding head, so that reweighting acts alone.
        reweighting: Which positions share a margin: none (``pixel``), those of a class in an image (``region``), or
            those of an ``image``; ``off`` disables reweighting.
        direction: Whether agreement with the prototypes raises a weight (``reliable``) or lowers it (``hard``).
        eta: Strength of the reweighting, 0 <= eta < 1; weights lie in [(1-eta)/(1+eta), (1+eta)/(1-eta)].
        tau: Temperature of every softmax over cosines, above 0.
        momentum: Momentum of the prototype banks and the margin statistics, in [0, 1).
        lambda_align: Weight of the alignment loss, at least 0.
        lambda_vtp: Weight of the loss that trains VTP, at least 0.
        lambda_anchor: Weight of the loss that draws VTP to OTP, at least 0.
        align_ramp: Shares of training at which the alignment loss starts and reaches its full weight.
        rho_ramp: Shares of training at which the transition from the first anchor set to the second starts and ends.
        eta_ramp: Shares of training at which reweighting starts and reaches its full strength.
        ensemble: alpha of the text-logit ensemble S + alpha <z, OTP> / tau at test time; 0 runs only the segmenter.
    """

    enabled: bool = True
    clip: str = "tinyclip"
    text_embeddings: str | None = None
    prompts: Prompts = "photo"
    centre: bool = False
    random_text: bool = False
    context: Literal["clip", "features"] = "clip"
    visual_size: int | None = 224
    clip_dtype: Literal["bfloat16", "float32"] | None = None
    clip_graph: bool = True
    context_every: int = 4
    level: Literal["decoder", "backbone"] = "decoder"
    order: AnchorOrder = "vtp_to_otp"
    align_segmenter: bool = True
    reweighting: Granularity = "pixel"
    direction: Literal["reliable", "hard"] = "reliable"
    eta: float = 0.5
    tau: float = 0.07
    momentum: float = 0.99
    lambda_align: float = 0.4
    lambda_vtp: float = 0.4
    lambda_anchor: float = 0.1
    align_ramp: tuple[float, float] = (0.05, 0.10)
    rho_ramp: tuple[float, float] = (0.35, 0.75)
    eta_ramp: tuple[float, float] = (0.1, 0.3)
    ensemble: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside the ranges that the method's bounds need.

        Raises:
            ValueError: eta is outside [0, 1), tau is not positive, momentum is outside [0, 1), context_every is below
                1, or a sentence of ``prompts`` has not one {}.
        """
        if not isinstance(self.prompts, str) and (not self.prompts or any("{}" not in each for each in self.prompts)):
            raise ValueError(f"ppar.prompts is {self.prompts}: give sentences with {{}}, such as 'a picture of a {{}}'")
        fits = {"eta": 0 <= self.eta < 1, "tau": self.tau > 0, "momentum": 0 <= self.momentum < 1}
        for name in (name for name in fits if not fits[name]):
            raise ValueError(f"ppar.{name} is {getattr(self, name)}: give a value above 0 and below 1")
        if self.context_every < 1:
            raise ValueError(f"ppar.context_every is {self.context_every}: give 1 for every step, or more")
