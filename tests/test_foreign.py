"""Models of transformers that others have trained: their sizes, their normalisation, their classes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import foreign
from transformers import AutoModelForUniversalSegmentation, SegformerImageProcessorPil

from ppar_lightning.images.classes import CITYSCAPES, class_list
from ppar_lightning.segmenter.foreign import ForeignSegmenter, named_as
from ppar_lightning.segmenter.pretrained import SHIPPED, normalisation

KINDS = ("segformer", "upernet", "mask2former", "oneformer", "eomt")


@pytest.mark.parametrize("kind", KINDS)
def test_any_size_gives_scores_of_that_size(kind, tmp_path):
    segmenter = ForeignSegmenter(foreign(kind, tmp_path), CITYSCAPES)
    assert segmenter.classes.names == CITYSCAPES.names
    image = torch.rand(2, 3, 96, 70, generator=torch.Generator().manual_seed(0))
    scores = segmenter(image)
    assert scores.shape == (2, 19, 96, 70)
    assert scores.isfinite().all()
    assert not torch.equal(scores[0], scores[1])
    torch.testing.assert_close(segmenter(image[1:]), scores[1:])  # whatever else is in a batch
    assert segmenter(image[..., :33, :41]).shape == (2, 19, 33, 41)
    assert not any(parameter.requires_grad for parameter in segmenter.parameters())


def test_a_model_of_queries_sums_them(tmp_path):
    name = foreign("mask2former", tmp_path, ["road", "sky", "lamp"])
    image = torch.rand(1, 3, 64, 64)
    network = AutoModelForUniversalSegmentation.from_pretrained(name).eval()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        output = network(pixel_values=(image - mean) / std)
    expected = torch.zeros(3, *output.masks_queries_logits.shape[2:])
    for classes, mask in zip(output.class_queries_logits[0], output.masks_queries_logits[0], strict=True):
        expected += classes.softmax(0)[:3, None, None] * mask.sigmoid()
    expected = torch.nn.functional.interpolate(expected[None], (64, 64), mode="bilinear")
    torch.testing.assert_close(ForeignSegmenter(name, CITYSCAPES)(image), expected)


def test_a_network_of_one_size_slides(tmp_path):
    segmenter = ForeignSegmenter(foreign("eomt", tmp_path), CITYSCAPES)
    left, right = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    whole = segmenter(torch.cat([left, right], dim=3))
    assert whole.shape == (1, 19, 64, 128)
    torch.testing.assert_close(whole[..., :42], segmenter(left)[..., :42])  # where only the first window is


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [123.0, 117.0, 104.0], "image_std": [58.0, 57.0, 56.0]},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    ],
)
def test_images_are_normalised_as_by_the_models_processor(settings, tmp_path):
    foreign("segformer", tmp_path)
    processor = SegformerImageProcessorPil(do_resize=False, **settings)
    processor.save_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    wanted = torch.tensor(np.array(processor(image).pixel_values[0]))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in normalisation(str(tmp_path)))
    found = (torch.tensor(image).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-4)


def test_classes_are_found_by_name_and_by_word():
    labels = ["Road, route", "traffic_light", "Traffic-Sign;sign", "lorry", "tree", "ceiling", "pavement", "Person"]
    found = named_as(CITYSCAPES, labels)
    assert found.names == (
        "road",
        "traffic light",
        "traffic sign",
        "truck",
        "vegetation",
        "ceiling",
        "sidewalk",
        "person",
    )
    mine = class_list(["Big Crate", {"name": "lid", "words": ["cover"]}])
    assert named_as(mine, ["big crate", "COVER", "tape"]).ids_in(mine) == [0, 1, 255]


def test_more_classes_than_a_list_of_labels_may_have(tmp_path):
    labels = [*(f"thing {k}" for k in range(300)), "sky"]
    segmenter = ForeignSegmenter(foreign("segformer", tmp_path, labels), CITYSCAPES)
    assert segmenter(torch.rand(1, 3, 32, 32)).shape == (1, 301, 32, 32)
    assert segmenter.classes.ids_in(CITYSCAPES)[-1] == CITYSCAPES.names.index("sky")


@pytest.mark.remedy("segmenter/foreign.py::ForeignSegmenter.__init__")
def test_a_model_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'tinyclip' is of type clip.*: give a SegFormer, "):
        ForeignSegmenter("tinyclip", CITYSCAPES)
    ForeignSegmenter(foreign("segformer", tmp_path), CITYSCAPES)


@pytest.mark.remedy("segmenter/foreign.py::read_task")
def test_a_oneformer_without_its_tokenizer_is_refused(tmp_path):
    name = foreign("oneformer", tmp_path)
    for file in Path(name).glob("tokenizer*"):
        file.unlink()
    with pytest.raises(OSError, match="holds no tokenizer: copy its tokenizer's files there"):
        ForeignSegmenter(name, CITYSCAPES)
    for file in SHIPPED["tinyclip"].glob("tokenizer*.json"):
        shutil.copy(file, tmp_path)
    ForeignSegmenter(name, CITYSCAPES)


def test_weights_that_are_missing_are_not_drawn_at_random(tmp_path):
    name = foreign("segformer", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(k): f"thing {k}" for k in range(19)}
    config["depths"] = [2, 1, 1, 1]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks .* and others: give the config.json"):
        ForeignSegmenter(name, CITYSCAPES)
