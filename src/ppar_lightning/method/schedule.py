"""Schedules as pure functions of u = step / total steps in [0, 1], so that a resumed run continues exactly."""

import math


def ramp(u: float, start: float, end: float) -> float:
    """Rise linearly from 0 at ``start`` to 1 at ``end``; jump from 0 to 1 if the two are equal."""
    if u >= end:
        return 1.0
    return max(0.0, (u - start) / (end - start)) if end > start else 0.0


def cosine_ramp(u: float, start: float, end: float) -> float:
    """Rise from 0 at ``start`` to 1 at ``end`` along half a cosine: rho(u), the transition from easy to difficult."""
    return (1.0 - math.cos(math.pi * ramp(u, start, end))) / 2.0
