"""The loss of Mask2Former (arXiv 2112.01527): in each layer, a query is matched with each class that an image has.

transformers' own takes ignored pixels for background, and divides by the number of masks on one rank.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.distributed import all_reduce_sum, world_size
from ppar_lightning.segmenter.mask2former import Queries

POINTS = 12544
"""Pixels of an image in which masks are compared; as many as it has if these are fewer."""
OVERSAMPLING, UNCERTAIN = 3, 0.75
"""Pixels that are drawn for each point, and the share of points that are the least certain of them."""
CLASS, MASK, NO_OBJECT = 2.0, 5.0, 0.1
"""Weights: of the cross entropy of classes, of both losses of masks, and of a query that is matched with no class."""


def mask_terms(queries: Queries, covered: tuple[int, int], own: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Compare the queries of L layers with the classes of each image; the pixels of a class are one mask.

    The mean of each term over ranks equals its value on the concatenated batch, if the same points are drawn. Masks are
    compared in pixels with a label alone, and an image without any has no part in the loss. The host reads the costs of
    all matches at once. Terms are divided by at least one mask a rank.

    Args:
        queries: (B, L, Q, ...) each.
        covered: (H', W') of the padded image that the masks cover, at least (H, W).
        own: (B, K, H, W) bool: whether k is the label of the pixel.
        known: (B, H, W) float: whether the pixel has a label; one NaN makes the loss NaN.

    Returns:
        ``class`` and ``mask``, cross entropies in nats, and ``dice``: scalars, summed over layers, with their weights.
    """
    (layers, number), points, labels = queries.classes.shape[1:3], min(POINTS, known[0].numel()), own.flatten(2)
    shape = covered, known.shape[2]
    with torch.autocast(own.device.type, enabled=False):
        logits, masks = (each.float() for each in queries)
        with torch.no_grad():
            pool, certain = draw(known, OVERSAMPLING * points), int((1 - UNCERTAIN) * points)
            pixel = pool[:, :points]
            target = labels.gather(2, pixel.unsqueeze(1).expand(-1, labels.shape[1], -1)).float()
            costs = [torch.add(*compare(sample(each, pixel, *shape), target)) for each in masks.unbind(1)]
            cost = MASK * torch.stack(costs, dim=1) - CLASS * logits.softmax(dim=-1)[..., :-1]
            match = assign(cost, labels.any(dim=2))
        taken = match.clamp_min(0)[..., None, None].expand(*match.shape, *masks.shape[3:])
        chosen = masks.gather(2, taken).flatten(1, 2)
        with torch.no_grad():  # of the pixels that are drawn, most points are those whose logit is the nearest to 0
            nearest = sample(chosen, pool, *shape).abs().topk(points - certain, largest=False, sorted=False).indices
            pool, rest = (each.unsqueeze(1).expand(-1, nearest.shape[1], -1) for each in (pool, draw(known, certain)))
            pixel = torch.cat([pool.gather(2, nearest), rest], dim=2)
            target = labels.unsqueeze(1).expand(-1, layers, -1, -1).gather(3, pixel.view(*match.shape, points)).float()
        found = sample(chosen.flatten(0, 1).unsqueeze(1), pixel.flatten(0, 1), *shape)
        entropy, dice = (each.view_as(match) for each in compare(found, target.flatten(0, 2).unsqueeze(1)))
        # Classes without a query share the slot after the last query; a query that no class has is to predict the last.
        ids, last = torch.arange(labels.shape[1], device=match.device).expand_as(match), labels.shape[1]
        wanted = match.new_full((*match.shape[:2], number + 1), last).scatter(2, match.remainder(number + 1), ids)
        nll = F.cross_entropy(logits.permute(0, 3, 1, 2), wanted[..., :number], reduction="none")
        weight = torch.where(wanted[..., :number] < last, 1.0, NO_OBJECT) * (known > 0).any(dim=(1, 2))[:, None, None]
        counts = torch.stack([(match[:, 0] >= 0).sum(), weight[:, 0].sum()])  # the same in each layer
        objects, total = (all_reduce_sum(counts) / world_size()).clamp_min(1).unbind()
        classes = (nll * weight).sum() * (CLASS / total) + 0 * known.sum()
        entropy, dice = ((each * (match >= 0)).sum() * (MASK / objects) for each in (entropy, dice))
        return {"class": classes, "mask": entropy, "dice": dice}


def draw(known: Tensor, number: int) -> Tensor:
    """Draw pixels that have a label, any if none has: (B, number) indices of the H W pixels of each image."""
    found = known.flatten(1) > 0
    return torch.multinomial((found | ~found.any(dim=1, keepdim=True)).float(), number, replacement=True)


def sample(masks: Tensor, pixel: Tensor, covered: tuple[int, int], width: int) -> Tensor:
    """Read (B, N, h, w) masks bilinearly in the centres of (B, P) pixels of images of that width: (B, N, P)."""
    x, y = (pixel % width + 0.5) / covered[1], (pixel // width + 0.5) / covered[0]
    grid = 2 * torch.stack([x, y], dim=-1).unsqueeze(1) - 1
    return F.grid_sample(masks, grid, padding_mode="border", align_corners=False).squeeze(2)


def compare(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross entropy and the dice loss of (B, N, P) logits and (B, M, P) masks of 0 and 1: (B, N, M) each."""
    share, target = logits.sigmoid(), target.mT
    entropy = (F.softplus(logits).sum(dim=-1, keepdim=True) - logits @ target) / logits.shape[-1]
    sizes = share.sum(dim=-1, keepdim=True) + target.sum(dim=1, keepdim=True)
    return entropy, 1 - (2 * share @ target + 1) / (sizes + 1)


@torch.library.custom_op("ppar_lightning::assign", mutates_args=())
def assign(cost: Tensor, present: Tensor) -> Tensor:
    """Match each class of an image with the query that makes the sum of costs least, on the host.

    Args:
        cost: (B, L, Q, K).
        present: (B, K) bool: whether the image has the class.

    Returns:
        (B, L, K) int64, the query of each class; -1 if the image lacks it or has more classes than there are queries.
    """
    costs, there = np.nan_to_num(cost.cpu().numpy()), present.cpu().numpy()
    match = np.full((*costs.shape[:2], costs.shape[3]), -1)
    for image, layer in np.ndindex(*costs.shape[:2]):
        (ids,) = there[image].nonzero()
        rows, columns = linear_sum_assignment(costs[image, layer][:, ids])
        match[image, layer, ids[columns]] = rows
    return torch.from_numpy(match).to(cost.device)


assign.register_fake(lambda cost, _: cost.new_empty((*cost.shape[:2], cost.shape[3]), dtype=torch.int64))
