"""The public API: a trained segmenter from a run, a checkpoint or a saved folder, alone and the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import GatedRepoError
from PIL import Image
from safetensors.torch import save_file
from test_cli import evaluate, fit

import ppar_lightning
from ppar_lightning import Segmenter, load, load_segmenter
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.images.window import Window
from ppar_lightning.segmenter.inputs import to_image
from ppar_lightning.segmenter.pretrained import CLIP_MEAN_STD, IMAGENET_MEAN_STD


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("load") / "run", "--trainer.max_steps", "2", "--model.ppar.enabled", "false")


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return Segmenter("resnet_small", head="fpn", decoder_channels=8, pretrained=False).eval()


@pytest.mark.parametrize(
    ("backbone", "head"),
    [("tinyclip", "pyramid"), ("tinyclip", "concat"), ("resnet_small", "deeplabv3plus"), ("efficientnet_lite0", "fpn")],
)
def test_a_saved_segmenter_is_built_again_without_its_backbones_name(backbone, head, tmp_path, picture):
    made = Segmenter(backbone, head, decoder_channels=8, pretrained=backbone != "resnet_small").eval()
    made.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config | {"backbone": "nowhere/to-be-found"}))
    again = load_segmenter(tmp_path / "saved")
    assert torch.equal(again(to_image(picture)[None]), made(to_image(picture)[None]))
    assert not again.training
    again.save_pretrained(tmp_path / "again")
    assert load_segmenter(tmp_path / "again").description == again.description


def test_a_segmenter_pushed_to_the_hub_can_be_built_again(segmenter, tmp_path, monkeypatch):
    def upload(_, folder_path, **options):
        shutil.copytree(folder_path, tmp_path / "hub")
        return "commit"

    monkeypatch.setattr(
        HfApi, "create_repo", lambda *_, repo_id, **options: RepoUrl(f"https://huggingface.co/{repo_id}")
    )
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert segmenter.push_to_hub("someone/segmenter") == "commit"
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config == json.loads(json.dumps(segmenter.description))
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config | {"backbone": "nowhere/to-be-found"}))
    assert load_segmenter(tmp_path / "hub").description["backbone_config"] == segmenter.description["backbone_config"]


def test_run_and_checkpoint_give_what_was_trained_with_no_config_file(run, tmp_path, picture):
    loaded = load_segmenter(run)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, state[f"segmenter.{name}"])
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    assert torch.equal(load_segmenter(alone).predict(picture), loaded.predict(picture))


def test_every_kind_of_picture_gives_the_same_map(segmenter, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    kinds = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), picture, tensor, tensor / 255]
    maps = [segmenter.predict(each) for each in kinds]
    assert maps[0].shape == (50, 70)
    assert maps[0].dtype == torch.uint8
    assert all(torch.equal(each, maps[0]) for each in maps)
    assert torch.equal(segmenter.predict(picture, Window(96, 64)), maps[0])  # it covers the picture
    assert not torch.equal(segmenter.predict(picture, Window(32, 16)), maps[0])


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_picture_taken_sideways_is_turned_upright(picture, tmp_path, name):
    image = Image.fromarray(picture)
    tags = image.getexif()
    tags[274] = 6  # turned by a quarter
    image.save(tmp_path / name, exif=tags)
    upright = to_image(tmp_path / name)
    assert upright.shape == (3, 70, 50)
    assert (to_image(Image.open(tmp_path / name)) - upright).abs().max() <= 3 / 255  # two decoders of JPEG


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_a_file_are_scaled(tmp_path, name):
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(deep).save(tmp_path / name)
    with pytest.raises(ValueError, match="mode 'I;16' is no picture: give one in RGB, or its path"):
        to_image(Image.open(tmp_path / name))
    assert torch.equal(to_image(tmp_path / name)[0], torch.from_numpy(deep // 256).float() / 255)


@pytest.mark.filterwarnings("error")
def test_a_picture_that_may_not_be_written_to_is_copied(picture):
    picture.setflags(write=False)
    assert torch.equal(to_image(picture), to_image(Image.fromarray(picture)))


@pytest.mark.remedy("segmenter/inputs.py::to_image")
@pytest.mark.remedy("segmenter/inputs.py::_from_pil")
@pytest.mark.parametrize(
    "given",
    [
        *(np.zeros((4, 5)), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)),
        *(torch.zeros(4, 5, 3), torch.zeros(3, 4, 5, dtype=torch.int64), torch.zeros(3, 0, 5)),
        *(torch.full((3, 4, 5), 255.0), torch.full((3, 4, 5), -0.1), torch.full((3, 4, 5), torch.nan)),
        *(Image.new("I", (4, 5)), Image.new("F", (4, 5)), 7),
    ],
)
def test_what_is_no_picture_is_named(segmenter, given, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    remedies = {
        "one in RGB, or its path": [Image.fromarray(picture), tmp_path / "a.png"],
        "a path, a PIL image, RGB (H, W, 3) uint8, or a tensor (3, H, W), uint8 or float in [0, 1]": [
            *(tmp_path / "a.png", Image.fromarray(picture), picture, tensor, tensor / 255)
        ],
    }
    with pytest.raises(ValueError, match="no picture: give ") as error:
        segmenter.predict(given)
    for good in remedies[str(error.value).partition("no picture: give ")[2]]:
        assert segmenter.predict(good).shape == picture.shape[:2]


def test_the_classes_and_their_colours(segmenter):
    assert segmenter.classes == CITYSCAPES


def test_classes_without_colours_get_some(tmp_path):
    names = [f"thing {k}" for k in range(254)]
    given = {"head": "fpn", "pretrained": False, "decoder_channels": 8}
    other = Segmenter("resnet_small", classes=[*names, {"name": "odd", "colour": [1, 2, 3], "words": ["x"]}], **given)
    assert other.classes[:2] == ("thing 0", "thing 1")
    colours = other.classes.palette[:255]
    assert len(np.unique(colours, axis=0)) == 255
    assert colours.any(axis=1).all()  # black is IGNORE's
    assert colours[254].tolist() == [1, 2, 3]
    other.save_pretrained(tmp_path)
    assert "It predicts 255 classes: `thing 0`, `thing 1`, " in (tmp_path / "README.md").read_text()
    assert load_segmenter(tmp_path).classes == other.classes
    config = json.loads((tmp_path / "config.json").read_text())
    del config["classes"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_classes": 255}))  # as 0.1.0 wrote it
    assert load_segmenter(tmp_path).classes[:2] == ("0", "1")


def test_the_normalisation_is_that_of_the_backbone(segmenter):
    clip = Segmenter("tinyclip", pretrained=False, decoder_channels=8)
    for network, values in ((clip, CLIP_MEAN_STD), (segmenter, IMAGENET_MEAN_STD)):
        for buffer, value in zip((network.backbone.mean, network.backbone.std), values, strict=True):
            assert buffer.flatten().tolist() == pytest.approx(value)


def test_the_card_says_how_it_is_loaded(segmenter, tmp_path):
    segmenter.save_pretrained(tmp_path, model_card_kwargs={"training_summary": "mIoU 12.3 by `full`"})
    card = (tmp_path / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "mIoU 12.3 by `full`" in card
    assert "load_segmenter" in card
    assert "It predicts 19 classes: `road`, `sidewalk`, " in card


def card(source, folder) -> str:
    load_segmenter(source).save_pretrained(folder)
    return (folder / "README.md").read_text()


def test_the_card_of_a_run_has_its_data_and_its_scores(run, tmp_path):
    assert "This checkpoint was not scored" in card(run, tmp_path / "untested")
    test = evaluate(run)
    assert test["checkpoint"] == "checkpoints/last.ckpt"
    text = card(run, tmp_path / "tested")
    manifest = json.loads((run / "manifest.json").read_text())
    assert f"| game/train | 8 | `{manifest['data']['game/train']['hash']}` |" in text
    assert f"Seed 0, 0 min on {manifest['sessions'][0]['hardware']}, git revision" in text
    for name, role in {"game": "source", "fog": "unseen"}.items():
        domain = test["domains"][name]
        assert f"| {name} | {role} | full | {domain['images']} of 60 | {100 * domain['miou']:.1f} |" in text
    assert f"| unseen (mean) |  |  | of parts | {100 * test['unseen_miou']:.1f} |" in text
    assert "not recorded" in card(run / "checkpoints" / "last.ckpt", tmp_path / "alone")


@pytest.mark.parametrize("change", [{"checkpoint": "other.ckpt"}, {"started": "2000-01-01T00:00:00+00:00"}])
def test_scores_of_another_checkpoint_are_not_on_the_card(run, tmp_path, change):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "test.json"
    path.write_text(json.dumps(evaluate(run) | change))
    assert "This checkpoint was not scored" in card(tmp_path / "run", tmp_path / "saved")


def test_a_run_whose_record_is_damaged_is_loaded_without_it(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text("{}")
    assert "not recorded" in card(tmp_path / "run", tmp_path / "saved")


@pytest.mark.remedy("load.py::read_weights")
@pytest.mark.remedy("load.py::read_weights")
@pytest.mark.remedy("load.py::_from_checkpoint")
@pytest.mark.remedy("load.py::_from_checkpoint")
def test_what_cannot_be_loaded_is_named(run, segmenter, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no\.ckpt not found: give a checkpoint that `ppar fit` has written"):
        load_segmenter(own / "no.ckpt")
    with pytest.raises(FileNotFoundError, match="neither a run .*: name a folder that `ppar fit` or save_pretrained"):
        load_segmenter(own)
    (own / "config.yaml").touch()
    with pytest.raises(FileNotFoundError, match="no checkpoint yet; wait for the first, or resume `ppar fit`"):
        load_segmenter(own)
    torch.save({"state_dict": {}}, own / "other.ckpt")
    with pytest.raises(ValueError, match="holds no segmenter: give one that `ppar fit` or"):
        load_segmenter(own / "other.ckpt")
    shutil.copytree(run, tmp_path / "run")
    checkpoint = (tmp_path / "run" / "checkpoints" / "last.ckpt").rename(tmp_path / "first.ckpt")
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        load_segmenter(tmp_path / "run")
    load_segmenter(checkpoint)
    checkpoint.rename(tmp_path / "run" / "checkpoints" / "last.ckpt")  # the first checkpoint is written
    load_segmenter(tmp_path / "run")
    segmenter.save_pretrained(tmp_path / "saved")
    load_segmenter(tmp_path / "saved")


@pytest.mark.remedy("load.py::load_segmenter")
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"decoder_channels": 16}, "size mismatch for head"),
        ({"colour": 1}, "unexpected keyword argument 'colour'"),
        ({"backbone_config": {}}, "choose a ResNet|model_type|is no config"),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_description_is_one_line(run, segmenter, tmp_path, change, fault):
    state = {f"segmenter.{name}": value for name, value in segmenter.state_dict().items()}
    path = tmp_path / "a.ckpt"
    torch.save({"segmenter": segmenter.description | change, "state_dict": state}, path)
    with pytest.raises(ValueError, match=rf"^{path} cannot be loaded \(.*{fault}.*\): give one that `ppar fit` or .*$"):
        load_segmenter(path)
    load_segmenter(run / "checkpoints" / "last.ckpt")  # `ppar fit` wrote it


def test_a_checkpoint_without_weights_is_one_line(segmenter, tmp_path):
    torch.save({"segmenter": segmenter.description}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"^.*a\.ckpt holds no state_dict: give one that `ppar fit` or .*$"):
        load_segmenter(tmp_path / "a.ckpt")


@pytest.mark.remedy("load.py::_from_saved")
@pytest.mark.parametrize("content", ['{"classes": ["a", "b"]}', "[]", "{"])
def test_a_saved_segmenter_that_does_not_fit_its_weights_is_one_line(segmenter, tmp_path, content):
    segmenter.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    changed = json.dumps(config | json.loads(content)) if content.endswith("}") else content
    (tmp_path / "config.json").write_text(changed)
    again = "give one that `ppar fit` or the save_pretrained of a segmenter of this version has written"
    with pytest.raises(ValueError, match=rf"^{tmp_path} cannot be loaded \(.+\): {again}$"):
        load_segmenter(tmp_path)
    segmenter.save_pretrained(tmp_path)
    load_segmenter(tmp_path)


def test_a_network_that_is_no_segmenter_is_not_taken_for_one(segmenter, tmp_path):
    segmenter.backbone.network.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"cannot be loaded \(.+\): give one that `ppar fit` or the save_pretrained of a segmenter"
    ):
        load_segmenter(tmp_path)


def test_weights_that_are_missing_are_not_drawn_instead(segmenter, tmp_path):
    segmenter.save_pretrained(tmp_path)
    save_file({"classifier.bias": torch.zeros(19)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"Missing key\(s\).* \.\.\.\): give one"):
        load_segmenter(tmp_path)


@pytest.mark.remedy("load.py::_from_saved")
@pytest.mark.parametrize("name", ["runs/typo", "typo", "typo/deeper/x", "no such name", "~/typo"])
def test_a_name_that_leads_nowhere_is_one_line(segmenter, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(
        FileNotFoundError, match=rf"^{name} is neither .* on the hub \(no such path, and .+\): give one that is there;"
    ):
        load_segmenter(name)
    segmenter.save_pretrained(Path(name).expanduser())
    load_segmenter(name)


def test_a_model_of_the_hub_whose_owner_gives_no_access_is_one_line(monkeypatch):
    def refuse(*_, **__):
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr(load, "hf_hub_download", refuse)
    with pytest.raises(FileNotFoundError, match="an owner who gives access, ask there, then `hf auth login`"):
        load_segmenter("someone/gated")


@pytest.mark.remedy("load.py::_from_saved")
def test_a_file_of_another_kind_is_one_line(segmenter, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    segmenter.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "a.png", tmp_path / "saved" / "model.safetensors"):
        with pytest.raises(
            ValueError, match="but a file of another kind: name the folder of the run or saved segmenter$"
        ):
            load_segmenter(path)
    load_segmenter(tmp_path / "saved")


@pytest.mark.remedy("__init__.py::__getattr__")
def test_a_name_that_the_package_does_not_have():
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'; it has Segmenter, load_segmenter") as error:
        _ = ppar_lightning.Segmentor
    for name in str(error.value).partition("it has ")[2].split(", "):
        assert callable(getattr(ppar_lightning, name))
