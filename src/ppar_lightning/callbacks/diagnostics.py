"""State of the training: learning rates, how far VTP is from OTP, whether the margins spread."""

import lightning as L
import torch
from torch import Tensor

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.images.classes import CLASSES
from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.reweighting import MIN_SIGMA
from ppar_lightning.module import is_logging_step


class TrainingDiagnostics(L.Callback):
    """Log the learning rate of each parameter group and the prototypes, as this step uses them, when Lightning logs.

    Failure signs: ``prototypes/vtp_otp/mean`` near 1 (VTP collapsed onto OTP), ``prototypes/sigma_floor`` near 1 (the
    margins of most classes no longer spread).
    """

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log ``lr/{group}``, and with PPAR ``prototypes/...``, on logging steps only."""
        if not is_logging_step(trainer):
            return
        pl_module.log_dict({f"lr/{group['name']}": group["lr"] for group in optimizer.param_groups})
        objective = module_of(pl_module).objective
        if objective is not None:
            pl_module.log_dict(prototype_state(objective))


@torch.no_grad()
def prototype_state(objective: PPAR) -> dict[str, Tensor]:
    """Measure the prototypes.

    Returns:
        cos(Pv, T0) by class and its mean; mean and largest cosine between two classes of T0; mean cosine of the visual
        bank's visited classes with T0; share of the visited classes whose margin deviation is at its floor.
    """
    otp, bank, visual = objective.prototypes.otp, objective.prototypes.bank, objective.visual_bank.bank
    own = (bank * otp).sum(dim=1)
    pairs = (otp @ otp.T)[~torch.eye(len(otp), dtype=torch.bool, device=otp.device)]
    visited = objective.statistics.sums[:, 2] > 0
    floor = (objective.statistics.sigma <= MIN_SIGMA) & visited
    state = {
        "prototypes/vtp_otp/mean": own.mean(),
        "prototypes/visual_otp/mean": (visual * otp).sum(dim=1)[visited].sum() / visited.sum().clamp_min(1),
        "prototypes/otp_pairs/mean": pairs.mean(),
        "prototypes/otp_pairs/max": pairs.max(),
        "prototypes/sigma_floor": floor.sum() / visited.sum().clamp_min(1),
    }
    names = CLASSES if len(CLASSES) == len(otp) else [str(k) for k in range(len(otp))]
    return state | {f"prototypes/vtp_otp/{name}": value for name, value in zip(names, own, strict=True)}
