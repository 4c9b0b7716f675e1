"""Latency and memory of a segmenter in several runtimes, for ``ppar export --benchmark``.

Each figure comes from a process of its own, which imports only what its runtime needs.
"""

import re
import statistics
import timeit
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

RUNTIMES = {"eager": "PyTorch", "onnx": "ONNX Runtime", "torch": "torch.export"}
"""Kind of file -> what runs it; `eager` is whatever `load_segmenter` loads."""

WARM_UP, RUNS = 2, 10
"""Number of images before the measured ones, and of these."""


def compare(files: dict[str, str], sizes: Sequence[tuple[int, int]]) -> None:
    """Print a table of latency and peak memory, on the CPU and on CUDA if there is a device.

    Args:
        files: Kind, a key of `RUNTIMES`, -> file.
        sizes: Height and width of the image, which is segmented by itself.
    """
    import torch

    threads, cuda = torch.get_num_threads(), torch.cuda.is_available()
    print(f"on {threads} CPU threads{f' and {torch.cuda.get_device_name()}' if cuda else ''}, one image at a time:")
    print(f"{'runtime':14}{'device':6}{'size':>11}{'median ms':>11}{'images/s':>10}{'peak MiB':>10}")
    for device, size in [(device, size) for device in ("cpu", "cuda")[: 1 + cuda] for size in sizes]:
        for kind, file in files.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a forked one could not use CUDA
                figures = pool.submit(measure, kind, file, device, size, threads).result()
            print(f"{RUNTIMES[kind]:14}{device:6}{'x'.join(map(str, size)):>11}{figures}", flush=True)


def measure(kind: str, file: str, device: str, size: tuple[int, int], threads: int) -> str:
    """Segment an image again and again in this process.

    Returns:
        Median milliseconds, images per second, and MiB of memory; or why these are not measured.
    """
    before = memory(device) if device == "cuda" else 0
    image = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    if kind == "onnx":
        import onnxruntime

        provider, options = f"{device.upper()}ExecutionProvider", onnxruntime.SessionOptions()
        if provider not in onnxruntime.get_available_providers():
            return "    not measured: install onnxruntime-gpu in place of onnxruntime"
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=[provider])
        binding = session.io_binding()  # image and logits stay on the device, as in PyTorch
        binding.bind_ortvalue_input("image", onnxruntime.OrtValue.ortvalue_from_numpy(image, device, 0))
        binding.bind_output("logits", device)
        run = lambda: session.run_with_iobinding(binding)  # noqa: E731
    else:
        import torch
        from torch.export.passes import move_to_device_pass

        from ppar_lightning.load import load_segmenter

        torch.set_num_threads(threads)
        program = None if kind == "eager" else move_to_device_pass(torch.export.load(file), device)
        network = load_segmenter(file, device) if program is None else program.module()
        given = torch.from_numpy(image).to(device)
        run = lambda: network(given)[0, 0, 0, 0].item()  # noqa: E731  # which waits for the device
    seconds = statistics.median(timeit.repeat(run, number=1, repeat=WARM_UP + RUNS)[WARM_UP:])
    return f"{1000 * seconds:11.1f}{1 / seconds:10.2f}{(memory(device) - before) / 2**20:10.0f}"


def memory(device: str) -> int:
    """Return the most bytes that this process held so far, 0 if this is not Linux; on CUDA, minus the free ones.

    What runtimes keep for later runs is not free. `ru_maxrss` would begin with what the parent process held.
    """
    if device == "cuda":
        import torch

        return -torch.cuda.mem_get_info()[0]
    status = Path("/proc/self/status")
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) if status.exists() else 0
