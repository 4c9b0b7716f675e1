"""The head of queries: its scores, its loss on one rank and on two, and a run with it."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from ranks import run_ranks
from stand_ins import small_config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from ppar_lightning import load_segmenter
from ppar_lightning.callbacks.initial_weights import start_from
from ppar_lightning.cli import main
from ppar_lightning.distributed import shard
from ppar_lightning.images.window import Window
from ppar_lightning.method import mask_loss
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.supervised import supervised_terms
from ppar_lightning.module import PPARModule
from ppar_lightning.segmenter.heads import resize
from ppar_lightning.segmenter.mask2former import Queries
from ppar_lightning.segmenter.segmenter import Segmenter, SegmenterOutput

VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56, "mlp_ratio": 2}
CLASSES = [*"abcde"]
OFF = PPAROptions(enabled=False)


def build(**options) -> Segmenter:
    torch.manual_seed(0)
    config = {"model_type": "dinov2", "patch_size": 14, **VIT}
    options = {"head": "mask2former", "decoder_channels": 32, "classes": CLASSES, "backbone_config": config, **options}
    return Segmenter("dinov2", **options)


def predicted(images: int = 2, layers: int = 2, queries: int = 7) -> SegmenterOutput:
    """Random queries over 64 x 128 pixels, masks at stride 8."""
    torch.manual_seed(1)
    classes = torch.randn(images, layers, queries, 6).requires_grad_()
    found = Queries(classes, (3 * torch.randn(images, layers, queries, 8, 16)).requires_grad_())
    return SegmenterOutput(found.log_scores(), torch.zeros(1), (64, 128), (64, 128), queries=found)


def labelled(images: int = 2) -> torch.Tensor:
    """Labels that are constant over 16 x 16 pixels; class 4 is in no image."""
    label = torch.randint(0, 4, (images, 4, 8), generator=torch.Generator().manual_seed(2))
    return label.repeat_interleave(16, 1).repeat_interleave(16, 2)


def test_it_has_the_published_size_and_masks_at_stride_4():
    with torch.device("meta"):
        head = build(decoder_channels=256).head
    assert sum(p.numel() for p in head.parameters()) == pytest.approx(19.8e6, rel=0.02)
    output = build().eval().outputs(torch.rand(1, 3, 50, 70))
    assert output.covered == (56, 70)
    assert output.decoder.shape == (1, 32, 14, 18)
    assert output.queries.masks.shape == (1, 10, 100, 14, 18)
    assert output.logits.shape == (1, 5, 50, 70)


def test_logits_are_the_logarithms_of_the_scores():
    """Their argmax and, by softmax, their shares are those of P(class) P(mask), of all queries, resized."""
    output = predicted()
    classes, masks = (each[:, -1] for each in output.queries)
    scores = torch.einsum("bqk,bqhw->bkhw", classes.softmax(-1)[..., :-1], masks.sigmoid())
    whole = resize(scores, (64, 128))
    torch.testing.assert_close(output.logits, whole.log())
    torch.testing.assert_close(output.logits.softmax(dim=1), whole / whole.sum(dim=1, keepdim=True))
    silent = output.queries._replace(masks=torch.full_like(output.queries.masks, -200.0))
    assert silent.log_scores().isfinite().all()


@torch.no_grad()
def test_windows_average_scores():
    segmenter, image = build().eval(), torch.rand(1, 3, 56, 84)
    left, right = (segmenter(image[..., part]).exp() for part in (slice(56), slice(28, 84)))
    scores = torch.cat([left[..., :28], (left[..., 28:] + right[..., :28]) / 2, right[..., 28:]], dim=3)
    geometric = (left[..., 28:] * right[..., :28]).sqrt()
    assert (geometric - scores[..., 28:56]).abs().max() > 1e-5
    batch = {"image": image, "window": (56, 28)}
    module = PPARModule(segmenter, OFF).eval()
    torch.testing.assert_close(module.logits(batch).exp(), scores, rtol=1e-5, atol=0)
    shares = scores / scores.sum(dim=1, keepdim=True)
    torch.testing.assert_close(module.logits(batch | {"tta": [(1.0, False)]}).exp(), shares, rtol=1e-5, atol=0)
    assert torch.equal(segmenter.predict(image[0], Window(56, 28)), scores[0].argmax(dim=0).byte())


def test_scores_stay_in_float32_beside_16_bits():
    output, segmenter = predicted(), build().eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(output.queries.log_scores(), output.coarse)
        assert segmenter(torch.rand(1, 3, 56, 56)).dtype == torch.float32


@pytest.mark.remedy("segmenter/mask2former.py::Mask2Former.forward")
def test_a_gradient_of_deterministic_algorithms_is_refused_on_cuda():
    """The map of a stand-in says that it is on CUDA."""
    segmenter, on = build(), torch.use_deterministic_algorithms
    try:
        on(True)
        segmenter(torch.rand(1, 3, 56, 56)).sum().backward()  # a CPU has one
        with pytest.raises(ValueError, match="deterministic gradient on CUDA: set --trainer.deterministic warn$"):
            segmenter.head([SimpleNamespace(is_cuda=True)])
        on(True, warn_only=True)
        with pytest.raises(AttributeError, match="shape"):  # past the refusal, into the stand-in
            segmenter.head([SimpleNamespace(is_cuda=True)])
    finally:
        on(False)


def test_the_loss_is_that_of_transformers_where_every_pixel_has_a_label():
    output, label = predicted(), labelled()
    with torch.no_grad():  # each class has a query of its own, so that matches do not depend on the points
        output.queries.masks[:, :, :5] += 4 * (label[:, None, None, ::8, ::8] == torch.arange(5).view(-1, 1, 1))
    config = Mask2FormerConfig(num_labels=5, train_num_points=mask_loss.POINTS)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    theirs = Mask2FormerLoss(config, weights)
    ids = [each.unique() for each in label]
    masks = [(each == own[:, None, None]).float() for each, own in zip(label, ids, strict=True)]
    expected = dict.fromkeys(weights, 0.0)
    for layer in (0, 1):
        classes, logits = (each[:, layer] for each in output.queries)
        for name, value in theirs(logits, classes, masks, ids).items():
            expected[name] += weights[name] * value.item()
    found = supervised_terms(output, label)
    assert [*found] == ["class", "mask", "dice"]
    assert [each.item() for each in found.values()] == pytest.approx([*expected.values()], rel=0.03)


def test_ignored_pixels_do_not_count():
    label = labelled()
    label[0, :, 64:], label[1] = 255, 255
    output = predicted()
    torch.manual_seed(0)
    terms = supervised_terms(output, label)
    sum(terms.values()).backward()
    other = predicted()
    with torch.no_grad():
        other.queries.masks[0, ..., 9:] += 5  # the cell before is read by the last pixels with a label
        other.queries.masks[1] += 5
        other.queries.classes[1] += 5
    torch.manual_seed(0)
    assert all(torch.equal(each, terms[name]) for name, each in supervised_terms(other, label).items())
    classes, masks = (each.grad for each in output.queries)
    assert masks[0, ..., :8].abs().amax() > masks[0, ..., 9:].abs().amax() == masks[1].abs().amax() == 0
    assert classes[0].abs().amax() > classes[1].abs().amax() == 0


def test_without_a_label_the_loss_is_0_and_with_a_wrong_one_nan():
    output, label = predicted(), labelled()
    assert sum(supervised_terms(output, torch.full_like(label, 255)).values()) == 0
    label[0, 0, 0] = 200
    assert sum(supervised_terms(output, label).values()).isnan()


def test_each_class_of_an_image_gets_the_query_that_costs_least():
    cost = torch.rand(2, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    match = mask_loss.assign(cost, torch.tensor([[True, True, True], [True, False, True]]))
    for image, ids in enumerate(([0, 1, 2], [0, 2])):
        best = min(itertools.permutations(range(4), len(ids)), key=lambda q: sum(cost[image, 0, q, ids]))
        assert match[image, 0, ids].tolist() == [*best]
    assert match[1, 0, 1] == -1
    few = mask_loss.assign(cost[:, :, :2], torch.ones(2, 3, dtype=torch.bool))
    assert (few == -1).sum(dim=2).tolist() == [[1], [1]]
    assert mask_loss.assign(cost.fill_(torch.nan), torch.ones(2, 3, dtype=torch.bool)).min() >= 0


@pytest.mark.slow
def test_a_step_reads_the_device_for_matching_alone():
    """So it can be planned with tensors that have no content."""
    with torch.device("meta"):
        segmenter = build()
    with FakeTensorMode(allow_non_fake_inputs=True):
        output = segmenter.to_empty(device="cpu").outputs(torch.rand(3, 3, 56, 56))
        sum(supervised_terms(output, torch.zeros(3, 56, 56, dtype=torch.long)).values()).backward()


class Step(torch.nn.Module):
    """A segmenter and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.segmenter = build()

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
        return supervised_terms(self.segmenter.outputs(image), label)


def by_image(known: torch.Tensor, number: int) -> torch.Tensor:
    """Draw the same pixels of an image in whatever batch it is."""
    drawn = []
    for each in known.nan_to_num():
        torch.manual_seed(int(each.sum()))
        drawn.append(torch.multinomial(each.flatten() + (not each.any()), number, replacement=True))
    return torch.stack(drawn)


def train(rows: slice) -> dict[str, torch.Tensor]:
    """The loss and the gradient of some of three images, of which one has more classes, one fewer and one no label."""
    step = Step()
    model = DistributedDataParallel(step) if dist.is_initialized() else step
    label = torch.randint(0, 5, (3, 4, 4), generator=torch.Generator().manual_seed(0))
    label[1] %= 2
    label[2] = 255
    label = label.repeat_interleave(14, 1).repeat_interleave(14, 2)
    label[0, :3], label[1, :9] = 255, 255
    image = torch.rand(3, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    terms = model(image[rows], label[rows])
    sum(terms.values()).backward()
    found = torch.stack([*terms.values()]).detach()
    if dist.is_initialized():
        dist.all_reduce(found)
        found /= dist.get_world_size()
    return {"terms": found} | {name: p.grad for name, p in step.named_parameters() if p.requires_grad}


def worker(folder: str) -> None:
    dist.init_process_group("gloo")
    mask_loss.draw = by_image
    torch.save(train((slice(0, 1), slice(1, 3))[dist.get_rank()]), f"{folder}/{dist.get_rank()}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_on_the_whole_batch(tmp_path, monkeypatch):
    """Also of ranks with other numbers of images, masks and labels; and no parameter is without a gradient."""
    monkeypatch.setattr(mask_loss, "draw", by_image)
    run_ranks(2, worker, str(tmp_path))
    one = train(slice(0, 3))
    assert [name for name, gradient in one.items() if gradient is None] == []
    largest = max(each.abs().max() for each in one.values())
    for rank in (0, 1):
        for name, each in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            torch.testing.assert_close(
                each, one[name], atol=1e-5 * largest, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
            )


def shard_and_train() -> None:
    dist.init_process_group("gloo")
    segmenter = build()
    for part in segmenter.children():
        shard(part, torch.distributed.init_device_mesh("cpu", (2,)))
    image = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(dist.get_rank()))
    sum(supervised_terms(segmenter.outputs(image), torch.full((1, 56, 56), dist.get_rank())).values()).backward()
    assert all(p.grad.full_tensor().isfinite().all() for p in segmenter.parameters() if p.requires_grad)
    dist.destroy_process_group()


@pytest.mark.slow
def test_it_is_trained_in_shards():
    run_ranks(2, shard_and_train)


@pytest.mark.remedy("segmenter/segmenter.py::build_head")
def test_channels_that_do_not_fit():
    with pytest.raises(
        ValueError, match=r"mask2former takes 32, 64, \.\.\.: set --model.segmenter.decoder_channels 64$"
    ):
        build(decoder_channels=40)
    build(decoder_channels=64)


@pytest.mark.remedy("segmenter/segmenter.py::build_head")
def test_too_few_blocks():
    config = {"model_type": "dinov2", "patch_size": 14, **VIT, "num_hidden_layers": 2}
    with pytest.raises(ValueError, match="reads 3 blocks, 'dinov2' has fewer: set --model.segmenter.head concat$"):
        build(backbone_config=config)
    build(backbone_config=config, head="concat")
    build(backbone_config=config | {"num_hidden_layers": 3})


@pytest.mark.remedy("method/objective.py::build_objective")
def test_ppar_has_nothing_to_weight():
    with pytest.raises(ValueError, match="loss of pixels, .* of masks: set --model.ppar.enabled false$") as error:
        PPARModule(build(classes="cityscapes19"), PPAROptions())
    assert "\n" not in str(error.value)
    PPARModule(build(classes="cityscapes19"), OFF)
    PPARModule(build(classes="cityscapes19", head="concat"), PPAROptions())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mask2former")
    words = ["--model.segmenter.head", "mask2former", "--model.segmenter.decoder_channels", "32"]
    words += ["--model.ppar.enabled", "false", "--trainer.default_root_dir", str(folder / "run")]
    main(["fit", "--config", small_config(folder), *words])
    return folder / "run"


def test_a_run_is_trained_tested_and_loaded(run, tmp_path):
    main(["test", "--config", str(run / "config.yaml")])
    assert json.loads((run / "test.json").read_text())["unseen_miou"] >= 0
    segmenter = load_segmenter(run)
    assert segmenter.description["head"] == "mask2former"
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(picture).save(tmp_path / "in" / "a.png")
    main(["predict", "--config", str(run / "config.yaml"), "--data.predict_dir", str(tmp_path / "in")])
    segmenter.save_pretrained(tmp_path)
    label = load_segmenter(tmp_path).predict(picture)
    assert torch.equal(label, segmenter.predict(picture))
    assert (np.asarray(Image.open(run / "predictions" / "a.png")) == label.numpy()).mean() > 0.99


def test_rows_of_classes_are_taken_by_name(tmp_path):
    source, module = build(), PPARModule(build(classes=["e", "new", "a", "d", "c"]), OFF)
    for each in source.parameters():
        each.data.add_(1)
    source.save_pretrained(tmp_path)
    before = module.segmenter.classifier.weight.clone()
    start_from(module, str(tmp_path), "all")
    found, theirs = module.segmenter.classifier.weight, source.classifier.weight
    assert torch.equal(found[[0, 2, 3, 4, 5]], theirs[[4, 0, 3, 2, 5]])  # the last is "no object"
    assert torch.equal(found[1], before[1])
    query = "head.transformer.queries_embedder.weight"
    assert torch.equal(module.segmenter.state_dict()[query], source.state_dict()[query])


@pytest.mark.remedy("export.py::main")
def test_it_is_not_exported(run, capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["export", "--run", str(run), "--output", str(tmp_path / "a.onnx")])
    said = capsys.readouterr().err
    assert "traced for one size of image alone: export another, or use load_segmenter" in said
    load_segmenter(run)


@pytest.mark.slow
def test_it_learns_a_thin_structure():
    segmenter = build(classes=["ground", "pole"])
    image, label = torch.zeros(1, 3, 56, 56), torch.zeros(1, 56, 56, dtype=torch.long)
    image[..., 20:26], label[..., 20:26] = 1, 1
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(supervised_terms(segmenter.outputs(image), label).values()).backward()
        optimizer.step()
    found = segmenter.predict(image[0]).long()
    assert (found & label[0]).sum() / (found | label[0]).sum() > 0.5
