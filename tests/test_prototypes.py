import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from transformers import CLIPModel

from ppar_lightning.disk.cache import cache_folder
from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.method.bank import VisualBank
from ppar_lightning.method.clip import embed_texts
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.prototypes import Prototypes, vtp_sums
from ppar_lightning.method.text import TEMPLATES, sentences, text_prototypes


def test_prompt_sets_describe_every_class():
    assert len(set(TEMPLATES["clip80"])) == 80
    assert sentences("photo", CITYSCAPES.words)[15] == ["a photo of a bus"]
    assert sentences("bare", CITYSCAPES.words)[0] == ["road", "street"]
    for prompts, templates in TEMPLATES.items():
        assert all(t.count("{}") == 1 for t in templates), prompts


def test_otp_is_the_unit_mean_of_the_sentences_and_comes_from_the_cache_the_second_time(clip_folder, monkeypatch):
    options = PPAROptions(clip=str(clip_folder), prompts="driving")
    text = text_prototypes(options, CITYSCAPES.words)
    expected = embed_texts(str(clip_folder), sentences("driving", CITYSCAPES.words)[0]).sum(dim=0)
    torch.testing.assert_close(text[0], normalize(expected, dim=0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(19))
    assert len(list(cache_folder().iterdir())) == 1
    monkeypatch.setattr("ppar_lightning.method.text.embed_texts", None)
    assert torch.equal(text_prototypes(options, CITYSCAPES.words), text)


def test_the_cache_notices_other_weights_and_another_tokenizer(clip_folder, tmp_path):
    copy = tmp_path / "clip"
    copy.mkdir()
    for path in clip_folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    options = PPAROptions(clip=str(copy))
    before = text_prototypes(options, CITYSCAPES.words)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["o"], words["z"] = words["z"], words["o"]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    repaired = text_prototypes(options, CITYSCAPES.words)
    assert not torch.allclose(repaired[0], before[0])  # road
    before = repaired
    from transformers import CLIPModel

    torch.manual_seed(1)
    CLIPModel(CLIPModel.from_pretrained(copy).config).save_pretrained(copy)
    assert not torch.allclose(text_prototypes(options, CITYSCAPES.words), before)


def test_centred_prototypes_are_unit_and_spread_wider(clip_folder):
    plain = text_prototypes(PPAROptions(clip=str(clip_folder)), CITYSCAPES.words)
    centred = text_prototypes(PPAROptions(clip=str(clip_folder), centre=True), CITYSCAPES.words)
    off = ~torch.eye(19, dtype=torch.bool)
    assert (centred @ centred.T)[off].mean() < (plain @ plain.T)[off].mean()
    torch.testing.assert_close(centred.norm(dim=1), torch.ones(19))


def test_random_text_has_the_shape_of_the_text_and_nothing_else_of_it(clip_folder, tmp_path):
    random = text_prototypes(PPAROptions(clip=str(clip_folder), random_text=True), CITYSCAPES.words)
    text = text_prototypes(PPAROptions(clip=str(clip_folder)), CITYSCAPES.words)
    assert random.shape == text.shape
    torch.testing.assert_close(random.norm(dim=1), torch.ones(19))
    np.save(tmp_path / "text.npy", np.random.default_rng(1).normal(size=text.shape))
    file = PPAROptions(text_embeddings=str(tmp_path / "text.npy"), random_text=True, centre=True)
    assert torch.equal(text_prototypes(file, CITYSCAPES.words), random)  # of every run, whatever the text


def test_a_file_of_embeddings_replaces_the_text_tower(tmp_path):
    rows = np.random.default_rng(0).normal(size=(19, 16)).astype(np.float16)
    np.save(tmp_path / "text.npy", rows)
    text = text_prototypes(PPAROptions(text_embeddings=str(tmp_path / "text.npy")), CITYSCAPES.words)
    torch.testing.assert_close(text, normalize(torch.from_numpy(rows).float(), dim=1))


@pytest.mark.remedy("method/text.py::read_embeddings")
@pytest.mark.parametrize("bad", [np.zeros((18, 16)), np.zeros(19), np.full((19, 4), np.nan), np.zeros((19, 4), int)])
def test_a_file_of_the_wrong_shape_is_named(tmp_path, bad):
    np.save(tmp_path / "text.npy", bad)
    options = PPAROptions(text_embeddings=str(tmp_path / "text.npy"))
    with pytest.raises(ValueError, match=r"text\.npy .*need finite floats of shape \(19, D\), one row per class"):
        text_prototypes(options, CITYSCAPES.words)
    np.save(tmp_path / "text.npy", np.ones((19, 16)))
    assert text_prototypes(options, CITYSCAPES.words).shape == (19, 16)


@pytest.mark.remedy("method/text.py::read_embeddings")
def test_a_file_that_is_no_array_or_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = PPAROptions(text_embeddings="~/text.npy")
    with pytest.raises(
        FileNotFoundError, match=f"{tmp_path}/text.npy not found: name a file that exists as ppar.text_"
    ):
        text_prototypes(options, CITYSCAPES.words)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"text\.npy is no \.npy array of numbers .* save one with numpy.save"):
        text_prototypes(options, CITYSCAPES.words)
    np.save(tmp_path / "text.npy", np.ones((19, 16)))
    assert text_prototypes(options, CITYSCAPES.words).shape == (19, 16)


@pytest.mark.remedy("method/options.py::PPAROptions.__post_init__")
@pytest.mark.parametrize("given", [[], ["a picture"], ["a picture of a {}", "another"]])
def test_own_sentences_have_a_place_for_the_class(given):
    with pytest.raises(
        ValueError, match=r"ppar.prompts is .*: give sentences with \{\}, such as 'a picture of a \{\}'"
    ):
        PPAROptions(prompts=given)
    own = PPAROptions(prompts=["a picture of a {}", "{x} {}"]).prompts
    assert sentences(own, [["crate", "box"]]) == [
        ["a picture of a crate", "{x} crate", "a picture of a box", "{x} box"]
    ]


@pytest.mark.remedy("method/clip.py::clip_config")
def test_a_model_that_is_no_clip_of_two_towers_is_named(clip_folder, tmp_path):
    CLIPModel.from_pretrained(clip_folder).vision_model.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="is a 'clip_vision_model', not a CLIP with two towers: name a whole CLIP as ppa"
    ):
        text_prototypes(PPAROptions(clip=str(tmp_path)), CITYSCAPES.words)
    text_prototypes(PPAROptions(clip=str(clip_folder)), CITYSCAPES.words)


def test_a_clip_that_cannot_be_fetched_is_named_with_the_remedy():
    with pytest.raises(OSError, match="'openai/absent' cannot be loaded.*hf download openai/absent"):
        text_prototypes(PPAROptions(clip="openai/absent"), CITYSCAPES.words)


def test_vtp_is_unit_starts_near_otp_and_differs_between_images():
    torch.manual_seed(0)
    text = normalize(torch.randn(19, 16), dim=1)
    memory = Prototypes(text, 0.99).eval()
    vtp = memory(torch.randn(2, 7, 16))
    torch.testing.assert_close(vtp.norm(dim=-1), torch.ones(2, 19))
    assert ((vtp * text).sum(dim=-1) > 0.99).all()
    assert not torch.allclose(vtp[0], vtp[1], atol=1e-4)
    vtp.sum().backward()
    assert memory.gamma.grad is not None
    assert "otp" not in dict(memory.named_parameters())


def test_the_bank_moves_to_the_mean_over_images_and_leaves_absent_classes_alone():
    text = normalize(torch.randn(3, 4), dim=1)
    memory = Prototypes(text, momentum=0.9)
    vtp = normalize(torch.randn(2, 3, 4), dim=-1)
    present = torch.tensor([[True, True, False], [True, False, False]])
    memory.update(vtp_sums(vtp, present))
    torch.testing.assert_close(memory.bank[0], normalize(0.9 * text[0] + 0.1 * (vtp[0, 0] + vtp[1, 0]) / 2, dim=0))
    torch.testing.assert_close(memory.bank[1], normalize(0.9 * text[1] + 0.1 * vtp[0, 1], dim=0))
    assert torch.equal(memory.bank[2], text[2])
    assert torch.equal(memory.otp, text)


def test_the_visual_bank_assigns_first_and_moves_by_weight_later():
    bank = VisualBank(3, 2, momentum=0.5)
    bank.update(torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert bank.bank.tolist() == [[1, 0], [0, 1], [0, 0]]
    bank.update(torch.tensor([[0.0, 32.0, 32.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    mu = 0.5**0.5
    torch.testing.assert_close(bank.bank[0], normalize(torch.tensor([mu, 1 - mu]), dim=0))
    assert bank.bank[1].tolist() == [0, 1]
