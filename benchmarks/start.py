"""How long commands take to start, as ratios to the import of torch: ``python benchmarks/start.py``.

Each command runs in a new process, and they take turns, so that other load on the machine slows all of them. The ratios
are those of the medians.
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", ""],
    "import torch": ["-c", "import torch"],
    "import ppar_lightning": ["-c", "import ppar_lightning"],
    "ppar --help": ["-m", "ppar_lightning", "--help"],
    "ppar configs": ["-m", "ppar_lightning", "configs"],
    "ppar fit --help": ["-m", "ppar_lightning", "fit", "--help"],
    "ppar reproduce --help": ["-m", "ppar_lightning", "reproduce", "--help"],
}


def seconds(words: list[str]) -> float:
    """Time a Python process from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print one line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="runs of each command")
    rounds = parser.parse_args().rounds
    for words in COMMANDS.values():
        seconds(words)  # reads the files into the cache of the system
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            taken[name].append(seconds(words))
    torch = statistics.median(taken["import torch"])
    for name, values in taken.items():
        print(f"{name:<24}{statistics.median(values) / torch:6.2f}")


if __name__ == "__main__":
    main()
