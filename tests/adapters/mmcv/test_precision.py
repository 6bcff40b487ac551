"""Operators in half precision, under autocast, and on CUDA as far as shapes, dtypes and devices go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from mmcv_operators import assert_close, results, without_compiled
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fpn_plugins.adapters.mmcv.operator import OPERATORS

pytestmark = pytest.mark.mmdet


class Case(NamedTuple):
    """A call of tensors; the first of them require gradients and have the precision to be tested."""

    call: Callable[..., Tensor]
    floating: list[Tensor]
    fixed: list[Tensor]
    symbolic: bool = True  # no operation depends on values


def cases() -> dict[str, Case]:
    from mmcv import ops
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction as Attention

    rois = torch.tensor([[0.0, 1, 2, 9, 8], [1, 3, 4, 20, 14]])
    maps, offset = torch.randn(2, 4, 7, 9), torch.randn(2, 18, 7, 9)
    shapes, starts, places = torch.tensor([[4, 5], [2, 3]]), torch.tensor([0, 20]), torch.rand(2, 4, 2, 2, 3, 2)
    attend = lambda v, p, w, shapes, starts: Attention.apply(v, shapes, starts, p, w, 64)  # noqa: E731
    target, logits = torch.tensor([0, 4, 2]), torch.randn(3, 4)
    weight = torch.randn(6, 4, 3, 3)
    return {
        "roi_align": Case(lambda x, r: ops.roi_align(x, r, (3, 2), 0.5, 2), [maps], [rois]),
        "roi_align max": Case(lambda x, r: ops.roi_align(x, r, (3, 2), 0.5, 2, "max"), [maps], [rois], False),
        "roi_pool": Case(lambda x, r: ops.roi_pool(x, r, (3, 2), 0.5), [maps], [rois], False),
        "deform_roi_pool": Case(
            lambda x, o, r: ops.deform_roi_pool(x, r, o, (3, 2), 0.5, 2), [maps, offset[:, :2, :3, :2]], [rois], False
        ),
        "deform_conv2d": Case(lambda x, o, w: ops.deform_conv2d(x, o, w, 1, 1), [maps, offset, weight], []),
        "modulated_deform_conv2d": Case(
            lambda x, o, m, w, b: ops.modulated_deform_conv2d(x, o, m, w, b, 1, 1),
            [maps, offset, torch.rand(2, 9, 7, 9), weight, torch.randn(6)],
            [],
        ),
        "sigmoid_focal_loss": Case(
            lambda x, t: ops.sigmoid_focal_loss(x, t, 2.0, 0.25, None, "none"), [logits], [target]
        ),
        "softmax_focal_loss": Case(
            lambda x, t: ops.softmax_focal_loss(x, t, 2.0, 0.25, None, "sum"), [logits], [target % 4]
        ),
        "carafe": Case(lambda x, m: ops.carafe(x, m, 3, 2, 2), [maps, torch.rand(2, 18, 14, 18)], []),
        "attention": Case(
            attend, [torch.randn(2, 26, 2, 3), places, torch.rand(2, 4, 2, 2, 3)], [shapes, starts], False
        ),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
def test_half_precision(dtype: torch.dtype, autocast: bool):
    """Computed in float32 from rounded inputs; only outputs and gradients are rounded again."""
    with without_compiled():
        for name, case in cases().items():
            rounded = [t.to(dtype).requires_grad_() for t in case.floating]
            wanted = results(case.call, *[t.detach().float().requires_grad_() for t in rounded], *case.fixed)
            with torch.autocast("cpu", dtype, enabled=autocast):
                got = results(case.call, *rounded, *case.fixed)
            assert all(t.dtype == dtype for t in got), name
            assert_close([t.float() for t in got], wanted, 4 * torch.finfo(dtype).eps)


def test_boxes_in_half_precision():
    from mmcv.ops import MaskedConv2d, batched_nms, nms, soft_nms

    corners = torch.rand(50, 2) * 20
    boxes, scores = torch.cat([corners, corners + 9], dim=1).half(), torch.rand(50).half()
    layer, x, mask = MaskedConv2d(3, 4, 3, padding=1), torch.randn(1, 3, 5, 6), torch.rand(1, 5, 6) > 0.5
    with without_compiled(), torch.no_grad():
        for function in (nms, soft_nms):
            indices = [function(b, s, 0.5)[1] for b, s in ((boxes, scores), (boxes.float(), scores.float()))]
            assert torch.equal(*indices)
        batched_nms(boxes.float(), scores, torch.arange(50) % 3, dict(type="nms", iou_threshold=0.5))
        with torch.autocast("cpu", torch.bfloat16):
            assert_close([layer(x, mask).float()], [layer(x).float() * mask], 0.02)


def test_on_cuda_and_meta(monkeypatch: pytest.MonkeyPatch):
    """Every operator that depends on no values, forward and backward, runs on fake CUDA tensors and the meta device."""
    recorded: list[tuple[str, Any, Any]] = []

    def recorder(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            recorded.append((name, args, kwargs))
            return original(*args, **kwargs)

        original = OPERATORS[name]
        return call

    with without_compiled(), monkeypatch.context() as patch:
        for name in OPERATORS:
            patch.setitem(OPERATORS, name, recorder(name))
        for case in cases().values():
            if case.symbolic:
                results(case.call, *[t.requires_grad_() for t in case.floating], *case.fixed)
    autograd = {"carafe_backward"}  # PyTorch's autograd asks for the device itself
    names = {name for name, *_ in recorded} - autograd
    assert {"roi_align_backward", "modulated_deform_conv_backward", "sigmoid_focal_loss_backward"} < names
    for mode, device, chosen in ((FakeTensorMode(), "cuda", names), (nullcontext(), "meta", names | autograd)):
        with mode:
            for name, args, kwargs in (call for call in recorded if call[0] in chosen):
                moved = [
                    torch.empty(t.shape, dtype=t.dtype, device=device) if isinstance(t, Tensor) else t for t in args
                ]
                OPERATORS[name](*moved, **kwargs)
