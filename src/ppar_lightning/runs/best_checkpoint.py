"""The best checkpoint of a run, which a ModelCheckpoint selected by a metric."""

from pathlib import Path

from ppar_lightning.disk.tensors import read_checkpoint
from ppar_lightning.runs.run_folder import LAST


def best_checkpoint(folder: Path) -> str:
    """Find the best checkpoint of a run by what its last checkpoint says about ModelCheckpoint.

    Args:
        folder: Run folder. The run may have been moved since.

    Raises:
        FileNotFoundError: The run has no checkpoint, or the best one is gone.
        ValueError: No callback of the run has selected a checkpoint by a metric, or several have.
    """
    last = folder / LAST
    if not last.is_file():
        raise FileNotFoundError(f"{last} not found, so the best checkpoint is not known: run `ppar fit` first")
    states = [state for state in read_checkpoint(last).get("callbacks", {}).values() if isinstance(state, dict)]
    best = sorted({state["best_model_path"] for state in states if state.get("monitor") and state["best_model_path"]})
    if not best:
        remedy = "train with --checkpoint.monitor METRIC --checkpoint.save_top_k 1, or leave --ckpt_path best out"
        raise ValueError(f"{folder} has no best checkpoint, as no metric selected one: {remedy}")
    if len(best) > 1:
        raise ValueError(f"{folder} has several best checkpoints: give one as --ckpt_path, {' or '.join(best)}")
    path = Path(best[0]) if Path(best[0]).is_file() else last.parent / Path(best[0]).name
    if not path.is_file():
        raise FileNotFoundError(f"{path}, the best checkpoint of {folder}, is gone: leave --ckpt_path best out")
    return str(path)
