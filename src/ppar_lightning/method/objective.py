"""PPAR as one training objective: supervised loss, progressive alignment, reweighting, and the banks that they use.

Order of a step: weights and anchors come from the banks of the previous step; the losses follow; then, once per
optimiser step, :meth:`PPAR.update` moves banks and statistics by sums over all ranks.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from ppar_lightning.distributed import all_reduce_sum, world_size
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.method import alignment, bank, prototypes, reweighting
from ppar_lightning.method.agreement import Agreement, Embedded, class_weights
from ppar_lightning.method.clip import FrozenImageTower, VisualContext
from ppar_lightning.method.grid import Grid, GridLabels, grid_labels
from ppar_lightning.method.known_gradient import known_gradient
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.schedule import Schedules, Stage
from ppar_lightning.method.supervised import supervised_terms
from ppar_lightning.method.text import text_prototypes
from ppar_lightning.segmenter.segmenter import Segmenter, SegmenterOutput

STRIDE = 8
"""Features whose cells are finer than this many pixels are averaged before they are embedded."""


class Losses(NamedTuple):
    """The losses of a step; all values are scalars."""

    total: Tensor
    """The loss to minimise; as for each of ``terms``, its mean over ranks is the value for the global batch."""
    terms: dict[str, Tensor]
    """The addends of ``total``, by name."""
    diagnostics: dict[str, Tensor]
    """Further values to log, without gradient."""


class PPAR(nn.Module):
    """Prototypes, alignment and reweighting for training a segmenter. None of it is needed at test time."""

    pending: Tensor

    def __init__(
        self, options: PPAROptions, channels: int, words: Sequence[Sequence[str]], text_width: int | None = None
    ) -> None:
        """Load the prototypes and build the heads.

        Args:
            options: Named options of the method.
            channels: C, the channels of the feature map that is aligned.
            words: The words for each of the K classes in the prompts, in the order of the train ids.
            text_width: D, if a checkpoint's weights follow: nothing is read then, and there is no image tower. None
                reads text prototypes and image tower.

        Raises:
            ValueError: The text prototypes are for other classes, or their width is not that of CLIP's image tower.
            OSError: The CLIP model is neither on this machine nor can it be downloaded.
        """
        super().__init__()
        self.options = options
        self.step = 0
        """Number of optimiser steps so far, on the host: it decides in which steps the context is looked at."""
        num_classes = self.num_classes = len(words)
        text = torch.zeros(num_classes, text_width) if text_width else text_prototypes(options, words)
        dim = text.shape[1]
        self.refines = "vtp" in alignment.anchor_shares(options.order, 0.0)
        """Whether VTP is used; without it there is no image tower, and nothing of it is trained."""
        self.clip = None
        if self.refines and options.context == "clip" and text_width is None:
            dtype = getattr(torch, options.clip_dtype) if options.clip_dtype else None
            self.clip = FrozenImageTower(options.clip, options.visual_size, dtype, options.clip_graph)
            if self.clip.dim != dim:
                fault = f"text prototypes have width {dim}, the image tower of {options.clip!r} has {self.clip.dim}"
                raise ValueError(f"{fault}: name their CLIP as ppar.clip, or set ppar.context: features")
        # P: (B, C, h, w) -> (B, D, h, w), linear, so that the features must do the aligning.
        self.embed = nn.Conv2d(channels, dim, 1)
        # Pv moves as far in one update as it would in that many steps.
        self.prototypes = prototypes.Prototypes(text, options.momentum**options.context_every)
        self.prototypes.requires_grad_(self.refines)
        self.visual_bank = bank.VisualBank(num_classes, dim, options.momentum)
        self.statistics = reweighting.MarginStatistics(num_classes, options.momentum)
        # A buffer, so that it moves with the module. DDP broadcasts buffers only before a step's first forward pass,
        # when this one is 0 on every rank, so gradient accumulation loses no sums of the other ranks.
        self.register_buffer("pending", torch.zeros(num_classes, 2 * (dim + 1) + 3), persistent=False)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the losses. CLIP's image tower, which has a graph of its own, and what logs need stay as they are."""
        warnings.filterwarnings("ignore", "(?s).*functools.lru_cache")  # compiled code makes the matrices itself
        self.__dict__["_losses"] = torch.compile(self._losses, *args, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Leave compiled code out of a copy, as torch does."""
        return {name: value for name, value in super().__getstate__().items() if name != "_losses"}

    @property
    def looks(self) -> bool:
        """Whether the context is looked at in this step: every n-th, the same on all ranks and after a resume."""
        return self.refines and (self.step + 1) % self.options.context_every == 0

    def forward(self, output: SegmenterOutput, image: Tensor, label: Tensor, u: float, diagnose: bool = True) -> Losses:
        """Compute the losses of a step, and add the batch's sums to the next update of the banks.

        Args:
            output: Output of the segmenter in training mode.
            image: (B, 3, H, W) float RGB in [0, 1].
            label: (B, H, W) int64 train ids, IGNORE included.
            u: Share of training done, in [0, 1].
            diagnose: Also compute what only logs need.
        """
        now, looks = Schedules.at(u, self.options), self.looks
        context = self.clip(image) if looks and self.clip is not None else None
        losses, labels, w = self._losses(output, label, looks, context, now.on(image.device))
        return losses._replace(diagnostics=self._diagnose(output, labels, w, now)) if diagnose else losses

    def embed_map(self, output: SegmenterOutput) -> tuple[Tensor, Grid]:
        """Embed the map to align, averaged to about STRIDE pixels if it is finer: (B, D, h, w), and its grid."""
        features, grid = self._map(output)
        factor = round(STRIDE / grid.cell[1])
        if factor > 1:
            features, grid = F.avg_pool2d(features, factor, ceil_mode=True), grid.coarser(factor)
        return self.embed(features if self.options.align_segmenter else features.detach()), grid

    def label_map(self, z: Tensor, grid: Grid, label: Tensor) -> Embedded:
        """Pair embedded features, from :meth:`embed_map`, without gradient and in fp32, with the labels of their grid.

        Args:
            z: (B, D, h, w).
            grid: Its cells.
            label: (B, H, W) int64 train ids, IGNORE included.
        """
        labels = grid_labels(label, grid, self.num_classes)
        return Embedded(_positions(z), grid, labels, labels.one_hot(self.num_classes))

    def _map(self, output: SegmenterOutput) -> tuple[Tensor, Grid]:
        """Return the feature map that ``level`` names, and its grid."""
        features = output.decoder if self.options.level == "decoder" else output.backbone
        if features is None:
            raise ValueError("ppar.level is 'backbone', and the segmenter gives no such map: set it to 'decoder'")
        return features, Grid.over((features.shape[-2], features.shape[-1]), output.covered)

    @torch.no_grad()
    def agreement(self, embedded: Embedded, now: Stage) -> Agreement:
        """Compare features with A = norm((1 - rho) Pv + rho T0): margins and weights before normalisation.

        Args:
            embedded: Features of this rank's batch.
            now: Scheduled values.
        """
        options, one_hot, label = self.options, embedded.one_hot, embedded.labels.label
        sets = {"vtp": self.prototypes.bank, "otp": self.prototypes.otp, "naive": self.visual_bank.bank}
        anchors = torch.stack([sets[name] for name in alignment.anchor_shares(options.order, 0.0)])
        cosine = alignment.cosines(embedded.features, anchors)
        margin = reweighting.margins(alignment.mixed_cosines(cosine, anchors, now.shares), label)
        margin = reweighting.pool_margins(margin, one_hot, options.reweighting)
        raw = reweighting.raw_weights(self.statistics.standardise(margin, label), now.eta, options.direction)
        values = torch.stack([raw, raw * embedded.labels.purity, torch.ones_like(raw), margin, margin.square()], dim=-1)
        return Agreement(anchors, cosine, margin, raw, one_hot.flatten(0, 1).T @ values.flatten(0, 1))

    def _losses(
        self, output: SegmenterOutput, label: Tensor, looks: bool, context: VisualContext | None, now: Stage
    ) -> tuple[Losses, GridLabels, Tensor]:
        """Compute losses, labels and weights, and add this batch's sums to those that :meth:`update` applies.

        The supervised loss, whose maps are as large as the images, comes when the features are gone, and before VTP.
        """
        z, grid = self.embed_map(output)
        if looks and context is None:
            context = _own_context(z, grid)
        with torch.autocast(z.device.type, enabled=False):
            seen = None if context is None else grid_labels(label, context.grid, self.num_classes)
            align, labels, w, (valid, positions, pairs) = self._align(z, grid, label, seen, now)
            del z
            size, pixel = (label.shape[-2], label.shape[-1]), None
            if self.options.reweighting != "off":
                pixel = reweighting.pixel_weights(w, grid, size, now.least, now.largest)
            terms = {**supervised_terms(output, label, pixel, valid), "align": align}
            if context is not None and seen is not None:
                terms |= self._refine(context, seen, now, positions, pairs)
            total = torch.stack(list(terms.values())).sum()
            if self.refines and not looks:  # DDP and FSDP need a gradient of every parameter in every step
                held = (p.to_local() if isinstance(p, DTensor) else p for p in self.prototypes.parameters())
                total = total + (0 * nn.utils.parameters_to_vector(held)).sum()
            return Losses(total, terms, {}), labels, w

    def _align(
        self, z: Tensor, grid: Grid, label: Tensor, seen: GridLabels | None, now: Stage
    ) -> tuple[Tensor, GridLabels, Tensor, Sequence[Tensor]]:
        """Return L_align, labels, weights w, and what losses are divided by: valid pixels, positions of VTP, pairs."""
        embedded = self.label_map(z, grid, label)
        features, labels, one_hot = embedded.features, embedded.labels, embedded.one_hot
        found = self.agreement(embedded, now)
        # One reduction over ranks of what the losses are divided by: of classes, and the numbers of valid pixels, of
        # positions that VTP classifies and of pairs of an image and a class in it.
        counted = [(label != IGNORE).sum(), (label if seen is None else seen.counted).sum(), labels.present.sum()]
        every = all_reduce_sum(torch.cat([found.sums[:, :3].flatten(), torch.stack(counted).float()]))
        weights = class_weights(found, embedded, every[:-3].view(-1, 3))
        # L_align = sum over anchor sets of share * <l_A>_w, times its lambda and the number of ranks.
        shares = now.shares * (now.lambda_align * world_size())
        factor = torch.outer(shares, alignment.class_factors(weights.total, weights.number))
        mass = weights.w * labels.purity
        known = found.anchors, found.cosine, one_hot, mass, factor
        loss, gradient = alignment.alignment_loss(features, *known, self.options.tau)
        align = known_gradient(z, loss, gradient.transpose(1, 2).unflatten(2, grid.size))
        own = (one_hot * (mass.unsqueeze(-1) / alignment.norm(features))).flatten(0, 1).T @ features.flatten(0, 1)
        visual = [own, (found.sums[:, 1] / weights.mean).unsqueeze(1), found.sums[:, 3:], found.sums[:, 2:3]]
        self.pending[:, own.shape[1] + 1 :] += torch.cat(visual, dim=1)
        return align, labels, weights.w, every[-3:].clamp_min(1).unbind()

    def _refine(
        self, context: VisualContext, seen: GridLabels, now: Stage, positions: Tensor, pairs: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses that train VTP."""
        vtp = self.prototypes(context.memory.float())
        rare = self.options.context_every * world_size()  # the expected gradient of a step is that of n = 1
        nll = prototypes.vtp_nll(vtp, context.dense, seen, self.options.tau)
        distance = prototypes.anchor_distance(vtp, self.prototypes.otp, seen.present)
        self.pending[:, : vtp.shape[-1] + 1] += prototypes.vtp_sums(vtp, seen.present)
        anchor = distance * (rare * now.lambda_anchor / pairs)
        return {"vtp": nll * (rare * self.options.lambda_vtp / positions), "anchor": anchor}

    @torch.no_grad()
    def update(self, sums: Tensor | None = None, good: Tensor | None = None) -> None:
        """Update banks and statistics with the sums since the last call. Call it once per optimiser step.

        A class whose sums hold a NaN or inf is not updated, like a class that is absent.

        Args:
            sums: ``pending``, summed over all ranks; None sums it here.
            good: Whether the step was a good one, a scalar on the device; if not, nothing is updated.
        """
        width = self.prototypes.otp.shape[1] + 1
        sums = all_reduce_sum(self.pending) if sums is None else sums
        finite = sums.isfinite().all(dim=1, keepdim=True)
        used = torch.where(finite if good is None else finite & good, sums, 0)
        text, visual, margin = used.split([width, width, 3], dim=1)
        if self.looks:
            self.prototypes.update(text)
        self.visual_bank.update(visual)
        self.statistics.update(margin)
        self.pending.zero_()
        self.step += 1

    @torch.no_grad()
    def _diagnose(self, output: SegmenterOutput, labels: GridLabels, w: Tensor, now: Schedules) -> dict[str, Tensor]:
        """Return the scheduled values, the spread of the weights, and the distance E||z - A_y|| to both prototypes."""
        counted, label, features = labels.counted, labels.label, _positions(self.embed_map(output)[0])
        number = counted.sum().clamp_min(1)
        cosine = alignment.cosines(features, torch.stack([self.prototypes.otp, self.prototypes.bank]))
        own = cosine.gather(-1, label.view(*label.shape, 1, 1).expand(-1, -1, 2, 1)).squeeze(-1)
        distance = ((2 - 2 * own).clamp_min(0).sqrt() * counted.unsqueeze(-1)).sum(dim=(0, 1)) / number
        return {
            **{name: w.new_full((), getattr(now, name)) for name in ("rho", "eta", "lambda_align")},
            "weight/spread": ((w - 1).square() * counted).sum().div(number).sqrt(),
            "weight/min": w.min(),
            "weight/max": w.max(),
            "distance/otp": distance[0],
            "distance/vtp": distance[1],
        }

    def ensemble(self, output: SegmenterOutput) -> Tensor:
        """Return the text-logit ensemble S + alpha <z, T0> / tau, (B, K, H, W), an option at test time."""
        features, grid = self._map(output)
        z = F.normalize(self.embed(features).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):
            text = torch.einsum("bdhw,kd->bkhw", z, self.prototypes.otp) / self.options.tau
            text = grid.spread(text, output.size)
        return output.logits + self.options.ensemble * text


def build_objective(options: PPAROptions, segmenter: Segmenter, seed: int, text_width: int | None) -> PPAR:
    """Build PPAR for a segmenter, with the same initial weights whatever was drawn before.

    Raises:
        ValueError: The segmenter has no logits of pixels.
    """
    if not segmenter.per_pixel:
        raise ValueError("PPAR weights a loss of pixels, mask2former has one of masks: set --model.ppar.enabled false")
    channels = segmenter.backbone_channels if options.level == "backbone" else segmenter.decoder_channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PPAR(options, channels, segmenter.classes.words, text_width)


def _positions(z: Tensor) -> Tensor:
    """Return (B, n, D) features in fp32, without gradient, of the positions of a (B, D, h, w) map."""
    return z.detach().flatten(2).transpose(1, 2).float().contiguous()


def _own_context(embedding: Tensor, grid: Grid) -> VisualContext:
    """Use the segmenter's embedded features, averaged over 2 x 2 positions, as visual context without gradient."""
    pooled = F.avg_pool2d(embedding.detach(), 2, ceil_mode=True)
    dense = pooled.flatten(2).transpose(1, 2)
    return VisualContext(torch.cat([dense.mean(dim=1, keepdim=True), dense], dim=1), grid.coarser(2))
