"""`model.compile` and PPAR's losses: one graph, or two where the context is not looked at in every step."""

import copy

import pytest
import torch
from streets_batch import CHANNELS, WORDS, make_batch
from torch import nn
from torch._dynamo.utils import counters

from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions


@pytest.mark.parametrize("every", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_losses_are_compiled_once_whatever_u_and_the_step_and_are_the_same(clip_folder, recwarn, every):
    options = PPAROptions(clip=str(clip_folder), visual_size=None, clip_dtype="float32", context_every=every)
    plain = PPAR(options, CHANNELS, WORDS).eval()  # without dropout
    compiled, graphs = copy.deepcopy(plain), []

    def backend(module: nn.Module, inputs: list) -> object:
        graphs.append(module)
        return module.forward

    torch._dynamo.reset()
    counters.clear()
    compiled.compile(backend=backend)
    for step, u in enumerate((0.0, 0.07, 0.2, 0.5, 1.0)):
        terms = []
        for objective in (plain, compiled):
            batch, objective.step = make_batch(2, seed=step), step
            losses = objective(batch.output, batch.image, batch.label, u, diagnose=step % 2 == 0)
            losses.total.backward()
            objective.update()
            terms.append(losses.terms)
        torch.testing.assert_close(terms[1], terms[0])
    assert len(graphs) == every
    assert not counters["graph_break"]
    assert not [each for each in recwarn if "lru_cache" in str(each.message)]
    for one, other in zip(plain.named_parameters(), compiled.named_parameters(), strict=True):
        assert one[0] == other[0]
        torch.testing.assert_close(other[1].grad, one[1].grad)
    assert "_losses" not in copy.deepcopy(compiled).__dict__  # which would be that of the original
    assert list(plain.state_dict()) == list(compiled.state_dict())
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())
