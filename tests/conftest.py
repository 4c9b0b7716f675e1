"""Fixtures shared by the tests: one thread, no network, no GPU but for `-m cuda`, their own cache, a small CLIP."""

import os

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", OMP_NUM_THREADS="1")  # for processes that tests start too

import runpy
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

torch.set_num_threads(1)

OFFLINE = Path(__file__).parent / "offline"  # what refuses the network, here and in every process that a test starts
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(OFFLINE), os.environ.get("PYTHONPATH"))))
REFUSED = Path(tempfile.mkdtemp()) / "refused"  # what it refused: one line for each attempt
os.environ["PPAR_TESTS_REFUSED"] = str(REFUSED)
runpy.run_path(str(OFFLINE / "sitecustomize.py"))

# tests/test_fuzz.py draws the same 100 cases of each property every time, --hypothesis-profile=long 1,200 new ones
settings.register_profile("short", max_examples=100, derandomize=True, database=None, deadline=None)
settings.register_profile("long", max_examples=1200, database=None, deadline=None)
settings.load_profile("short")


def attempts(path: Path) -> list[str]:
    """What was refused, but for what tests/test_offline.py tries on purpose."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line for line in lines if "in tests/test_offline.py::" not in line]


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those of `make test-cuda`, before torch looks for them."""
    if config.option.markexpr != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a GPU where none is to be seen."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("`make test-cuda` runs this on a machine with a GPU")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say at the very end if `make test-cuda` has found no GPU."""
    if config.option.markexpr == "cuda" and not torch.cuda.is_available():
        print("no GPU found: none of the tests that need one was run")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the tests if one of them tried to reach the network, whatever became of the error."""
    if attempts(REFUSED) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which."""
    for line in attempts(REFUSED):
        terminalreporter.write_line(f"refused: {line}", red=True)
    shutil.rmtree(REFUSED.parent)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Keep cached prototypes out of the user's cache."""
    monkeypatch.setenv("PPAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP with random weights, D = 16, patch 8, whose tokenizer spells every word out in letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    config = CLIPConfig(
        text_config={**tower, **ends, "vocab_size": len(tokens)},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder
