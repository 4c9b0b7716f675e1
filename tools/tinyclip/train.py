"""Train the tiny CLIP from scratch: ``python -m tools.tinyclip.train`` (`make tinyclip`)."""

import json
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tools.tinyclip import PATH
from tools.tinyclip.batches import Batch, Batches, K, Paraphrases
from tools.tinyclip.card import write_card
from tools.tinyclip.initialisation import mimic_trained_attention
from tools.tinyclip.objective import contrastive_loss, embed_images, embed_tokens, named_loss
from tools.tinyclip.pictures import MEAN, SIDE, STD, render_album
from tools.tinyclip.vocabulary import train_tokenizer

TRAIN_SEED = 11
TEXT_STEPS = 300
"""Steps on sentences alone, so that classes are already separated when images are added."""


def new_model(tokenizer: CLIPTokenizer, width: int = 128, dim: int = 128) -> CLIPModel:
    """Build an untrained CLIP: patches of 8 x 8, six layers for images, three for text."""
    shared: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": dim}
    shared |= {"num_attention_heads": 4, "hidden_act": "gelu"}
    text = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 3,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"num_hidden_layers": 6, "image_size": SIDE, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=dim))
    mimic_trained_attention(model.vision_model)
    model.set_attn_implementation("eager")  # faster than fused attention on 17 tokens
    return model


def batch_loss(model: CLIPModel, batch: Batch) -> Tensor:
    """Loss of captions against pictures, and of class names against objects and the patches of windows and scenes."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        small, small_dense = embed_images(model, torch.cat([batch.objects, batch.windows]))
        large, large_dense = embed_images(model, batch.scenes)
        text, names = embed_tokens(model, batch.captions), embed_tokens(model, batch.names)
    scale = model.logit_scale.exp().clamp(max=50)
    objects = len(batch.objects)
    loss = contrastive_loss(torch.cat([small, large]), text, batch.facts, scale)
    loss = loss + named_loss(small_dense[objects:], names, batch.window_shares, 0.02, scale)
    loss = loss + named_loss(small[:objects, None], names, batch.facts[:objects, :K], 0.5, scale)
    return loss + named_loss(large_dense, names, batch.scene_shares, 0.004, scale)


def paraphrase_loss(model: CLIPModel, pair: tuple[dict[str, Tensor], dict[str, Tensor], Tensor]) -> Tensor:
    """Loss of sentences against sentences with the same meaning."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one, other = (embed_tokens(model, tokens) for tokens in pair[:2])
    return contrastive_loss(one, other, pair[2], model.logit_scale.exp().clamp(max=50))


Example = TypeVar("Example")


def train(
    model: CLIPModel,
    examples: Iterable[Example],
    loss_of: Callable[[CLIPModel, Example], Tensor],
    steps: int,
    title: str,
    rate: float = 1.5e-3,
) -> None:
    """Train with AdamW, a linear warm-up and a cosine decay, in bf16.

    Args:
        model: Model to train in place; in eval mode afterwards.
        examples: At least `steps` batches.
        loss_of: Computes the loss of a batch.
        steps: Number of optimiser steps.
        title: Text of the progress bar.
        rate: Highest learning rate.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.08)
    model.train()
    recent: deque[float] = deque(maxlen=100)
    for step, example in track(enumerate(islice(examples, steps), start=1), title, total=steps):
        loss = loss_of(model, example)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 100 == 0:
            print(f"{title}: step {step}, loss {fmean(recent):.3f}", flush=True)
    model.eval()


def save(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write model (fp16), tokenizer and normalisation in the format of CLIP's own repositories."""
    model.half().save_pretrained(folder)
    model.float()
    tokenizer.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    processor = {"image_processor_type": "CLIPImageProcessor", "do_normalize": True, "do_rescale": True}
    processor |= {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255, "do_resize": True, "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")


def main() -> None:
    """Render, train, save and write the card."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--streets", type=int, default=4000)
    parser.add_argument("--tested", type=int, default=400, help="held-out streets that the card is measured on")
    parser.add_argument("--out", type=Path, default=PATH)
    arguments = parser.parse_args()
    start = time.perf_counter()
    torch.manual_seed(0)
    tokenizer = train_tokenizer()
    model = new_model(tokenizer)
    album = render_album(TRAIN_SEED, arguments.streets)
    loader = DataLoader(Batches(album, tokenizer, seed=0), batch_size=None, num_workers=1, prefetch_factor=4)
    train(model, Paraphrases(tokenizer, seed=0), paraphrase_loss, TEXT_STEPS, "text")
    train(model, loader, batch_loss, arguments.steps, "text and images")
    save(model, tokenizer, arguments.out)
    minutes = (time.perf_counter() - start) / 60
    write_card(model, tokenizer, arguments.out, arguments.steps, arguments.streets, minutes, arguments.tested)


if __name__ == "__main__":
    main()
