"""Learning rates and weight decay by the plan of a training, which a continued run may change."""

import inspect
import math
from bisect import bisect_left
from typing import Any

import lightning as L
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ppar_lightning.method.schedule import cosine_ramp
from ppar_lightning.method.step_plan import Continuation, StepPlan
from ppar_lightning.optimizer import refit


class PlannedRates(LambdaLR):
    """Learning rates that warm up linearly, then decay polynomially to 0 at the last step of the plan; weight decay.

    Not torch's PolynomialLR: it multiplies the last rate, so a finished training, whose rate is 0, could not be
    continued. The arguments of the optimiser, its rates included, are always those it was built with: a checkpoint
    brings only its state.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        plan: StepPlan,
        warmup: int,
        power: float,
        kind: Continuation,
        decay_end: float | None = None,
    ) -> None:
        """Set the rates of the first step.

        Args:
            optimizer: The optimiser, with its full rates.
            plan: Steps of the training.
            warmup: Number of steps of the warm-up.
            power: Exponent of the decay.
            kind: What a checkpoint of a run with another last step means; see `StepPlan.continued`.
            decay_end: Weight decay of the last step, which that of each group reaches along half a cosine, over the
                same cycle as the rates; None keeps it constant.

        Raises:
            ValueError: The optimiser has no weight decay, or it would become negative.
        """
        self.decays: list[Any] = [group.get("weight_decay") for group in optimizer.param_groups]
        self.decay_end = decay_end
        if decay_end is not None and (decay_end < 0 or None in self.decays):
            fault = f"model.weight_decay_end is {decay_end} with {type(optimizer).__name__}"
            raise ValueError(f"{fault}: give 0 or more, and an optimizer with the option weight_decay, or leave it out")
        self.plan = plan
        self.kind = kind
        self.factor = lambda plan, step: plan.rate(step, warmup, power)
        super().__init__(optimizer, lambda step: self.factor(self.plan, step))
        self.options = [{name: group[name] for name in group if name != "params"} for group in optimizer.param_groups]
        optimizer.register_load_state_dict_pre_hook(self._refuse_another)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates and the weight decay of the next step."""
        super().step(epoch)
        self._set_decay()

    def _set_decay(self) -> None:
        if self.decay_end is not None:
            left = 1 - cosine_ramp(self.plan.share(self.last_epoch), 0.0, 1.0)
            for group, start in zip(self.optimizer.param_groups, self.decays, strict=True):
                group["weight_decay"] = self.decay_end + left * (start - self.decay_end)

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the plan, as plain values."""
        state = super().state_dict()
        hidden = ("kind", "options", "factor", "decays", "decay_end")
        return {name: state[name] for name in state if name not in hidden} | {"plan": list(self.plan)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the step of a checkpoint, after the optimiser's state has been loaded."""
        groups, step = self.optimizer.param_groups, state_dict["last_epoch"]
        rate = max(group["lr"] for group in groups)  # of the step that would have followed
        former = StepPlan(*(state_dict.get("plan") or [self._total(step, rate / max(state_dict["base_lrs"]))]))
        self.plan = former.continued(step, self.plan.total, self.kind)
        arguments = {name for each in type(self.optimizer).__mro__ for name in inspect.signature(each).parameters}
        own = {*self.optimizer.defaults} - arguments  # what the optimiser itself counts, as that of schedule-free does
        vars(self).update({name: state_dict[name] for name in ("last_epoch", "_step_count")})
        for group, options in zip(groups, self.options, strict=True):
            given = {name: options[name] for name in options if name not in group or name not in own}
            group.update(given, lr=options["initial_lr"] * self.lr_lambdas[0](step))
        self._set_decay()
        self._last_lr = [group["lr"] for group in groups]
        self._compare(former, rate)

    def _refuse_another(self, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """Refuse a state before the optimiser loads it, or return it for the optimiser's own kernels.

        Raises:
            ValueError: It is that of another class, or of other parameters.
        """
        groups = state["param_groups"]
        stored, built = set(groups[0]) - {"params"}, set(self.options[0])
        sizes = ([len(group["params"]) for group in each] for each in (groups, optimizer.param_groups))
        anew = "or train anew in another --trainer.default_root_dir"
        if stored - built and built - stored:  # another version of torch has more options or fewer
            fault = f"the checkpoint holds the state of another optimizer than {type(optimizer).__name__}"
            raise ValueError(f"{fault}: leave --model.optimizer as it was, {anew}")
        if next(sizes) != next(sizes):
            fault = "the optimizer's state in the checkpoint is of other parameters or groups"
            options = "--model.segmenter.freeze_stages, --model.segmenter.adapter, --model.ppar.order"
            raise ValueError(f"{fault}: leave {options} and --model.layer_decay as they were, {anew}")
        return refit(optimizer, state)

    def _total(self, step: int, factor: float) -> int:
        """Find the last step of a run of 0.1.0, whose checkpoint holds no plan, by the factor of its rates."""
        nearly = factor * (1 - 1e-12)
        return bisect_left(range(2**40), nearly, lo=step, key=lambda total: self.factor(StepPlan(total), step))

    def _compare(self, former: StepPlan, rate: float) -> None:
        """Say how the schedules change where a run goes on, if they do."""
        step = self.last_epoch
        before, after = former.progress(step), self.plan.progress(step)
        now = max(group["lr"] for group in self.optimizer.param_groups)
        if (before, rate) == (after, now):
            return
        kinds = {"extend": "as if planned so from the start", "restart": "a new cycle of the rates, and u never falls"}
        other = next(f"; {kind}: {meaning}" for kind, meaning in kinds.items() if kind != self.kind)
        change = f"learning rate {rate:.3g} -> {now:.3g}, u {before:.3g} -> {after:.3g}"
        plan = f"planned for {former.total} steps, now {self.plan.total}"
        how = f"--model.continuation {self.kind}: {kinds[self.kind]}{other}"
        rank_zero_warn(f"continued at step {step}, {plan}: {change} ({how})")


def planned_steps(trainer: L.Trainer) -> int:
    """Return the number of optimiser steps of a training.

    Raises:
        ValueError: The training has no planned end.
    """
    steps = trainer.estimated_stepping_batches  # -1 for loaders of unknown length
    if not 0 < steps < math.inf:
        remedy = "give --trainer.max_steps, the number of steps that they are planned for"
        later = "--trainer.max_time may end the run earlier, and --ckpt_path last continues it"
        fault = "the schedules would never move, because the training has no planned end"
        raise ValueError(f"{fault}: {remedy}; {later}")
    return int(steps)


def is_logging_step(trainer: L.Trainer) -> bool:
    """Return, before the optimiser steps, whether Lightning hands what is logged in this step to the loggers.

    Lightning counts the optimiser steps of the whole training, so the answer does not depend on the epoch's length.
    """
    every: int = getattr(trainer, "log_every_n_steps", 0)  # 0 means never
    return every > 0 and (trainer.global_step + 1) % every == 0
