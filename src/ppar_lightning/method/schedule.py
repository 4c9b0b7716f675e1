"""Schedules as pure functions of u = step / total steps in [0, 1], so that a resumed run continues exactly."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ppar_lightning.method.alignment import anchor_shares
from ppar_lightning.method.options import PPAROptions


def ramp(u: float, start: float, end: float) -> float:
    """Rise linearly from 0 at ``start`` to 1 at ``end``; jump from 0 to 1 if the two are equal."""
    if u >= end:
        return 1.0
    return max(0.0, (u - start) / (end - start)) if end > start else 0.0


def cosine_ramp(u: float, start: float, end: float) -> float:
    """Rise from 0 at ``start`` to 1 at ``end`` along half a cosine: rho(u), the transition from easy to difficult."""
    return (1.0 - math.cos(math.pi * ramp(u, start, end))) / 2.0


class Stage(NamedTuple):
    """Values of the scheduled quantities at one u, on the device: compiled code is the same for all of them."""

    eta: Tensor
    least: Tensor
    """(1 - eta) / (1 + eta), the smallest weight."""
    largest: Tensor
    """(1 + eta) / (1 - eta), the largest weight."""
    lambda_align: Tensor
    lambda_anchor: Tensor
    shares: Tensor
    """(S,), of the anchor sets that are used."""


class Schedules(NamedTuple):
    """Values of the scheduled quantities at one u."""

    rho: float
    """Progress from the first anchor set to the second, in [0, 1]."""
    eta: float
    """Strength of the reweighting, in [0, 1)."""
    lambda_align: float
    lambda_anchor: float
    shares: dict[str, float]
    """Those of the anchor sets that are used."""

    @classmethod
    def at(cls, u: float, options: PPAROptions) -> "Schedules":
        """Evaluate the schedules at u."""
        rho = cosine_ramp(u, *options.rho_ramp)
        shares = anchor_shares(options.order, rho)
        eta = 0.0 if options.reweighting == "off" else options.eta * ramp(u, *options.eta_ramp)
        align = options.lambda_align * ramp(u, *options.align_ramp)
        anchor = options.lambda_anchor * (0.1 + 0.9 * shares.get("otp", 0.0))  # VTP is drawn to OTP as features follow
        return cls(rho, eta, align, anchor, shares)

    def on(self, device: torch.device) -> Stage:
        """Copy the values to a device, in one copy that does not wait for it."""
        least = (1 - self.eta) / (1 + self.eta)
        values = [self.eta, least, 1 / least, self.lambda_align, self.lambda_anchor, *self.shares.values()]
        stage = torch.tensor(values, pin_memory=device.type == "cuda").to(device, non_blocking=True)
        eta, floor, ceiling, align, anchor = stage[:5].unbind()
        return Stage(eta, floor, ceiling, align, anchor, stage[5:])
