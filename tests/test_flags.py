"""Lightning's flags and callbacks: each works, or is refused in one line by fit and doctor alike."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml
from ranks import run_ranks
from stand_ins import small_config
from trees import write_image

from ppar_lightning.cli import main
from ppar_lightning.cli.flags import refuse_flags
from ppar_lightning.cli.training import PPARCLI
from ppar_lightning.cli.words import expanded, named_configs
from ppar_lightning.load import load_segmenter
from ppar_lightning.runs.checkpoints import best_checkpoint
from ppar_lightning.segmenter.heads import ASPP

CALLBACKS = "lightning.pytorch.callbacks"
ONE_EACH = ["--data.batch_size", "1"]
"""Four ranks share four images."""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    return small_config(tmp_path_factory.mktemp("small"))


def fit(config: str, folder: Path, *words: str) -> Path:
    main(["fit", "--config", config, "--trainer.default_root_dir", str(folder), *words])
    return folder


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def callback(name: str, **options: object) -> str:
    given = json.dumps([{"class_path": f"{CALLBACKS}.{name}", "init_args": options}])
    return f"--trainer.callbacks+={given}"


WORK = {
    "accumulate_grad_batches": ["--trainer.accumulate_grad_batches", "2"],
    "benchmark": ["--trainer.benchmark", "true"],
    "deterministic": ["--trainer.deterministic", "true"],
    "detect_anomaly": ["--trainer.detect_anomaly", "true"],
    "gradient_clip_norm": ["--trainer.gradient_clip_val", "1"],
    "gradient_clip_value": ["--trainer.gradient_clip_val", "1", "--trainer.gradient_clip_algorithm", "value"],
    "inference_mode": ["--trainer.inference_mode", "false"],
    "limit_train_batches": ["--trainer.limit_train_batches", "1"],
    "limit_val_batches": ["--trainer.limit_val_batches", "0"],
    "log_every_n_steps": ["--trainer.log_every_n_steps", "0"],
    "max_epochs": ["--trainer.max_epochs", "1", "--trainer.max_steps", "-1"],
    "min_steps": ["--trainer.min_steps", "1"],
    "model_summary": ["--trainer.enable_model_summary", "true"],
    "num_sanity_val_steps": ["--trainer.num_sanity_val_steps", "0"],
    "overfit_batches": ["--trainer.overfit_batches", "1"],
    "precision_16": ["--trainer.precision", "16-mixed"],
    "precision_bf16": ["--trainer.precision", "bf16-mixed"],
    "profiler": ["--trainer.profiler", "simple"],
    "progress_bar": ["--trainer.enable_progress_bar", "true"],
    "reload_dataloaders": ["--trainer.reload_dataloaders_every_n_epochs", "1"],
    "sync_batchnorm": ["--trainer.sync_batchnorm", "true"],
    "use_distributed_sampler": ["--trainer.use_distributed_sampler", "false"],
    "val_check_interval_share": ["--trainer.val_check_interval", "0.5"],
    "val_check_interval_batches": ["--trainer.val_check_interval", "2"],
    "val_check_interval_epochs": ["--trainer.val_check_interval", "3", "--trainer.check_val_every_n_epoch", "null"],
    "DeviceStatsMonitor": [callback("DeviceStatsMonitor", cpu_stats=False), "--trainer.logger", "true"],
    "EarlyStopping": [callback("EarlyStopping", monitor="val/camvid/miou", mode="max")],
    "GradientAccumulationScheduler": [callback("GradientAccumulationScheduler", scheduling={"0": 2})],
    "LearningRateMonitor": [callback("LearningRateMonitor"), "--trainer.logger", "true"],
    "ModelSummary": [callback("ModelSummary", max_depth=2)],
    "OnExceptionCheckpoint": [callback("OnExceptionCheckpoint", dirpath="unused")],
    "RichModelSummary": [callback("RichModelSummary", max_depth=2)],
    "RichProgressBar": [callback("RichProgressBar"), "--trainer.enable_progress_bar", "true"],
    "max_time": ["--trainer.max_time", "00:01:00:00"],
    "WeightAveraging": [callback("WeightAveraging")],
}
"""Options and callbacks of Lightning that work, each by its name."""

TOGETHER = [
    ["accumulate_grad_batches", "gradient_clip_norm", "log_every_n_steps", "LearningRateMonitor", "DeviceStatsMonitor"],
    ["precision_bf16", "detect_anomaly", "val_check_interval_epochs", "profiler", "EarlyStopping"],
    ["overfit_batches", "deterministic", "use_distributed_sampler", "RichProgressBar", "RichModelSummary"],
    ["limit_train_batches", "val_check_interval_share", "GradientAccumulationScheduler", "inference_mode"],
]
"""Flags that are tried together, to save time; `make test-slow` tries each by itself."""


@pytest.mark.parametrize(
    "flags", [*TOGETHER, *(pytest.param([flag], marks=pytest.mark.slow) for flag in WORK)], ids=lambda flags: flags[0]
)
def test_flags_work(config, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    folder = fit(config, tmp_path / "run", *(word for flag in flags for word in WORK[flag]))
    assert last(folder)["global_step"] == 2
    assert load_segmenter(folder).num_classes == 19


def message_of(capsys, *words: str) -> str:
    """Run a command that ends in an error, and return its last line."""
    with pytest.raises(SystemExit, match=r"[12]"):
        main(list(words))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("ppar: error: ")
    return line


REFUSED = {
    "precision_64": (["--trainer.precision", "64-true"], "32-true"),
    "precision_bf16": (["--trainer.precision", "bf16-true"], "bf16-mixed"),
    "precision_16": (["--trainer.precision", "16-true"], "16-mixed"),
    "transformer_engine": (["--trainer.precision", "transformer-engine"], "32-true"),
    "barebones": (["--trainer.barebones", "true"], "leave it out"),
    "enable_checkpointing": (["--trainer.enable_checkpointing", "false"], "--trainer.fast_dev_run true"),
    "ddp_spawn": (["--trainer.strategy", "ddp_spawn"], "--trainer.strategy ddp"),
    "ddp_notebook": (["--trainer.strategy", "ddp_notebook"], "--trainer.strategy ddp"),
    "ddp_fork": (
        ["--trainer.strategy", "DDPStrategy", "--trainer.strategy.start_method", "fork"],
        "--trainer.strategy ddp",
    ),
    "fsdp": (["--trainer.strategy", "fsdp"], "--config strategies/fsdp"),
    "deepspeed": (["--trainer.strategy", "deepspeed_stage_2"], "--config strategies/fsdp"),
    "StochasticWeightAveraging": ([callback("StochasticWeightAveraging", swa_lrs=0.01)], "set --model.ema"),
    "BatchSizeFinder": ([callback("BatchSizeFinder")], "--data.batch_size"),
    "LearningRateFinder": ([callback("LearningRateFinder")], "--model.optimizer.lr"),
    "BackboneFinetuning": ([callback("BackboneFinetuning")], "--model.segmenter.freeze_stages"),
    "Timer": ([callback("Timer")], "--trainer.max_time"),
    "ModelPruning": ([callback("ModelPruning", pruning_fn="l1_unstructured")], "leave it out"),
    "averaged_shards": (["--config", "strategies/fsdp", callback("EMAWeightAveraging")], "--trainer.strategy ddp"),
}
"""What is refused: its words, and the part of the line that says what to give."""

FOLLOWED = {
    "precision_64": ["--trainer.precision", "32-true"],
    "precision_bf16": ["--trainer.precision", "bf16-mixed"],
    "precision_16": ["--trainer.precision", "16-mixed"],
    "barebones": [],
    "ddp_spawn": ["--trainer.strategy", "ddp"],
    "averaged_shards": ["--trainer.strategy", "ddp", callback("EMAWeightAveraging")],
    "fsdp": ["--config", "strategies/fsdp"],
    "StochasticWeightAveraging": ["--model.ema.decay", "0.9"],
    "BatchSizeFinder": ["--data.batch_size", "4"],
    "LearningRateFinder": ["--model.optimizer.lr", "0.01"],
    "BackboneFinetuning": ["--model.segmenter.freeze_stages", "1"],
    "Timer": ["--trainer.max_time", "00:01:00:00"],
}
"""The words that follow what the line says."""


@pytest.fixture(scope="module")
def cli(config) -> PPARCLI:
    """The command line of a fit that does not start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PPARCLI, "_run_subcommand", lambda *_: None)
        return PPARCLI(args=["fit", "--config", config])


@pytest.mark.parametrize("name", REFUSED)
def test_a_flag_that_no_run_can_use_is_refused(config, cli, name):
    words, remedy = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(remedy)):
        refuse_flags(cli.parser.parse_args(named_configs(["fit", "--config", config, *words])).fit.trainer)


@pytest.mark.parametrize("seed", ["-1", "true", "null", "4294967296"])
def test_a_seed_that_the_record_could_not_name_is_refused(config, cli, capsys, seed):
    with pytest.raises(SystemExit, match="2"):
        cli.parser.parse_args(["fit", "--config", config, "--seed_everything", seed])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('ppar: error: Parser key "seed_everything": ')
    assert line.endswith("; give a whole number from 0 to 4294967295")
    for right in re.search(r"(\d+) to (\d+)$", line).groups():
        assert cli.parser.parse_args(["fit", "--config", config, "--seed_everything", right]).fit.data.seed == int(
            right
        )


def test_a_model_keeps_no_reference_to_the_command_line(cli):
    """Copies of it, which averaging weights makes, would copy the trainer too, and several ranks cannot."""
    assert len(pickle.dumps(cli.model.optimizer)) < 10_000


def test_doctor_refuses_what_fit_refuses_before_anything_is_built(config, tmp_path, capsys):
    root = ["--trainer.default_root_dir", str(tmp_path / "run")]
    line = message_of(capsys, "fit", "--config", config, *root, *REFUSED["Timer"][0])
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit, match="1"):
        main(["doctor", "--config", config, "--output", str(tmp_path / "doctor"), *REFUSED["Timer"][0]])
    assert f"error  trial: {line.removeprefix('ppar: error: ')}" in capsys.readouterr().out


QUICK = ("precision_64",)


@pytest.mark.remedy("cli/flags.py::refuse_flags")
@pytest.mark.remedy("cli/flags.py::refuse_flags")
@pytest.mark.remedy("cli/flags.py::refuse_flags")
@pytest.mark.remedy("cli/flags.py::refuse_flags")
@pytest.mark.remedy("cli/flags.py::refuse_flags")
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in FOLLOWED if n not in QUICK)]
)
def test_a_run_that_does_what_the_refusal_says_works(config, tmp_path, name):
    words = ["--trainer.default_root_dir", str(tmp_path / "run"), *FOLLOWED[name]]
    ranks = {"fsdp": 4, "ddp_spawn": 2, "averaged_shards": 2}.get(name, 1)
    if ranks > 1:  # as torchrun starts them
        run_ranks(ranks, main, ["fit", "--config", config, *words, "--trainer.devices", str(ranks), *ONE_EACH])
    else:
        main(["fit", "--config", config, *words])
    assert last(tmp_path / "run")["global_step"] == 2


@pytest.mark.slow
def test_a_trial_run_takes_the_place_of_a_run_without_checkpoints(config, tmp_path, capsys):
    root = ["--config", config, "--trainer.default_root_dir", str(tmp_path / "run")]
    assert "--trainer.fast_dev_run true" in message_of(capsys, "fit", *root, *REFUSED["enable_checkpointing"][0])
    main(["fit", *root, "--trainer.fast_dev_run", "true"])
    assert not (tmp_path / "run").exists()


@pytest.mark.remedy("segmenter/heads.py::ASPP.forward")
def test_a_head_that_norms_one_image_says_so_in_a_loop_of_ones_own():
    head = ASPP(4, 4, (1,))
    with pytest.raises(ValueError, match="set --data.batch_size 2"):
        head(torch.rand(1, 4, 2, 2))
    assert head(torch.rand(2, 4, 2, 2)).isfinite().all()
    assert head.eval()(torch.rand(1, 4, 2, 2)).isfinite().all()


def test_averaged_weights_are_those_of_the_checkpoint(config, tmp_path):
    """With decay 1 the average stays at the weights of the first step, so it can be told from the trained weights."""
    words = [callback("EMAWeightAveraging", decay=1.0), "--checkpoint.every_n_train_steps", "1"]
    folder = fit(config, tmp_path / "run", *words, "--checkpoint.save_top_k", "-1")
    (first,), (second,) = ((folder / "checkpoints").glob(f"*step={step}.ckpt") for step in (1, 2))
    name = "segmenter.classifier.weight"
    trained = [torch.load(path, weights_only=True)["current_model_state"][name] for path in (first, second)]
    assert not torch.equal(*trained)
    assert torch.equal(last(folder)["state_dict"][name], trained[0])
    assert torch.equal(load_segmenter(folder).classifier.weight, trained[0])


def test_the_last_checkpoint_holds_the_average_and_what_a_longer_run_goes_on_from(config, tmp_path):
    folder = fit(config, tmp_path / "run", "--model.ema.decay", "0.5")
    name, found = "segmenter.classifier.weight", last(folder)
    assert not torch.equal(found["state_dict"][name], found["current_model_state"][name])
    assert torch.equal(load_segmenter(folder).classifier.weight, found["state_dict"][name])
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["ema"] == {"decay": 0.5, "start": 0}


@pytest.mark.slow
@pytest.mark.parametrize("average", [callback("EMAWeightAveraging"), "--model.ema={}"])
def test_an_averaged_run_is_tested_and_continued_without_warnings(config, tmp_path, capsys, recwarn, average):
    words = [average, "--trainer.max_epochs", "2", "--trainer.max_steps", "-1"]
    folder = fit(config, tmp_path / "run", *words)
    main(["test", "--config", f"{folder}/config.yaml"])
    main(["fit", "--config", f"{folder}/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    assert last(folder)["global_step"] == 6
    assert "WeightAveraging" not in capsys.readouterr().err
    assert not [each for each in recwarn if "WeightAveraging" in str(each.message)]


METRIC = ["--checkpoint.monitor", "val/camvid/miou", "--checkpoint.mode", "max", "--checkpoint.save_top_k", "1"]


@pytest.mark.remedy("runs/checkpoints.py::best_checkpoint")
@pytest.mark.remedy("runs/checkpoints.py::best_checkpoint")
def test_the_best_checkpoint_of_a_run_is_tested_also_after_it_was_moved(config, tmp_path):
    with pytest.raises(ValueError, match="no single best checkpoint but none.* train with --checkpoint.monitor METRIC"):
        best_checkpoint(tmp_path / "run")
    folder = fit(config, tmp_path / "run", *METRIC).rename(tmp_path / "moved")
    (chosen,) = (folder / "checkpoints").glob("epoch*.ckpt")
    main(["test", "--config", f"{folder}/config.yaml", "--ckpt_path", "best"])
    assert json.loads((folder / "test.json").read_text())["checkpoint"] == f"checkpoints/{chosen.name}"
    chosen.unlink()
    with pytest.raises(FileNotFoundError, match="is gone: leave --ckpt_path best out"):
        best_checkpoint(folder)
    main(["test", "--config", f"{folder}/config.yaml"])
    assert json.loads((folder / "test.json").read_text())["checkpoint"] == "checkpoints/last.ckpt"


@pytest.mark.slow
@pytest.mark.remedy("cli/training.py::PPARCLI.before_instantiate_classes")
@pytest.mark.remedy("cli/training.py::call")
def test_a_checkpoint_that_would_run_code_and_one_that_fit_has_written(config, tmp_path, capsys):
    folder = fit(config, tmp_path / "run")
    test = ["test", "--config", f"{folder}/config.yaml"]
    line = message_of(capsys, *test, "--weights_only", "false")
    assert "--weights_only false would let a checkpoint run code, which none needs; leave it out" in line
    main(test)
    torch.save({"state_dict": print}, tmp_path / "trap.ckpt")
    line = message_of(capsys, *test, "--ckpt_path", (tmp_path / "trap.ckpt").as_uri())
    assert "give a checkpoint that `ppar fit` has written" in line
    main([*test, "--ckpt_path", (folder / "checkpoints" / "last.ckpt").as_uri()])


@pytest.mark.slow
@pytest.mark.remedy("cli/training.py::call")
def test_an_error_of_lightning_is_one_line_and_its_traceback_a_variable_away(config, tmp_path, capsys, monkeypatch):
    words = ["--config", config, callback("EarlyStopping", monitor="nothing"), "--trainer.default_root_dir"]
    line = message_of(capsys, "fit", *words, str(tmp_path / "run"))
    assert "metric `nothing` which is not available" in line
    monkeypatch.setenv(*line.rpartition("; ")[2].partition(" shows")[0].split("="))
    with pytest.raises(ValueError, match="nothing") as error:
        main(["fit", *words, str(tmp_path / "again")])
    assert isinstance(error.value.__cause__, RuntimeError)


HOME = {
    "config": ["fit", "--config=~/small.yaml"],
    "default_root_dir": ["fit", "--trainer.default_root_dir=~/run"],
    "yaml": ["fit", "--config", "home.yaml"],
    "sources": ["fit", "--data.sources.camvid.root=~/camvid"],
    "unseen": ["fit", "--data.unseen.urbansyn.root", "~/urbansyn"],
    "backbone": ["fit", "--model.segmenter.backbone=~/resnet"],
    "clip": ["fit", "--model.ppar.clip=~/clip"],
    "text_embeddings": ["fit", "--model.ppar.text_embeddings", "~/text.npy"],
    "ckpt_path": ["fit", "--ckpt_path=~/run/checkpoints/last.ckpt"],
    "predictions": ["fit", "--predictions.folder=~/out"],
    "pictures": ["fit", """--data.predict_dir=["~/a", "~/b"]"""],
    "logger": [
        "fit",
        "--trainer.logger=CSVLogger",
        "--trainer.logger.save_dir=~/logs",
    ],
}


@pytest.mark.parametrize("option", HOME)
def test_the_home_folder_is_expanded_in_every_option(config, cli, tmp_path, monkeypatch, option):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    text = Path(config).read_text().replace("max_steps: 2", "max_steps: 2\n  default_root_dir: ~/run")
    for name in ("small.yaml", "home.yaml"):
        (tmp_path / name).write_text(text)
    command, *words = map(expanded, HOME[option])
    own = [] if "--config" in words[0] else ["--config", config]
    parsed = cli.parser.parse_args([command, *own, *words])
    found = yaml.safe_load(cli.parser.dump(parsed, skip_none=False))
    assert "~" not in yaml.safe_dump({**found[command], "config": None})
    assert str(tmp_path) in str(found)


@pytest.mark.slow
def test_no_command_makes_a_folder_of_that_name(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", config, "--trainer.default_root_dir=~/run"])
    write_image(tmp_path / "street.png")
    main(["predict", "~/street.png", "--run", "~/run", "--predictions.folder", "~/out"])
    main(["test", "--config", "~/run/config.yaml"])
    main(["export", "--run", "~/run", "--format", "torch", "--output", "~/s.pt2"])
    main(["report", "~/run", "--html", "--output", "~/page"])
    with pytest.raises(SystemExit, match="0"):
        main(["doctor", "--config", "~/run/config.yaml", "--output", "~/doctor"])
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"run", "out", "s.pt2", "page", "doctor"}
    assert "~" not in names


@pytest.mark.slow
@pytest.mark.remedy("runs/checkpoints.py::best_checkpoint")
def test_no_best_checkpoint_or_several(config, tmp_path, capsys):
    folder = fit(config, tmp_path / "run")
    test = ["test", "--config", f"{folder}/config.yaml", "--ckpt_path"]
    line = message_of(capsys, *test, "best")
    assert "give one as --ckpt_path, or train with --checkpoint.monitor METRIC --checkpoint.save_top_k 1" in line
    fit(config, tmp_path / "again", *METRIC)
    main([*test[:2], f"{tmp_path}/again/config.yaml", "--ckpt_path", "best"])
    loss = callback("ModelCheckpoint", monitor="train/loss", dirpath=f"{tmp_path}/two", save_top_k=1)
    two = fit(config, tmp_path / "two", *METRIC, loss)
    line = message_of(capsys, *test[:2], f"{two}/config.yaml", "--ckpt_path", "best")
    first, second = re.findall(r"several \((.*)\):", line)[0].split(" or ")
    for path in (first, second):
        main([*test[:2], f"{two}/config.yaml", "--ckpt_path", path])
