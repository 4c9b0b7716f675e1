"""Every file in configs/ parses, stays short, and trains two steps on trees as a download leaves them."""

import json
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from ranks import run_ranks
from stand_ins import plain_vit, resnet, small_config, text_embeddings
from transformers import CLIPModel
from trees import TREES, write_image

from ppar_lightning.cli import main
from ppar_lightning.cli.training import PPARCLI
from ppar_lightning.data.domain import Domain

CONFIGS = Path(__file__).parents[1] / "configs"
SOURCE = Path(__file__).parents[1] / "src" / "ppar_lightning"
FILES = sorted(CONFIGS.rglob("*.yaml"))
QUICK = [
    *("--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    *("--trainer.strategy", "auto", "--trainer.precision", "32-true", "--trainer.logger", "false"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--data.batch_size", "2", "--data.crop", "[64, 64]", "--data.workers", "0"),
]


@pytest.fixture(scope="module")
def cli(tmp_path_factory) -> PPARCLI:
    """The command line of a fit that does not start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PPARCLI, "_run_subcommand", lambda *_: None)
        return PPARCLI(args=["fit", "--config", small_config(tmp_path_factory.mktemp("small"))])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_short_and_accepted_by_the_parser(path, cli):
    assert len(path.read_text().splitlines()) <= 30
    base = [] if path.parent == CONFIGS else ["--config", str(CONFIGS / "demo.yaml")]
    parsed = cli.parser.parse_args(["fit", *base, "--config", str(path)]).fit
    written = yaml.safe_load(path.read_text())
    assert parsed.model.ppar.enabled == written.get("model", {}).get("ppar", {}).get("enabled", True)


@pytest.mark.remedy("shipped_configs.py::main")
def test_configs_are_listed_with_a_line_each_and_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["configs"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        (path.relative_to(CONFIGS).with_suffix("").as_posix() for path in FILES),
        key=lambda name: (name.count("/"), name),
    )
    assert all(re.match(r"\S+  +[A-Z\d].*\.$", line) and len(line) <= 120 for line in lines)
    main(["configs", "ablations/otp"])
    assert capsys.readouterr().out == (CONFIGS / "ablations" / "otp.yaml").read_text()
    with pytest.raises(SystemExit, match="1"):
        main(["configs", "gtaa"])
    assert "there is no config 'gtaa'; `ppar configs` lists them" in capsys.readouterr().err
    main(["configs"])
    main(["configs", next(line.split()[0] for line in capsys.readouterr().out.splitlines() if "gta" in line)])
    assert capsys.readouterr().out == (CONFIGS / "gta.yaml").read_text()


def test_a_config_is_found_by_its_name_unless_there_is_such_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def resolved(*words: str) -> dict:
        with pytest.raises(SystemExit, match="0"):
            main(["fit", *words, "--print_config"])
        return yaml.safe_load(capsys.readouterr().out)

    named = resolved("--config", "demo", "--config=ablations/otp", "-c", "strategies/fsdp")
    given = [word for name in ("demo", "ablations/otp", "strategies/fsdp") for word in ("-c", f"{CONFIGS}/{name}.yaml")]
    assert named == resolved(*given)
    (tmp_path / "demo").write_text("trainer: {max_steps: 7}\ndata: {sources: {game: {}}}\n")
    assert resolved("--config", "demo")["trainer"]["max_steps"] == 7


def real_files() -> list[Path]:
    return [path for path in FILES if path.parent == CONFIGS and "microsoft/resnet-50" in path.read_text()]


@pytest.mark.parametrize("path", real_files(), ids=lambda path: path.stem)
def test_real_recipes_open_every_domain_of_generated_trees(tmp_path, path):
    data = yaml.safe_load(path.read_text())["data"]
    domains = {**data["sources"], **data["unseen"]}
    assert all(domain["root"] == f"data/{name}" for name, domain in domains.items())
    for name in domains:
        root = str(TREES[name](tmp_path / name))
        for split in ("train", "eval") if name in data["sources"] else ("eval",):
            assert len(Domain(root=root).open(name, split)) > 0


def test_real_recipes_differ_in_their_domains_and_run_folder_alone():
    rest = []
    for path in real_files():
        written = yaml.safe_load(path.read_text().replace(f"runs/{path.stem}", "runs/x"))
        del written["data"]["sources"], written["data"]["unseen"]
        rest.append(written)
    assert len(rest) == 4
    assert all(written == rest[0] for written in rest)


def test_the_twin_with_ppar_differs_from_its_setting_as_the_overlay_says():
    setting, twin, overlay = (
        yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        for name in ("gta_dinov2", "gta_dinov2_ppar", "ablations/ppar")
    )
    setting["model"]["ppar"] |= overlay["model"]["ppar"]
    setting["trainer"]["default_root_dir"] += "_ppar"
    assert twin == setting


@pytest.mark.parametrize("name", ["gta_dinov2", "gta_dinov2_ppar", "gta_dinov3", "gta_siglip2", "gta_soma"])
def test_settings_of_foundation_models_are_scored_by_the_protocol_of_their_recipe(name):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    data, trainer = config["data"], config["trainer"]
    assert (trainer["default_root_dir"], trainer["devices"]) == (f"runs/{name}", 1)
    published = yaml.safe_load((SOURCE / "report" / "published.yaml").read_text())["gta"]
    assert [*data["unseen"]] == published["domains"]
    assert any(f"40k x {data['batch_size']}" in row for row in published["protocols"][data["protocol"]])
    assert trainer["max_steps"] == 40000
    edges = [1052 * scale for scale in data["augmentation"]["scale"]]  # GTA5 has 1052 rows, Cityscapes 1024
    assert edges == pytest.approx([256, 1024], rel=0.02)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory, clip_folder) -> dict[str, list[str]]:
    """Config of a setting -> the options that put trees and tiny models in the place of downloads."""
    folder = tmp_path_factory.mktemp("stand_ins")
    models = ["--model.segmenter.backbone", resnet(folder / "resnet"), "--model.ppar.clip", str(clip_folder)]
    models += ["--model.ppar.text_embeddings", text_embeddings(folder / "text.npy", 16), "--model.ppar.context", "clip"]
    models += ["--model.segmenter.decoder_channels", "8", "--model.ppar.clip_dtype", "float32"]
    models += ["--prediction_grid.images", "0"]
    words, written = {}, {name: writer(folder / name) for name, writer in TREES.items() if "_" not in name}
    for path in FILES:
        config = yaml.safe_load(path.read_text())
        data, network = config.get("data", {}), config.get("model", {}).get("segmenter", {})
        if "adapter" in network and path.parent == CONFIGS:
            own = ["--model.segmenter.backbone", plain_vit(network["backbone"], folder / path.stem)]
            words[path.stem] = [*models, *own, "--data.sampling.min_pixels", "1"]
            words[path.stem] += ["--model.segmenter.decoder_channels", "32"] * (network["head"] == "mask2former")
            for name in ("bdd100k", "mapillary"):  # which the protocols of these settings show at 2048 x 1024
                words[path.stem] += [f"--data.unseen.{name}.protocol", "rein"]
        for group in ("sources", "unseen"):
            for name, options in data.get(group, {}).items():
                limit = [f"--data.{group}.{name}.limit", "4" if group == "sources" else "1"]
                root = [f"--data.{group}.{name}.root", str(written[name])] if options else []
                words.setdefault(path.stem, models.copy()).extend([*limit, *root])
    return words


ESSENTIAL = ("demo", "cityscapes_256", "gta_dinov2_ppar")
"""Settings of all kinds of backbone; the others are slow."""


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.stem in ESSENTIAL else pytest.mark.slow) for path in FILES],
    ids=lambda path: path.stem,
)
def test_fit_validate_test_and_predict_work_on_every_config(path, stand_ins, tmp_path):
    folder, words = tmp_path / "run", [*stand_ins[path.stem if path.stem in stand_ins else "demo"]]
    base = [] if path.parent == CONFIGS else ["--config", "demo"]
    ranks = 4 if path.parent.name == "strategies" else 1
    many = [*QUICK[:4], "--trainer.devices", "4", "--data.batch_size", "1", *QUICK[-4:]]
    words += QUICK if ranks == 1 else many

    def ppar(*words: str) -> None:
        run_ranks(ranks, main, list(words)) if ranks > 1 else main(list(words))

    root = ["--trainer.default_root_dir", str(folder), "--trainer.val_check_interval", "1"]
    ppar("fit", *base, "--config", str(path), *words, *root)
    assert json.loads((folder / "manifest.json").read_text())["finished"]
    config = ["--config", f"{folder}/config.yaml"]
    ppar("validate", *config)
    ppar("test", *config)
    scored = json.loads((folder / "test.json").read_text())["domains"]
    assert [*scored] == [word.split(".")[2] for word in words if word.endswith(".limit")]
    write_image(tmp_path / "street.png")
    ppar("predict", str(tmp_path / "street.png"), "--run", str(folder))
    assert (folder / "predictions" / "street.png").is_file()


@pytest.mark.slow
def test_cityscapes_256_trains_and_tests_on_generated_trees(tmp_path):
    city = TREES["cityscapes"](tmp_path / "cityscapes", suffix=".jpg")
    camvid = TREES["camvid"](tmp_path / "camvid")
    roots = ["--data.sources.cityscapes.root", str(city), "--data.unseen.camvid.root", str(camvid)]
    np.save(tmp_path / "text.npy", np.random.default_rng(0).normal(size=(19, 32)).astype(np.float16))
    roots += ["--model.ppar.text_embeddings", str(tmp_path / "text.npy")]
    config, run = str(CONFIGS / "cityscapes_256.yaml"), str(tmp_path / "run")
    main(["fit", "--config", config, "--trainer.default_root_dir", run, *QUICK, *roots])
    main(["test", "--config", f"{run}/config.yaml"])
    assert "camvid" in (tmp_path / "run" / "test.csv").read_text()
    more = {name: {"root": str(TREES[name](tmp_path / name))} for name in ("kitti", "acdc", "synthia")}
    main(["test", "--config", f"{run}/config.yaml", "--data.unseen", json.dumps(more)])
    table = (tmp_path / "run" / "test.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table[1:]] == ["cityscapes", "kitti", "acdc", "synthia"]


def test_the_towers_of_the_test_are_real_clips(clip_folder):
    assert CLIPModel.from_pretrained(clip_folder).config.projection_dim == 16


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name != "strategies"], ids=lambda path: path.stem
)
def test_doctor_export_and_the_page_of_every_setting(path, stand_ins, tmp_path):
    base = [] if path.parent == CONFIGS else ["--config", "demo"]
    words = stand_ins["demo" if base else path.stem]
    whole = [*base, "--config", str(path), *words, *QUICK, "--trainer.default_root_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="0"):
        main(["doctor", *whole, "--output", str(tmp_path / "doctor")])
    main(["fit", *whole])
    main(["test", "--config", f"{tmp_path}/run/config.yaml"])
    main(["report", f"{tmp_path}/run", "--html", "--output", str(tmp_path / "page")])
    assert {each.name for each in tmp_path.iterdir()} >= {"doctor", "page"}
    exported = "head: mask2former" not in path.read_text()  # which is refused: it is traced for one size alone
    with nullcontext() if exported else pytest.raises(SystemExit, match="1"):
        main(["export", "--run", f"{tmp_path}/run", "--format", "torch"])
    assert (tmp_path / "run" / "segmenter.pt2").is_file() == exported
