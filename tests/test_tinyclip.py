"""The tiny CLIP that ships: a real CLIP, small, that knows its 19 classes on streets it never saw."""

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.streets.render import SEEDS
from tools.tinyclip import PATH
from tools.tinyclip.batches import Batches
from tools.tinyclip.captions import CONDITIONS, object_caption, scene_caption
from tools.tinyclip.card import TEST_SEED, class_accuracy, class_embeddings, dense_miou
from tools.tinyclip.objective import contrastive_loss, named_loss
from tools.tinyclip.pictures import SIDE, Album, View, cut, render_album
from tools.tinyclip.train import TRAIN_SEED, batch_loss, new_model
from tools.tinyclip.vocabulary import learn_merges, train_tokenizer


@cache
def model() -> CLIPModel:
    return CLIPModel.from_pretrained(PATH, dtype=torch.float32).eval()


@cache
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(PATH)


@pytest.fixture(scope="module")
def album() -> Album:
    return render_album(TEST_SEED, 60, workers=0)


def test_folder_is_a_small_clip():
    assert sum(file.stat().st_size for file in PATH.iterdir()) <= 8_000_000
    processor = json.loads((PATH / "preprocessor_config.json").read_text())
    assert len(processor["image_mean"]) == len(processor["image_std"]) == 3
    config = model().config
    assert config.model_type == "clip"
    assert config.projection_dim == 128
    assert config.text_config.eos_token_id == tokenizer().eos_token_id


def test_seeds_of_training_and_test_are_apart():
    assert len({TRAIN_SEED, TEST_SEED, *SEEDS.values()}) == 4


@pytest.mark.slow
def test_class_prompts_are_nearest_to_held_out_crops(album):
    accuracy = class_accuracy(model(), tokenizer(), album, crops=12)
    assert np.nanmean(accuracy) > 0.35, dict(zip(CITYSCAPES, accuracy, strict=True))


@pytest.mark.slow
def test_patches_know_more_than_an_untrained_tower(album):
    few = Album(album.images[:12], album.labels[:12], album.conditions[:12], album.views)
    torch.manual_seed(0)
    chance = dense_miou(new_model(tokenizer()).eval(), tokenizer(), few)
    assert dense_miou(model(), tokenizer(), few) > 2 * chance


@torch.no_grad()
def test_class_prompts_differ():
    prompts = class_embeddings(model(), tokenizer())
    cosines = prompts @ prompts.T - torch.eye(len(CITYSCAPES))
    assert cosines.max() < 0.9


@pytest.mark.parametrize("text", ["a photo of a bus in fog", "itap of my Straßenbahn.", "日本 ~ 🚲", "", "word " * 200])
def test_any_string_tokenises(text):
    tokens = tokenizer()(text, truncation=True, return_tensors="pt")["input_ids"]
    assert tokens.shape[1] <= 77
    assert tokens[0, -1] == tokenizer().eos_token_id
    assert (tokens == tokenizer().eos_token_id).sum() == 1  # nothing became the unknown token, which is this one too
    assert model().text_model(tokens).pooler_output.isfinite().all()


def test_tokenizer_is_learnt_again_alike():
    assert train_tokenizer().get_vocab() == tokenizer().get_vocab()


def test_merges_follow_frequency_then_alphabet():
    words = Counter({("a", "b", "c</w>"): 2, ("a", "b", "d</w>"): 1, ("x", "y</w>"): 2})
    # ab occurs 3 times; then (ab, c) and (x, y) tie at 2; then (ab, d) at 1; then every word is one token
    assert list(learn_merges(words, 10)) == [("a", "b"), ("ab", "c</w>"), ("x", "y</w>"), ("ab", "d</w>")]
    assert list(learn_merges(words, 2)) == [("a", "b"), ("ab", "c</w>")]


def test_captions_name_what_they_are_about():
    rng = np.random.default_rng(0)
    caption = scene_caption(rng, [CITYSCAPES.index("sky")], ["fog"])
    assert "sk" in caption or "cloud" in caption or "heaven" in caption
    assert any(caption.endswith(phrase) for phrase in CONDITIONS["fog"])
    assert len({object_caption(rng, 3) for _ in range(50)}) > 20


def test_cut_centres_its_view():
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[18:22, 28:32] = 255
    crop = cut(image, View(0, 0, 29.5, 19.5, 8.0))
    assert crop.shape == (SIDE, SIDE, 3)
    rows, columns = np.nonzero(crop[..., 0] > 127)
    assert abs(rows.mean() - (SIDE - 1) / 2) < 0.6
    assert abs(columns.mean() - (SIDE - 1) / 2) < 0.6
    assert abs(len(rows) / SIDE**2 - 0.25) < 0.05


def test_contrastive_loss_takes_equal_captions_for_equal():
    image = torch.eye(4)[:2]
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    apart = torch.eye(2)
    text = torch.eye(4)[:2]
    scale = torch.tensor(10.0)
    # logits [[10, 0], [0, 10]]: with own targets log(1 + e^-10), with the target halved 5 more
    own = float(np.log1p(np.exp(-10.0)))
    torch.testing.assert_close(contrastive_loss(image, text, apart, scale).item(), own, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(contrastive_loss(image, text, same, scale).item(), own + 5, rtol=1e-4, atol=1e-5)


def test_named_loss_wants_shown_classes_alone():
    names = torch.eye(3)
    dense = names[[0, 0, 0, 1, 1]][None]
    scale = torch.tensor(30.0)
    assert named_loss(dense, names, torch.tensor([[0.6, 0.4, 0.0]]), 0.1, scale) < 1e-3
    assert named_loss(dense, names, torch.tensor([[1.0, 0.0, 0.0]]), 0.1, scale) > 5  # patches of a class not shown
    assert named_loss(dense, names, torch.tensor([[0.4, 0.3, 0.3]]), 0.1, scale) > 5  # a shown class without a patch


def test_a_step_of_training_lowers_the_loss(album):
    torch.manual_seed(0)
    learner = new_model(tokenizer(), width=32, dim=16)
    batch = next(iter(Batches(album, tokenizer(), seed=0)))
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    losses = []
    for _ in range(4):
        loss = batch_loss(learner, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
