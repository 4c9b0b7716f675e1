"""The best checkpoint of a run, which a ModelCheckpoint selected by a metric."""

from pathlib import Path

from ppar_lightning.disk.tensors import read_checkpoint
from ppar_lightning.runs.run_folder import LAST


def best_checkpoint(folder: Path) -> str:
    """Find the best checkpoint of a run by what its last checkpoint says about ModelCheckpoint.

    Args:
        folder: Run folder. The run may have been moved since.

    Raises:
        FileNotFoundError: The best checkpoint is gone.
        ValueError: No callback of the run has selected a checkpoint by a metric, or several have.
    """
    last = folder / LAST
    states = read_checkpoint(last).get("callbacks", {}).values() if last.is_file() else ()
    monitors = [state for state in states if isinstance(state, dict) and state.get("monitor")]
    best = sorted({state["best_model_path"] for state in monitors if state["best_model_path"]})
    if len(best) != 1:
        found = f"several ({' or '.join(best)})" if best else "none, as no metric selected one"
        remedy = "give one as --ckpt_path, or train with --checkpoint.monitor METRIC --checkpoint.save_top_k 1"
        raise ValueError(f"{folder} has no single best checkpoint but {found}: {remedy}")
    path = Path(best[0]) if Path(best[0]).is_file() else last.parent / Path(best[0]).name
    if not path.is_file():
        raise FileNotFoundError(f"{path}, the best checkpoint of {folder}, is gone: leave --ckpt_path best out")
    return str(path)
