"""What an evaluation costs the host of a GPU, counted on the CPU: no read of the device, few operations a batch."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from stand_ins import small_config
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ppar_lightning.cli import main
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.metrics import confusions, image_counts
from ppar_lightning.module import PPARModule
from ppar_lightning.segmenter import sliding
from ppar_lightning.segmenter.segmenter import Segmenter
from ppar_lightning.segmenter.sliding import predict, slide

READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "bincount", "_unique2", "sort"}
CALLS = {"cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__", "__index__", "__array__", "new_tensor"}

COPIES = ["--data.tta", "{scales: [0.5, 1.5], flip: true}"]


class Operations(TorchDispatchMode):
    """Counts operations, views included."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


class Reads(TorchFunctionMode):
    """Counts calls that copy a tensor to the host, or a host's value to the device while it waits."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names[getattr(function, "__name__", "")] += 1
        return function(*args, **(kwargs or {}))


class PerBatch(Callback):
    """Counts from the start of each batch to that of the next, with what callbacks and Lightning do in between."""

    batches: tuple = ()  # of all tests of this process

    def on_test_batch_start(self, *_):
        self.stop()
        self.modes = Operations().__enter__(), Reads().__enter__()

    def on_test_epoch_end(self, *_):
        self.stop()

    def stop(self):
        if modes := getattr(self, "modes", None):
            for mode in reversed(modes):
                mode.__exit__(None, None, None)
            PerBatch.batches += (tuple(mode.names for mode in modes),)
        self.modes = None


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run")
    path = small_config(folder)
    main(["fit", "--config", path, "--trainer.default_root_dir", str(folder / "run")])
    return str(folder / "run" / "config.yaml")


@pytest.mark.parametrize("words", [[], ["--ci"], ["--data.window", "{size: 32, stride: 16}"], COPIES])
def test_no_batch_of_a_test_reads_the_device(config, words, monkeypatch):
    fog = {"fog": {"options": {"size": [48, 80], "length": 5}}}
    monkeypatch.setattr(PerBatch, "batches", ())
    counting = ["--trainer.callbacks+=test_evaluation_cost.PerBatch", "--data.unseen", json.dumps(fog)]
    main(["test", "--config", config, *counting, *words])
    assert len(PerBatch.batches) == 1 + 5
    counted = PerBatch.batches[2:]  # the first of a domain also starts its loader and lays out its windows
    for operations, calls in counted:
        assert operations["conv2d"] > 0
        assert not READS & {*operations}
        assert not CALLS & {*calls}
    totals = [operations.total() for operations, _ in counted[:-1]]
    assert min(totals) == max(totals)
    network = ("conv2d", "batch_norm", "relu", "max_pool2d", "add_", "upsample_bilinear2d", "pad", "sub", "div")
    others = max(totals) - sum(counted[0][0][name] for name in network)
    assert others < (110 if "--data.window" in words else 160 if words == COPIES else 80)


def operations_of(classes: int, windows: int, images: int = 1) -> int:
    """Operations to segment through a row of windows that are one batch, resize and score."""
    image = torch.rand(images, 3, 8, 4 * windows + 4)
    label = torch.randint(0, classes, (images, 16, 24))
    with Operations() as counted:
        logits = slide(lambda part: functional.pad(part, (0,) * 5 + (classes - 3,)), image, 8, 4)
        prediction = predict(logits, (16, 24))
        image_counts(prediction, label, classes)
    return counted.names.total()


def test_operations_do_not_depend_on_classes_windows_or_images():
    cases = (3, 5), (255, 5), (3, 11), (3, 5, 3), (19, 40, 2)
    first, second = ([operations_of(*case) for case in cases] for _ in range(2))  # the first lays out each size
    assert max(second) < 70
    assert max(second) - min(second) <= 1  # several images are copied once, to lay their pixels side by side
    assert sum(second) < sum(first)


def test_one_layout_a_size(monkeypatch):
    made = []
    monkeypatch.setattr(
        sliding, "starts", lambda *given, made=made, starts=sliding.starts: made.append(given) or starts(*given)
    )
    for _ in range(3):
        slide(lambda part: part, torch.rand(1, 3, 37, 53), 16, 11)
    assert made == [(37, 16, 11), (53, 16, 11)]


@pytest.mark.parametrize("classes", [2, 19, 255])
def test_pixels_are_counted_without_a_read_of_the_device(classes):
    label = torch.randint(0, classes, (2, 9, 70))
    with Operations() as operations, Reads() as calls:
        confusions(label.flip(0), label, classes)
    assert not READS & {*operations.names}
    assert not CALLS & {*calls.names}


class Device:
    """What a module's setup asks of a trainer on a GPU."""

    def __init__(self, precision: str):
        self.precision, self.strategy = precision, SimpleNamespace(root_device=torch.device("cuda"))
        self.max_steps = self.max_epochs = self.limit_train_batches = 1


@pytest.mark.parametrize(
    ("stage", "precision", "last"),
    [
        ("test", "bf16-mixed", True),
        ("predict", "16-true", True),
        ("validate", "32-true", False),
        ("fit", "bf16-mixed", False),
    ],
)
def test_weights_are_laid_out_channels_last_to_evaluate_in_16_bits_on_a_gpu(stage, precision, last):
    module = PPARModule(
        Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=8), PPAROptions(enabled=False)
    )
    image = torch.rand(1, 3, 40, 56)
    expected = module.eval()(image)
    module.trainer = device = Device(precision)  # of which a module keeps a weak reference
    module.setup(stage)
    del device
    (kernel, *_) = (each for each in module.parameters() if each.dim() == 4 and each.shape[-1] > 1 < each.shape[1])
    assert kernel.is_contiguous(memory_format=torch.channels_last) == last
    torch.testing.assert_close(module(image), expected)
    module.load_state_dict(module.state_dict())
    assert kernel.is_contiguous(memory_format=torch.channels_last) == last


@pytest.mark.cuda
@torch.no_grad()
def test_windows_and_scores_on_a_gpu_never_wait_for_it_and_are_the_same_each_time():
    network = torch.nn.Conv2d(3, 19, 5, padding=2).cuda()
    image, label = torch.rand(2, 3, 200, 300).cuda(), torch.randint(0, 20, (2, 400, 600)).cuda()
    found = []
    for mode in ("default", "error", "error"):  # the first lays out the windows and loads kernels
        torch.cuda.set_sync_debug_mode(mode)
        try:
            logits = slide(network, image, 96, 64)
            found.append((logits, confusions(predict(logits, (400, 600)), label, 19)))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))
    expected = slide(network.cpu(), image.cpu(), 96, 64)
    torch.testing.assert_close(found[0][0].cpu(), expected, rtol=1e-4, atol=1e-4)
    matrices = confusions(predict(found[0][0].cpu(), (400, 600)), label.cpu(), 19)
    assert (found[0][1].cpu() - matrices).abs().sum() < 1e-3 * label.numel()


@pytest.mark.cuda
def test_a_gpu_that_is_too_small_takes_fewer_windows(monkeypatch):
    monkeypatch.setattr(sliding, "fitting", {})
    image, free = torch.rand(1, 3, 512, 2048).cuda(), torch.cuda.mem_get_info()[0]

    def segment(parts):
        torch.empty(len(parts) * free // 3, dtype=torch.uint8, device="cuda")
        return parts

    torch.testing.assert_close(slide(segment, image, 512, 384), image)
    assert [*sliding.fitting.values()] == [2]  # of the 5 windows
