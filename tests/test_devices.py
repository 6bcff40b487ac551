"""Networks on CUDA, on machines without it: shapes, dtypes and devices are computed, values are not.

Tensors created on the wrong device, dtypes that do not go together under autocast, and sizes that do not fit are found.
Forward passes run on fake CUDA tensors. PyTorch's autograd engine refuses these without a GPU, so backward passes run
on the meta device, where the forms of attention are those of CUDA. The values of these forms are tested on a CPU.
"""

from __future__ import annotations

import pytest
import torch
from fake_cuda import cuda_autocast, on_fake_cuda
from registered import MODULES, build, each, example, tensors

from fpn_plugins.ops.attention import choice, forms

# tokens of global blocks are more than those of any window; nothing is allocated
LARGE = (1024, 1536)


@pytest.mark.parametrize("size", [(65, 97), LARGE])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MODULES)
def test_forward_on_fake_cuda(name: str, dtype: torch.dtype | None, size: tuple[int, int]):
    module, inputs = build(name), example(name, size)
    expected = [m.shape for m in _on_meta(name, size)]
    with on_fake_cuda(module):
        inputs = each(inputs, lambda x: torch.empty(x.shape, device="cuda"))
        for train in (False, True):
            module.train(train)
            with cuda_autocast(dtype), torch.set_grad_enabled(train):
                maps = module(inputs)
            assert [m.shape for m in maps] == expected
            assert {m.device.type for m in maps} == {"cuda"}
            assert {m.dtype for m in maps} <= {torch.float32, dtype}
            if name == "FPN":  # convolutions alone, so that autocast is seen to work
                assert {m.dtype for m in maps} == {dtype or torch.float32}


def _on_meta(name: str, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return build(name).to("meta")(each(example(name, size), lambda x: x.to("meta")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODULES)
def test_backward_takes_the_forms_of_cuda(name: str, dtype: torch.dtype):
    module = build(name).to("meta", dtype).train()
    inputs = each(example(name, LARGE, dtype=dtype), lambda x: x.to("meta").requires_grad_())
    sum(m.square().mean() for m in module(inputs)).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())
    assert any(x.grad is not None for x in tensors(inputs))


@pytest.mark.parametrize(
    ("name", "cuda", "cpu"),
    [("Swin", {"plain"}, {"masked"}), ("ViT", {"plain", "widened"}, {"masked", "blocked"})],
)
def test_forms_of_cuda_are_not_those_of_a_cpu(
    name: str, cuda: set[str], cpu: set[str], monkeypatch: pytest.MonkeyPatch
):
    """So that the tests above are about CUDA's."""
    seen: dict[str, set[str]] = {}
    choose = choice.choose_form

    def record(q: torch.Tensor, *others: object) -> forms.Form:
        form = choose(q, *others)
        seen.setdefault(q.device.type, set()).add(form.__name__)
        return form

    monkeypatch.setattr(choice, "choose_form", record)
    with torch.no_grad():
        build(name).to("meta", torch.bfloat16)(torch.empty(1, 3, *LARGE, device="meta", dtype=torch.bfloat16))
        build(name)(torch.randn(1, 3, 256, 320))
    assert seen == {"meta": cuda, "cpu": cpu}
