"""What a fresh machine needs: pins that agree with the ranges, no torchvision, a Makefile that knows its targets."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_configs import QUICK

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PACKAGE_DATA = PYPROJECT["tool"]["setuptools"]["package-data"]
PINS = {
    Requirement(line).name.lower().replace("_", "-"): Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
}
REQUIREMENTS = [
    Requirement(text)
    for text in (*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra))
]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_range_admits_its_pin_and_says_why(requirement):
    pin = PINS[requirement.name.lower()]
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    assert specifier.version in requirement.specifier


def test_every_range_says_why():
    lines = [line.strip() for line in (ROOT / "pyproject.toml").read_text().splitlines()]
    ranges = [line for line in lines if re.match(r'"[a-z][\w-]*(\[\w+\])?(>=[^"]*)?",', line)]
    assert len(ranges) == len(REQUIREMENTS)
    assert all(re.search(r'", +# \w', line) for line in ranges)


@pytest.mark.parametrize(("name", "version"), [("torch", "2.11.0"), ("transformers", "5.17.0"), ("lightning", "2.6.0")])
def test_the_ranges_admit_what_gpu_machines_have(name, version):
    (requirement,) = (r for r in REQUIREMENTS if r.name == name)
    assert version in requirement.specifier


def test_torch_is_pinned_and_nothing_needs_torchvision():
    assert str(PINS["torch"].specifier) == "==2.13.0"
    assert not {"torchvision", "timm", "open-clip-torch", "segmentation-models-pytorch"} & set(PINS)


@pytest.mark.slow  # where it is not installed, every test shows it
def test_the_package_imports_without_torchvision():
    code = (
        "import sys; sys.modules['torchvision'] = None; "  # any import of it fails
        "import ppar_lightning.cli.training, tools.tinyclip.train; "
        "import transformers; transformers.CLIPModel; transformers.ResNetBackbone"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_file_beside_the_code_is_declared():
    weights = ROOT / "src" / "ppar_lightning" / "segmenter" / "shipped" / "tinyclip"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {p.name for p in weights.iterdir()}
    declared = {
        path
        for package, patterns in PACKAGE_DATA.items()
        for folder in (ROOT / "src").glob("ppar_lightning/**" if package == "*" else package.replace(".", "/"))
        for pattern in patterns
        for path in folder.glob(pattern)
    }
    beside = {path for path in (ROOT / "src" / "ppar_lightning").rglob("*") if path.is_file()}
    beside = {path for path in beside if path.suffix not in (".py", ".pyc")}
    assert beside == {path for path in declared if path.is_file()}


@pytest.mark.parametrize(
    "target", ["demo", "test", "test-slow", "test-cuda", "lint", "reproduce", "tinyclip", "benchmark", "docs"]
)
def test_the_makefile_has_its_targets(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv/bin" in done.stdout


@pytest.mark.slow
def test_make_test_cuda_ends_with_a_line_that_there_is_no_gpu():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "cuda", "tests/test_cuda.py"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "no GPU found: none of the tests that need one was run"


def test_make_demo_tests_the_run_that_it_trains(tmp_path):
    """However late it is by then: here each look at the clock shows another time."""
    clock = tmp_path / "date"
    clock.write_text(f"#!/bin/sh\necho look >> {tmp_path}/looks\nwc -l < {tmp_path}/looks\n")
    clock.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "RUN"}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    trained = re.search(r"default_root_dir (\S+)", done.stdout)[1]
    assert f"test --config {trained}/config.yaml" in done.stdout


def test_the_licence_is_there():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert shutil.which("ppar", path=str(Path(sys.executable).parent))


@pytest.mark.slow
def test_the_wheel_holds_every_room_and_what_is_read_from_it(tmp_path):
    """Built from a copy, installed into an empty folder and called there."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if name.startswith(("src/", "configs/")) or name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "copy" / name)
    words = ["wheel", str(tmp_path / "copy"), "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("ppar_lightning/")}
    assert names == {name.removeprefix("src/") for name in tracked if name.startswith("src/")} | {
        f"ppar_lightning/{name}" for name in tracked if name.startswith("configs/")
    }
    words = ["install", "--no-deps", "--no-index", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], check=True)
    (tmp_path / "empty").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}

    def call(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    ppar = tmp_path / "site" / "bin" / "ppar"
    where = call(sys.executable, "-c", "import ppar_lightning; print(ppar_lightning.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path / "site")
    assert "ablations/otp" in call(ppar, "configs")
    assert "runs/gta" in call(ppar, "fit", "--config", "gta", "--print_config")
    short = ["--data.sources.game.limit", "4", "--data.unseen", "{}", *QUICK]
    call(ppar, "fit", "--config", "demo", *short)
    assert (tmp_path / "empty" / "runs" / "demo" / "checkpoints" / "last.ckpt").is_file()
