"""SigLIP, SigLIP 2 and MetaCLIP 2 as the model of the prototypes: text tower with its tokenizer, and image tower."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from stand_ins import small_config
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, GemmaTokenizer, MetaClip2Config, SiglipConfig, XLMRobertaTokenizer

from ppar_lightning.cli import main
from ppar_lightning.method.clip import FrozenImageTower, embed_texts, joint_width
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.text import text_prototypes
from ppar_lightning.segmenter.pretrained import CLIP_MEAN_STD

TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TOWER | {"image_size": 32, "patch_size": 8}
LETTERS = [*"abcdefghijklmnopqrstuvwxyz"]
TEXTS = ["a road", "A Traffic Light", "sky"]


@pytest.fixture(scope="session", params=["siglip", "metaclip_2"])
def dual(request, tmp_path_factory) -> Path:
    """A dual encoder with random weights, as its owner saves it, with a tokenizer of letters of its class."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "siglip":
        words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS]
        vocab = {word: k for k, word in enumerate(words)}
        tokenizer = GemmaTokenizer(vocab, merges=[], add_bos_token=False, add_eos_token=True)  # as the hub has it
        text = TOWER | {"vocab_size": len(words), "max_position_embeddings": 64}
        config = SiglipConfig(text_config=text, vision_config=VISION)
    else:
        words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS, *"ATL", "<mask>"]
        tokenizer = XLMRobertaTokenizer(vocab=[(word, -1.0) for word in words])
        text = TOWER | {"vocab_size": len(words), "eos_token_id": 2, "pad_token_id": 1}
        config = MetaClip2Config(text_config=text, vision_config=VISION, projection_dim=16)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def test_sentences_are_embedded_as_the_model_was_trained_to_read_them(dual):
    model, tokenizer = AutoModel.from_pretrained(dual).eval(), AutoTokenizer.from_pretrained(dual)
    sigmoid = model.config.model_type == "siglip"
    padding = {"padding": "max_length", "max_length": 64, "padding_side": "right"} if sigmoid else {}
    embedded = embed_texts(str(dual), TEXTS)
    assert embedded.shape == (3, joint_width(str(dual))) == (3, 32 if sigmoid else 16)
    assert torch.pdist(embedded).min() > 0.01
    for text, found in zip(TEXTS, embedded, strict=True):  # alone, so that CLIP's have no padding
        tokens = tokenizer(text.lower() if sigmoid else text, return_tensors="pt", **padding)
        with torch.no_grad():
            expected = model.get_text_features(tokens.input_ids).pooler_output
        torch.testing.assert_close(found, normalize(expected[0], dim=-1), atol=1e-5, rtol=0)
    assert torch.equal(*embed_texts(str(dual), ["SKY", "sky"])) == sigmoid


@pytest.mark.parametrize("size", [(32, 32), (24, 64)])
def test_the_image_tower_computes_what_transformers_does(dual, size):
    model = AutoModel.from_pretrained(dual).eval()
    tower = FrozenImageTower(str(dual), size=None)
    image = torch.rand(2, 3, *size)
    half = model.config.model_type == "siglip"
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (((0.5,) * 3, (0.5,) * 3) if half else CLIP_MEAN_STD))
    pixels = (image - mean) / std
    with torch.no_grad():
        context = tower(image)
        expected = model.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
    assert context.memory.shape == (2, 1 + size[0] * size[1] // 64, tower.dim)
    torch.testing.assert_close(context.memory[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_a_patch_of_siglip_is_pooled_as_if_it_were_the_image(dual):
    model, tower = AutoModel.from_pretrained(dual).eval(), FrozenImageTower(str(dual), size=None)
    if model.config.model_type == "siglip":
        image = torch.rand(1, 3, 32, 32)
        with torch.no_grad():
            hidden = model.vision_model((image - 0.5) / 0.5).last_hidden_state
            alone = model.vision_model.head(hidden[0][:, None])
        torch.testing.assert_close(tower(image).dense[0], alone, atol=1e-5, rtol=1e-4)
    else:  # as CLIP's: the last block mixes no patches
        *_, last, _, _ = tower.tower.blocks
        assert last.is_last


def test_prototypes_come_from_it(dual):
    words = [[text] for text in TEXTS]
    prototypes = text_prototypes(PPAROptions(clip=str(dual), prompts=["a {}"]), words)
    torch.testing.assert_close(prototypes, embed_texts(str(dual), [f"a {text}" for text in TEXTS]))


@pytest.mark.slow  # a training
def test_a_training_uses_both_towers(dual, tmp_path, capsys):
    words = ["--config", small_config(tmp_path), "--trainer.default_root_dir", str(tmp_path / "run")]
    clip = ["--model.ppar.clip", str(dual), "--model.ppar.text_embeddings", "null", "--model.ppar.context", "clip"]
    main(["fit", *words, *clip, "--model.ppar.context_every", "1"])
    main(["test", "--config", str(tmp_path / "run" / "config.yaml")])
    assert (tmp_path / "run" / "test.json").is_file()
    prototypes = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert prototypes["objective.prototypes.otp"].shape == (19, joint_width(str(dual)))


@pytest.mark.remedy("segmenter/pretrained.py::load_pretrained")
def test_a_tokenizer_that_needs_another_package_is_named_in_one_line(dual, tmp_path):
    path = shutil.copytree(dual, tmp_path / "first")
    (path / "tokenizer.json").unlink()
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer"}))
    (path / "spiece.model").write_bytes(b"pieces")
    with pytest.raises(
        ImportError, match=r"\(.*SentencePiece.*\): install it with pip, or name a model without"
    ) as error:
        embed_texts(str(path), TEXTS)
    assert "\n" not in str(error.value)
    embed_texts(str(dual), TEXTS)
