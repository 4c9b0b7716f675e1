"""docs/howto/own_loop.md: its code runs as it stands, and loads neither Lightning nor albumentations."""

import re
import subprocess
import sys
from pathlib import Path

import torch

TEXT = (Path(__file__).parents[1] / "docs" / "howto" / "own_loop.md").read_text()
(CODE,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
HEAVY = 'import sys; print("heavy", sorted({"lightning", "pytorch_lightning", "albumentations"} & set(sys.modules)))'


def test_the_loop_trains_without_lightning(tmp_path):
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 35
    ran = subprocess.run(
        [sys.executable, "-c", f"{CODE}\n{HEAVY}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *steps, heavy = ran.stdout.splitlines()
    assert heavy == "heavy []"
    assert len(steps) == 4
    assert all(f"'{term}'" in step for step in steps for term in ("ce", "align"))
    assert ["'vtp'" in step and "'anchor'" in step for step in steps] == [False, False, False, True]
    objective = torch.load(tmp_path / "own_loop.pt", weights_only=True)["objective"]
    assert not torch.equal(objective["prototypes.bank"], objective["prototypes.otp"])  # update() has moved it
    assert all(value.isfinite().all() for value in objective.values())
