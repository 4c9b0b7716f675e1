"""The plan of a training: the steps that the learning rates and the schedules of PPAR are made for."""

from typing import Literal, NamedTuple

Continuation = Literal["extend", "restart"]


class StepPlan(NamedTuple):
    """The steps of a training, all of which are optimiser steps."""

    total: int
    """Step at which the training ends."""
    start: int = 0
    """Step at which the cycle of the learning rates begins."""
    reached: float = 0.0
    """u at that step, in [0, 1]."""

    def share(self, step: int) -> float:
        """Return the share of the cycle that lies before a step, in [0, 1]."""
        return min(1.0, (step - self.start) / max(1, self.total - self.start))

    def progress(self, step: int) -> float:
        """Return u, in [0, 1], which the schedules of PPAR are functions of: it rises linearly to 1 at the end."""
        return self.reached + (1 - self.reached) * self.share(step)

    def rate(self, step: int, warmup: int, power: float) -> float:
        """Return the factor of the learning rates, in [0, 1].

        Args:
            step: Number of steps before this one.
            warmup: Number of steps in which the factor rises linearly at the start of the cycle.
            power: Exponent of the polynomial decay to 0 at the end.
        """
        warm = min(1.0, (step - self.start + 1) / warmup) if warmup else 1.0
        return warm * (1 - self.share(step)) ** power

    def continued(self, step: int, total: int, kind: Continuation) -> "StepPlan":
        """Return the plan of a run that is continued at a step; the same plan if its end is the same.

        Args:
            step: Number of steps that the run has done.
            total: Step at which it ends now.
            kind: ``extend`` plans the whole cycle anew, as if the run had been planned so. ``restart`` begins a new
                cycle of the learning rates at this step, while u goes on from where it is and never falls.
        """
        if kind == "extend" or total == self.total:
            return self._replace(total=total)
        return StepPlan(total, step, self.progress(step))
