"""PPAR as one training objective: supervised loss, progressive alignment, reweighting, and the banks that they use.

Order of a step: weights and anchors come from the banks of the previous step; the losses follow; then, once per
optimiser step, :meth:`PPAR.update` moves banks and statistics by sums over all ranks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppar_lightning.distributed import all_reduce_sum, world_size
from ppar_lightning.method import alignment, bank, prototypes, reweighting, schedule
from ppar_lightning.method.clip import FrozenImageTower, VisualContext
from ppar_lightning.method.grid import Grid, GridLabels, grid_labels
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.supervised import supervised_terms
from ppar_lightning.method.text import text_prototypes
from ppar_lightning.segmenter.segmenter import SegmenterOutput

STRIDE = 8
"""Features whose cells are finer than this many pixels are averaged before they are embedded."""


class Schedules(NamedTuple):
    """Values of the scheduled quantities at one u."""

    rho: float
    """Progress from the first anchor set to the second, in [0, 1]."""
    eta: float
    """Strength of the reweighting, in [0, 1)."""
    lambda_align: float
    lambda_anchor: float
    shares: alignment.Shares


class Losses(NamedTuple):
    """The losses of a step; all values are scalars."""

    total: Tensor
    """The loss to minimise; as for each of ``terms``, its mean over ranks is the value for the global batch."""
    terms: dict[str, Tensor]
    """The addends of ``total``, by name."""
    diagnostics: dict[str, Tensor]
    """Further values to log, without gradient."""


class Embedded(NamedTuple):
    """Features in CLIP's joint space, with the labels of their grid."""

    features: Tensor
    """(B, n, D), fp32, of any norm: only the directions are used."""
    grid: Grid
    """Cells of the n positions."""
    labels: GridLabels
    one_hot: Tensor
    """(B, n, K)."""


class Weights(NamedTuple):
    """Weights of grid positions, and the class sums over all ranks that normalise the losses."""

    w: Tensor
    """(B, n); 1 at positions that do not count."""
    total: Tensor
    """(K,): sum of w_n m_n."""
    number: Tensor
    """(K,): number of positions."""


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
        num_classes = self.num_classes = len(words)
        text = torch.zeros(num_classes, text_width) if text_width else text_prototypes(options, words)
        dim = text.shape[1]
        self.clip = None
        if options.context == "clip" and text_width is None:
            dtype = getattr(torch, options.clip_dtype) if options.clip_dtype else None
            self.clip = FrozenImageTower(options.clip, options.visual_size, dtype, options.clip_graph)
            if self.clip.dim != dim:
                fault = f"text prototypes have width {dim}, the image tower of {options.clip!r} has {self.clip.dim}"
                raise ValueError(f"{fault}: name their CLIP as ppar.clip, or set ppar.context: features")
        # P: (B, C, h, w) -> (B, D, h, w), linear, so that the features must do the aligning.
        self.embed = nn.Conv2d(channels, dim, 1)
        self.prototypes = prototypes.Prototypes(text, options.momentum)
        self.visual_bank = bank.VisualBank(num_classes, dim, options.momentum)
        self.statistics = reweighting.MarginStatistics(num_classes, options.momentum)
        # A buffer, so that it moves with the module. DDP broadcasts buffers only before a step's first forward pass,
        # when this one is 0 on every rank, so gradient accumulation loses no sums of the other ranks.
        self.register_buffer("pending", torch.zeros(num_classes, 2 * (dim + 1) + 3), persistent=False)

    def schedules(self, u: float) -> Schedules:
        """Evaluate the schedules at u = step / total steps."""
        options = self.options
        rho = schedule.cosine_ramp(u, *options.rho_ramp)
        shares = alignment.anchor_shares(options.order, rho)
        eta = 0.0 if options.reweighting == "off" else options.eta * schedule.ramp(u, *options.eta_ramp)
        align = options.lambda_align * schedule.ramp(u, *options.align_ramp)
        anchor = options.lambda_anchor * (0.1 + 0.9 * shares[1])  # VTP is drawn to OTP while the features follow it
        return Schedules(rho, eta, align, anchor, shares)

    def forward(self, output: SegmenterOutput, image: Tensor, label: Tensor, u: float) -> Losses:
        """Compute the losses of a step, and add the batch's sums to the next update of the banks.

        Args:
            output: Output of the segmenter in training mode.
            image: (B, 3, H, W) float RGB in [0, 1].
            label: (B, H, W) int64 train ids, IGNORE included.
            u: Share of training done, in [0, 1].
        """
        embedding, grid = self._embed(output)
        context = self.clip(image) if self.clip is not None else _own_context(embedding, grid)
        with torch.autocast(image.device.type, enabled=False):
            return self._losses(output, label, self._on_grid(embedding, grid, label), context, self.schedules(u))

    def embedded(self, output: SegmenterOutput, label: Tensor) -> Embedded:
        """Embed the features of an output in the joint space and label their grid, as a training step does."""
        return self._on_grid(*self._embed(output), label)

    def _on_grid(self, embedding: Tensor, grid: Grid, label: Tensor) -> Embedded:
        """Pair embedded features with the labels of their grid, and convert them to fp32."""
        labels = grid_labels(label, grid, self.num_classes)
        features = embedding.flatten(2).transpose(1, 2).float().contiguous()
        return Embedded(features, grid, labels, labels.one_hot(self.num_classes))

    def _embed(self, output: SegmenterOutput) -> tuple[Tensor, Grid]:
        """Embed the map to align, averaged to about STRIDE pixels if it is finer: (B, D, h, w), and its grid."""
        features, grid = self._map(output)
        factor = round(STRIDE / grid.cell[1])
        if factor > 1:
            features, grid = F.avg_pool2d(features, factor, ceil_mode=True), grid.coarser(factor)
        return self.embed(features if self.options.align_segmenter else features.detach()), grid

    def _map(self, output: SegmenterOutput) -> tuple[Tensor, Grid]:
        """Return the feature map that ``level`` names, and its grid."""
        features = output.decoder if self.options.level == "decoder" else output.backbone
        if features is None:
            raise ValueError("ppar.level is 'backbone', and the segmenter gives no such map: set it to 'decoder'")
        covered = output.covered or (output.logits.shape[-2], output.logits.shape[-1])
        return features, Grid.over((features.shape[-2], features.shape[-1]), covered)

    def _losses(
        self, output: SegmenterOutput, label: Tensor, embedded: Embedded, context: VisualContext, now: Schedules
    ) -> Losses:
        options, labels, memory = self.options, embedded.labels, self.prototypes
        margin = self.margins(embedded, now)
        weights = self.weights(margin, embedded, now)
        pixel = None
        if now.eta > 0:
            pixel = reweighting.pixel_weights(weights.w, embedded.grid, (label.shape[-2], label.shape[-1]), now.eta)
        terms = supervised_terms(output, label, pixel)
        terms["align"] = now.lambda_align * self._alignment(embedded, weights, now.shares)

        vtp = memory(context.memory.float())
        seen = grid_labels(label, context.grid, self.num_classes)
        positions, pairs = all_reduce_sum(torch.stack([seen.counted.sum(), labels.present.sum()]).float()).clamp_min(1)
        vtp_nll = prototypes.vtp_nll(vtp, context.dense, seen, options.tau)
        distance = prototypes.anchor_distance(vtp, memory.otp, labels.present)
        terms["vtp"] = options.lambda_vtp * vtp_nll * world_size() / positions
        terms["anchor"] = now.lambda_anchor * distance * world_size() / pairs

        self._note(vtp, margin, weights, embedded)
        return Losses(torch.stack(list(terms.values())).sum(), terms, self._diagnose(embedded, weights, now))

    @torch.no_grad()
    def margins(self, embedded: Embedded, now: Schedules) -> Tensor:
        """Return the margins r_n to A = norm((1 - rho) Pv + rho T0), pooled to the granularity; (B, n)."""
        vtp, otp, naive = now.shares
        mixed = vtp * self.prototypes.bank + otp * self.prototypes.otp + naive * self.visual_bank.bank
        anchors = F.normalize(mixed, dim=-1)
        margin = reweighting.margins(alignment.cosines(embedded.features, anchors), embedded.labels.label)
        return reweighting.pool_margins(margin, embedded.one_hot, self.options.reweighting)

    @torch.no_grad()
    def weights(self, margin: Tensor, embedded: Embedded, now: Schedules) -> Weights:
        """Return the weights w_n = w~_n / (mean of w~ over the class y_n in the global batch)."""
        labels, one_hot = embedded.labels, embedded.one_hot
        standardised = self.statistics.standardise(margin, labels.label)
        raw = reweighting.raw_weights(standardised, now.eta, self.options.direction)
        sums = torch.stack([raw, torch.ones_like(raw), raw * labels.purity], dim=-1)
        total, count, pure = all_reduce_sum(torch.einsum("bns,bnk->sk", sums, one_hot))
        mean = torch.where(count > 0, total / count.clamp_min(1), torch.ones_like(total))
        w = torch.where(labels.counted, raw / mean[labels.label], torch.ones_like(raw))
        return Weights(w, pure / mean, count)

    def _alignment(self, embedded: Embedded, weights: Weights, shares: alignment.Shares) -> Tensor:
        """L_align = sum over anchor sets of share * <l_A>_w, times the number of ranks."""
        anchors = (self.prototypes.bank, self.prototypes.otp, self.visual_bank.bank)
        z, y, tau = embedded.features, embedded.labels.label, self.options.tau
        used = [(share, anchor) for share, anchor in zip(shares, anchors, strict=True) if share > 0]
        parts = [share * alignment.alignment_nll(alignment.cosines(z, anchor), y, tau) for share, anchor in used]
        loss = torch.stack(parts).sum(dim=0)
        weight = weights.w * embedded.labels.purity
        mean = alignment.class_balanced_mean(loss, weight, embedded.one_hot, weights.total, weights.number)
        return mean * world_size()

    @torch.no_grad()
    def _note(self, vtp: Tensor, margin: Tensor, weights: Weights, embedded: Embedded) -> None:
        """Add this batch's sums to those that :meth:`update` applies."""
        text = prototypes.vtp_sums(vtp, embedded.labels.present)
        visual = bank.feature_sums(embedded.features, weights.w * embedded.labels.purity, embedded.one_hot)
        self.pending += torch.cat([text, visual, reweighting.margin_sums(margin, embedded.one_hot)], dim=1)

    @torch.no_grad()
    def update(self) -> None:
        """Update banks and statistics with the sums of all ranks since the last call. Call it once per optimiser step.

        A class whose sums hold a NaN or inf is not updated, like a class that is absent.
        """
        width = self.prototypes.otp.shape[1] + 1
        sums = all_reduce_sum(self.pending)
        finite = sums.isfinite().all(dim=1, keepdim=True)
        text, visual, margin = torch.where(finite, sums, torch.zeros_like(sums)).split([width, width, 3], dim=1)
        self.prototypes.update(text)
        self.visual_bank.update(visual)
        self.statistics.update(margin)
        self.pending.zero_()

    @torch.no_grad()
    def _diagnose(self, embedded: Embedded, weights: Weights, now: Schedules) -> dict[str, Tensor]:
        """Return the scheduled values, the spread of the weights, and the distance E||z - A_y|| to both prototypes."""
        counted = embedded.labels.counted
        index, number = embedded.labels.label.unsqueeze(-1), counted.sum().clamp_min(1)
        w = torch.where(counted, weights.w, torch.ones_like(weights.w))

        def distance(anchors: Tensor) -> Tensor:
            own = alignment.cosines(embedded.features, anchors).gather(-1, index).squeeze(-1)
            return ((2 - 2 * own).clamp_min(0).sqrt() * counted).sum() / number

        return {
            **{name: w.new_full((), getattr(now, name)) for name in ("rho", "eta", "lambda_align")},
            "weight/spread": ((w - 1).square() * counted).sum().div(number).sqrt(),
            "weight/min": w.min(),
            "weight/max": w.max(),
            "distance/otp": distance(self.prototypes.otp),
            "distance/vtp": distance(self.prototypes.bank),
        }

    def ensemble(self, output: SegmenterOutput) -> Tensor:
        """Return the text-logit ensemble S + alpha <z, T0> / tau, an option at test time.

        Args:
            output: Output of the segmenter.

        Returns:
            (B, K, H, W).
        """
        features, grid = self._map(output)
        z = F.normalize(self.embed(features).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):
            text = torch.einsum("bdhw,kd->bkhw", z, self.prototypes.otp) / self.options.tau
            text = grid.spread(text, (output.logits.shape[-2], output.logits.shape[-1]))
        return output.logits + self.options.ensemble * text


def _own_context(embedding: Tensor, grid: Grid) -> VisualContext:
    """Use the segmenter's embedded features, averaged over 2 x 2 positions, as visual context without gradient."""
    pooled = F.avg_pool2d(embedding.detach(), 2, ceil_mode=True)
    dense = pooled.flatten(2).transpose(1, 2)
    return VisualContext(torch.cat([dense.mean(dim=1, keepdim=True), dense], dim=1), grid.coarser(2))
