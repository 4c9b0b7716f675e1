"""``ppar reproduce``: which runs are made, continued, replaced or left alone, and in which order."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from ppar_lightning import reproduce
from ppar_lightning.cli import main as ppar
from ppar_lightning.cli import resolve
from ppar_lightning.report.seed_table import ROWS
from ppar_lightning.reproduce import Processes, device_groups, locked, plan
from ppar_lightning.runs.changed_options import changed_options

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs" / "demo.yaml"
UNSEEN = ("fog", "night", "rain", "snow", "city")


class Commands:
    """Stands for the processes: notes them and leaves what they would leave."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fail: str | None = None
        self.finished = True
        self.configs: dict[Path, dict] = {}

    def call(self, words, devices, log) -> int:
        self.calls.append(list(words))
        if words[0] == self.fail:
            return 3
        if words[0] == "fit":
            folder = Path(words[words.index("--trainer.default_root_dir") + 1])
            finish(folder, self.configs[folder], self.finished)
        else:
            folder = Path(words[2]).parent
            score = {"images": 1, "protocol": "full", "miou": 0.5, "iou": {}}
            domains = {"game": {"unseen": False, **score}, "fog": {"unseen": True, **score}}
            (folder / "test.json").write_text(json.dumps({"domains": domains, "unseen_miou": 0.5}))
        return 0


def finish(folder: Path, config: dict, finished: bool = True, checkpoint: bool = True) -> None:
    """Leave what a training leaves."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if checkpoint:
        (folder / "checkpoints" / "last.ckpt").touch()
    session = {"hardware": "h", "versions": {"python": "3"}, "git": None, "seconds": 1.0, "peak_memory": 1.0}
    (folder / "manifest.json").write_text(
        json.dumps({"seed": int(folder.name), "finished": finished, "sessions": [session]})
    )


@pytest.fixture
def commands(monkeypatch) -> Commands:
    """Nothing is trained, but the configs are resolved."""
    commands, execute = Commands(), reproduce.execute

    def noted(runs, output, processes):
        commands.configs |= {run.folder: run.resolved for run in runs}
        execute(runs, output, processes)

    monkeypatch.setattr(reproduce, "execute", noted)
    monkeypatch.setattr(Processes, "call", lambda self, *given: commands.call(*given))
    monkeypatch.chdir(ROOT)
    return commands


def run(output: Path, *words: str, rows: str = "ppar source_only", seeds: str = "0") -> None:
    given = ["--rows", *rows.split(), "--seeds", *seeds.split(), "--output", str(output)]
    ppar(["reproduce", str(DEMO), *given, *words])


def titles(commands: Commands) -> list[str]:
    """Command, row and seed of each call."""
    folders = [
        Path(w[2]).parent if w[0] == "test" else Path(w[w.index("--trainer.default_root_dir") + 1])
        for w in commands.calls
    ]
    return [f"{w[0]} {'/'.join(f.parts[-2:])}" for w, f in zip(commands.calls, folders, strict=True)]


MAKE = ("make", "--no-print-directory", "-n")  # as a part of `make test` it would say where it is


def test_make_hands_its_variables_over():
    words = [*MAKE, "reproduce", "SETTING=gta", "SEEDS=4 7", "ROWS=otp ppar", "ARGS=--data.workers 2"]
    script = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = " ".join(script.replace("\\\n", "").split())
    assert re.search(r"exec \S+/ppar reproduce gta --seeds 4 7 --rows otp ppar -- --data.workers 2", command)
    script = subprocess.run([*MAKE, "reproduce"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"reproduce demo --seeds 0 1 2[\s\\]*$", script)


def test_every_row_is_trained_and_tested_in_order_and_reported(commands, tmp_path, capsys):
    run(tmp_path / "demo", seeds="0 3")
    runs = ["source_only/0", "ppar/0", "source_only/3", "ppar/3"]
    assert titles(commands) == [f"{command} {run}" for run in runs for command in ("fit", "test")]
    fit = " ".join(commands.calls[0])
    assert re.search(r"demo.yaml --config \S*ablations/source_only.yaml --seed_everything 0 --trainer", fit)
    assert "[4/4] ppar/3: missing" in capsys.readouterr().out
    assert "| ppar | 2 | 50.0" in (tmp_path / "demo" / "results.md").read_text()


@pytest.mark.parametrize(("before", "now", "same"), [("bfloat16", None, True), ("bfloat16", "float32", False)])
def test_a_precision_that_now_follows_the_device_is_no_change(commands, tmp_path, before, now, same):
    (ours,) = plan(DEMO, ["ppar"], [0], tmp_path, [f"--model.ppar.clip_dtype={now or 'null'}"], resolve)
    (theirs,) = plan(DEMO, ["ppar"], [0], tmp_path, [f"--model.ppar.clip_dtype={before}"], resolve)
    finish(ours.folder, theirs.resolved)
    assert ours.state == ("untested" if same else "changed")
    assert (not [*changed_options(theirs.resolved, ours.resolved)]) == same
    finish(ours.folder, ours.resolved)
    assert theirs.state == "changed"  # a value is given now


def test_a_seed_that_is_named_twice_is_run_once(commands, tmp_path):
    run(tmp_path / "demo", rows="ppar ppar", seeds="3 0 3")
    assert titles(commands) == ["fit ppar/3", "test ppar/3", "fit ppar/0", "test ppar/0"]


@pytest.mark.remedy("reproduce.py::main")
def test_options_of_a_training_follow_two_dashes(commands, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path / "demo", "--model.ppar.eta", "0.3", rows="ppar")
    said = capsys.readouterr().err
    assert "--model.ppar.eta is no option of `ppar reproduce`; options of `ppar fit` follow --" in said
    words = re.search(r" (-- .*)`", said)[1].split()
    run(tmp_path / "demo", *words, rows="ppar")
    assert commands.calls[0][5:7] == ["--model.ppar.eta", "0.3"]


@pytest.mark.parametrize(
    ("setting", "rows"),
    [
        *((name, "source_only ppar") for name in ("gta_dinov2", "gta_dinov3", "gta_siglip2")),
        ("gta_soma", "source_only"),
    ],
)
def test_rows_of_a_foundation_model_are_planned(tmp_path, setting, rows):
    runs = plan(ROOT / "configs" / f"{setting}.yaml", rows.split(), [0], tmp_path, [], resolve)
    assert [run.title for run in runs] == [f"{row}/0" for row in rows.split()]
    assert [run.resolved["model"]["ppar"]["enabled"] for run in runs] == [row == "ppar" for row in rows.split()]
    adapters = [run.resolved["model"]["segmenter"]["adapter"] for run in runs]
    assert all(each == adapters[0] and each["kind"] != "none" for each in adapters)


@pytest.mark.remedy("reproduce.py::plan")
@pytest.mark.parametrize("word", ["--seed_everything=7", "--trainer.default_root_dir", "--ckpt_path"])
def test_what_each_run_sets_itself_is_no_override(tmp_path, word):
    option = word.partition("=")[0]
    with pytest.raises(ValueError, match=rf"^{option} is set for each run: leave it out; --seeds and --output"):
        plan(DEMO, ["ppar"], [0], tmp_path / "a", [word, "x"], lambda words: {})
    (ppar,) = plan(DEMO, ["ppar"], [7], tmp_path / "b", [], lambda words: {})
    assert ppar.folder == tmp_path / "b" / "ppar" / "7"


def test_a_negative_seed_is_refused(commands, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path / "demo", seeds="0 -1")
    assert capsys.readouterr().err.endswith("; give a whole number from 0 to 4294967295\n")
    assert commands.calls == []
    run(tmp_path / "demo", seeds="0 1")
    assert len(commands.calls) == 8


@pytest.mark.remedy("reproduce.py::main")
def test_a_table_that_was_stopped_goes_on_by_the_same_command(commands, monkeypatch, tmp_path, capsys):
    def stopped(self, words, devices, log):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Processes, "call", stopped)
        with pytest.raises(SystemExit, match="130"):
            run(tmp_path / "demo", rows="ppar")
    assert "stopped; the same command continues" in capsys.readouterr().err
    run(tmp_path / "demo", rows="ppar")
    assert titles(commands) == ["fit ppar/0", "test ppar/0"]


@pytest.mark.remedy("reproduce.py::plan")
def test_all_overlays_are_rows_unless_some_are_named(tmp_path):
    runs = plan(DEMO, None, [0], tmp_path, [], lambda words: {})
    assert [run.folder.parent.name for run in runs] == [
        row for row in ROWS if (ROOT / "configs" / "ablations" / f"{row}.yaml").is_file()
    ]
    assert len(runs) >= 8
    with pytest.raises(FileNotFoundError, match=r"no overlay otq.yaml; there are: source_only, ") as error:
        plan(DEMO, ["otq"], [0], tmp_path, [], resolve)
    there = str(error.value).partition("there are: ")[2].split(", ")
    assert len(plan(DEMO, there, [0], tmp_path, [], lambda words: {})) == len(there) == len(runs)


def test_a_finished_run_is_not_run_again(commands, tmp_path, capsys):
    run(tmp_path / "demo")
    commands.calls.clear()
    run(tmp_path / "demo")
    assert commands.calls == []
    assert "2 runs, 2 of them done" in capsys.readouterr().out


def test_an_untested_run_is_tested_alone(commands, tmp_path):
    run(tmp_path / "demo")
    (tmp_path / "demo" / "ppar" / "0" / "test.json").unlink()
    commands.calls.clear()
    run(tmp_path / "demo")
    assert titles(commands) == ["test ppar/0"]


def test_a_stopped_run_goes_on_from_its_last_checkpoint(commands, tmp_path):
    (ppar,) = plan(DEMO, ["ppar"], [0], tmp_path / "demo", [], resolve)
    finish(ppar.folder, ppar.resolved, finished=False)
    run(tmp_path / "demo", rows="ppar")
    assert titles(commands) == ["fit ppar/0", "test ppar/0"]
    assert commands.calls[0][-2:] == ["--ckpt_path", "last"]
    assert not (tmp_path / "demo" / "replaced").exists()


def test_a_run_that_stops_before_its_last_step_is_not_tested_but_continued(commands, tmp_path, capsys):
    commands.finished = False  # as with --trainer.max_time
    run(tmp_path / "demo", rows="ppar")
    assert titles(commands) == ["fit ppar/0"]
    assert "ppar/0: stopped before its last step, so it is not tested; the same command" in capsys.readouterr().out
    commands.finished = True
    run(tmp_path / "demo", rows="ppar")
    assert titles(commands) == ["fit ppar/0", "fit ppar/0", "test ppar/0"]
    assert commands.calls[1][-2:] == ["--ckpt_path", "last"]


def test_a_run_stopped_before_its_first_checkpoint_starts_anew_and_is_kept(commands, tmp_path):
    (ppar,) = plan(DEMO, ["ppar"], [0], tmp_path / "demo", [], resolve)
    finish(ppar.folder, ppar.resolved, finished=False, checkpoint=False)
    run(tmp_path / "demo", rows="ppar")
    assert "--ckpt_path" not in commands.calls[0]
    assert (tmp_path / "demo" / "replaced" / "ppar" / "0-1" / "config.yaml").is_file()


def test_a_changed_config_is_run_again_and_the_earlier_run_is_kept(commands, tmp_path, capsys):
    run(tmp_path / "demo")
    commands.calls.clear()
    run(tmp_path / "demo", "--", "--model.ppar.eta", "0.3")
    assert titles(commands) == ["fit source_only/0", "test source_only/0", "fit ppar/0", "test ppar/0"]
    assert commands.calls[0][5:7] == ["--model.ppar.eta", "0.3"]
    kept = tmp_path / "demo" / "replaced" / "ppar"
    assert yaml.safe_load((kept / "0-1" / "config.yaml").read_text())["model"]["ppar"]["eta"] == 0.5
    assert (kept / "0-1" / "test.json").is_file()
    assert f"the earlier run is kept in {kept / '0-1'}" in capsys.readouterr().out
    run(tmp_path / "demo", "--", "--model.ppar.eta", "0.2")
    assert yaml.safe_load((kept / "0-2" / "config.yaml").read_text())["model"]["ppar"]["eta"] == 0.3


def test_a_comment_in_a_config_changes_nothing(commands, tmp_path):
    for path in (DEMO, DEMO.parent / "ablations" / "ppar.yaml"):
        copy = tmp_path / "configs" / path.relative_to(DEMO.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    words = [str(tmp_path / "configs" / "demo.yaml"), "--seeds", "0", "--output", str(tmp_path / "demo")]
    ppar(["reproduce", *words])
    commands.calls.clear()
    (tmp_path / "configs" / "demo.yaml").write_text("# a remark\n" + DEMO.read_text())
    ppar(["reproduce", *words])
    assert commands.calls == []
    (tmp_path / "configs" / "demo.yaml").write_text(re.sub(r"max_steps: \d+", "max_steps: 7", DEMO.read_text()))
    ppar(["reproduce", *words])
    assert len(commands.calls) == 2


@pytest.mark.remedy("reproduce.py::train_and_test")
def test_the_first_failure_ends_it_and_the_next_call_goes_on(commands, tmp_path, capsys):
    commands.fail = "test"
    with pytest.raises(SystemExit, match="1"):
        run(tmp_path / "demo")
    assert "source_only/0: ppar test ended with status 3" in capsys.readouterr().err
    assert titles(commands) == ["fit source_only/0", "test source_only/0"]
    commands.fail = None
    commands.calls.clear()
    run(tmp_path / "demo")
    assert titles(commands) == ["test source_only/0", "fit ppar/0", "test ppar/0"]


def test_a_bad_override_is_an_error_before_anything_runs(commands, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path / "demo", "--", "--model.ppar.etta", "0.3")
    assert "etta" in capsys.readouterr().err
    assert commands.calls == []


@pytest.mark.parametrize(
    ("trainer", "visible", "expected"),
    [
        (("cpu", "auto"), None, [None]),
        (("gpu", 2), None, ["0,1", "2,3"]),
        (("gpu", "2"), None, ["0,1", "2,3"]),
        (("gpu", "auto"), None, ["0", "1", "2", "3", "4"]),
        (("auto", 1), "5,7", ["5", "7"]),
        (("gpu", 4), None, ["0,1,2,3"]),
        (("gpu", -1), None, [None]),
        (("gpu", 8), None, [None]),
        (("gpu", [0, 1]), None, [None]),
    ],
)
def test_devices_are_divided_among_runs(monkeypatch, trainer, visible, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_groups(dict(zip(("accelerator", "devices"), trainer, strict=True))) == expected


def test_as_many_runs_at_once_as_there_are_groups_of_devices(commands, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "device_groups", lambda trainer: ["0", "1"])
    both, seen = threading.Barrier(2, timeout=20), []

    def call(_, words, devices, log):
        if words[0] == "fit":
            both.wait()  # passes only if two run at once
        seen.append((devices, log))
        return commands.call(words, devices, log)

    monkeypatch.setattr(Processes, "call", call)
    run(tmp_path / "demo", seeds="0 1")
    assert {devices for devices, _ in seen} == {"0", "1"}
    assert all(log.name == "log.txt" for _, log in seen)
    assert len(seen) == 8


class Stub:
    """Stands for the interpreter: a script with the words of ``ppar`` as its arguments."""

    def __init__(self, script: str, folder: Path, monkeypatch) -> None:
        path = folder / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(reproduce.sys, "executable", str(path))


def test_the_process_sees_its_devices_and_writes_its_log(monkeypatch, tmp_path):
    Stub("echo $* on $CUDA_VISIBLE_DEVICES; exit 5", tmp_path, monkeypatch)
    with locked(tmp_path / "demo") as lock:
        assert Processes(lock).call(["fit"], "3", tmp_path / "log.txt") == 5
    assert (tmp_path / "log.txt").read_text() == "-m ppar_lightning fit on 3\n"


@pytest.mark.remedy("reproduce.py::locked")
def test_two_do_not_work_on_the_same_runs(commands, tmp_path, capsys):
    with locked(tmp_path / "demo"), pytest.raises(SystemExit, match="1"):
        run(tmp_path / "demo")
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"ppar: error: another `ppar reproduce`, .* is using \S+/demo: wait until it ends, or", line)
    assert commands.calls == []
    run(tmp_path / "demo")
    assert len(commands.calls) == 4


HOLD = "import sys; from pathlib import Path; from ppar_lightning.reproduce import Processes, locked\n"
HOLD += "with locked(Path(sys.argv[1])) as lock: print('held', flush=True); "


def test_a_killed_one_leaves_no_lock_but_its_training_does(tmp_path, monkeypatch):
    Stub("sleep 60 & echo $! > pid; wait", tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    python = ROOT / ".venv" / "bin" / "python"
    for rest in ("sys.stdin.read()", f"sys.executable = '{tmp_path}/python'; Processes(lock).call([], None, None)"):
        words = [python, "-c", HOLD + rest, str(tmp_path / "demo")]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "held\n"
            while "call" in rest and not (tmp_path / "pid").is_file():
                time.sleep(0.05)
            with pytest.raises(BlockingIOError), locked(tmp_path / "demo"):
                pass
            holder.kill()
            holder.wait()
            if "call" not in rest:
                with locked(tmp_path / "demo"):
                    pass
                continue
            with pytest.raises(BlockingIOError), locked(tmp_path / "demo"):
                pass
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with locked(tmp_path / "demo"):
                return
        except BlockingIOError:
            time.sleep(0.05)
    raise AssertionError("still locked")


@pytest.mark.slow
def test_a_signal_to_make_ends_the_training_and_the_same_command_goes_on(tmp_path):
    """With real processes: make, `ppar reproduce`, `ppar fit`."""
    for name in ("pyproject.toml", "setup.py", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "installed").touch()
    small = "--trainer.max_steps 2000 --trainer.accelerator cpu --data.crop [32,64] --data.batch_size 2"
    small += " --data.sources.game.limit 2 --data.workers 0 --trainer.enable_progress_bar false"
    words = ["make", "-f", ROOT / "Makefile", "-o", "installed", "INSTALLED=installed", f"BIN={ROOT}/.venv/bin"]
    words += ["reproduce", "SETTING=demo", "SEEDS=0", "ROWS=source_only", f"ARGS={small}"]
    folder = tmp_path / "runs" / "reproduce" / "demo" / "source_only" / "0"
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as make:
        wait_for(lambda: any(folder.glob("curves/*/*/metrics.csv")) or make.poll() is not None)
        make.terminate()
        said = make.communicate()[1]
    assert "stopped; the same command continues" in said
    wait_for(lambda: not at_work(tmp_path))
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert json.loads((folder / "manifest.json").read_text())["finished"] is False
    with locked(folder.parents[1]):
        pass


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def at_work(folder: Path) -> list[Path]:
    """Processes whose working directory is a folder."""
    return [link for link in Path("/proc").glob("[0-9]*/cwd") if os.path.realpath(link) == str(folder)]


@pytest.mark.slow
def test_a_real_run_is_known_again(monkeypatch, tmp_path, capsys):
    """Trained, tested and reported in this process: the config it saves is the one that is compared."""
    monkeypatch.setattr(Processes, "call", lambda self, words, devices, log: ppar(list(words)) or 0)
    monkeypatch.chdir(ROOT)
    small = ["--trainer.max_steps", "1", "--data.sources.game.limit", "2", "--data.batch_size", "2"]
    small += ["--data.crop", "[64, 64]", "--data.workers", "0", "--trainer.enable_progress_bar", "false"]
    small += [word for name in UNSEEN for word in (f"--data.unseen.{name}.limit", "1")]
    run(tmp_path / "demo", "--", *small, rows="progressive", seeds="3")
    manifest = json.loads((tmp_path / "demo" / "progressive" / "3" / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["seed"] == 3
    config = yaml.safe_load((tmp_path / "demo" / "progressive" / "3" / "config.yaml").read_text())
    assert config["model"]["ppar"]["reweighting"] == "off"
    text = (tmp_path / "demo" / "results.md").read_text()
    assert "CPU cores" in text
    assert "| fog | unseen | full | 1 of 60 |" in text
    capsys.readouterr()
    run(tmp_path / "demo", "--", *small, rows="progressive", seeds="3")
    assert "1 runs, 1 of them done" in capsys.readouterr().out
    # stopped after its checkpoint: continued in its own folder
    path = tmp_path / "demo" / "progressive" / "3" / "manifest.json"
    path.write_text(json.dumps(manifest | {"finished": False}))
    run(tmp_path / "demo", "--", *small, rows="progressive", seeds="3")
    again = json.loads(path.read_text())
    assert again["finished"]
    assert len(again["sessions"]) == 2
