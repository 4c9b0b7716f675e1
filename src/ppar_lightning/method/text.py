"""Text prototypes T0 = OTP: computed once and cached, or read from a file."""

import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.disk.cache import cache_folder, load_array, save_array
from ppar_lightning.method.clip import embed_texts
from ppar_lightning.method.options import PPAROptions, Prompts
from ppar_lightning.segmenter.pretrained import revision

TEMPLATES: dict[str, list[str]] = yaml.safe_load((files(__package__) / "prompts.yaml").read_text())
"""Prompt set -> its templates."""


def text_prototypes(options: PPAROptions, words: Sequence[Sequence[str]]) -> Tensor:
    """Compute or read the text prototypes that the options ask for.

    Args:
        options: ``clip``, ``prompts``, ``centre``, ``random_text`` and ``text_embeddings`` are read.
        words: The words for each of the K classes, in the order of the train ids.

    Returns:
        T0, (K, D) float32 unit vectors.

    Raises:
        ValueError: The file is for another number of classes.
    """
    if options.text_embeddings is not None:
        text = read_embeddings(options.text_embeddings, len(words))
    else:
        text = cached_embeddings(options.clip, options.prompts, words)
    if options.random_text:
        seeded = torch.Generator().manual_seed(0)  # the same directions on every device and rank
        return F.normalize(torch.randn(text.shape, generator=seeded), dim=-1)
    return F.normalize(text - text.mean(dim=0), dim=-1) if options.centre else text


def read_embeddings(file: str | Path, num_classes: int) -> Tensor:
    """Read a K x D ``.npy`` file of text embeddings and normalise its rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not hold a finite K x D array of floats.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"text embeddings {path} not found: name a file that exists as ppar.text_embeddings")
    array = load_array(path)
    if array.ndim == 2 and len(array) == num_classes and array.dtype.kind == "f":
        rows = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        if rows.isfinite().all() and rows.any(dim=1).all():
            return F.normalize(rows, dim=-1)
    given = f"have shape {array.shape} and type {array.dtype}, or a row of zeros, NaN or infinity"
    remedy = f"need finite floats of shape ({num_classes}, D), one row per class in train-id order"
    raise ValueError(f"text embeddings {path} {given}: {remedy}")


def sentences(prompts: Prompts, words: Sequence[Sequence[str]]) -> list[list[str]]:
    """List the sentences that describe each class.

    Args:
        prompts: Name of the prompt set, or templates with {} in place of the class.
        words: The words for each of the K classes, in the order of the train ids.

    Returns:
        K lists of sentences, one sentence per template and word.
    """
    templates = TEMPLATES[prompts] if isinstance(prompts, str) else prompts
    return [[template.replace("{}", word) for word in each for template in templates] for each in words]


def cached_embeddings(clip: str, prompts: Prompts, words: Sequence[Sequence[str]]) -> Tensor:
    """Return T0_k = norm(sum over words and templates of the unit text embeddings), from the cache if it is there.

    The key of the cache covers the model, its revision and every sentence, so a changed model or prompt is noticed.

    Returns:
        (K, D) unit vectors.
    """
    texts = sentences(prompts, words)
    key = json.dumps([clip, revision(clip), texts])
    path = cache_folder() / f"otp-{hashlib.sha256(key.encode()).hexdigest()[:20]}.npy"
    try:
        return read_embeddings(path, len(texts))
    except (OSError, ValueError):  # not there yet, or damaged
        sizes = [len(group) for group in texts]
        groups = embed_texts(clip, [text for group in texts for text in group]).split(sizes)
        save_array(path, F.normalize(torch.stack([group.sum(dim=0) for group in groups]), dim=-1).numpy())
    return read_embeddings(path, len(texts))  # as the next run will read it, so that both use the same bits
