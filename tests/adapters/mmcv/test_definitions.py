"""Operators that mmcv compiles for CUDA alone equal plain definitions in double precision, and pass gradcheck."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmcv_operators import assert_close, without_compiled
from torch import Tensor, nn
from torch.autograd import gradcheck

pytestmark = pytest.mark.mmdet


@pytest.fixture(autouse=True)
def ours():
    with without_compiled():
        yield


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def check(run: Any, define: Any, *leaves: Tensor) -> None:
    """Compare a call with its definition, and gradients with the definition's and with finite differences."""
    got, wanted = run(*leaves), define(*leaves)
    weights = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((out * weights).sum(), leaves) for out in (got, wanted)]
    assert_close([got, *gradients[0]], [wanted, *gradients[1]], 1e-10)
    assert gradcheck(run, leaves, nondet_tol=1e-12, fast_mode=True)


REGIONS = torch.tensor([[0, 1.3, 2.2, 9.1, 8.4], [1, -3, 4, 30, 40], [1, 5, 5, 5, 5], [0, 9, 9, 4, 4], [1, 2, 0, 6, 1]])


def test_roi_pool():
    from mmcv.ops import roi_pool

    def define(maps: Tensor) -> Tensor:
        pooled = torch.zeros(len(REGIONS), maps.shape[1], 3, 2, dtype=maps.dtype)
        for number, (image, x1, y1, x2, y2) in enumerate(REGIONS.tolist()):
            left, top, width, height = x1 / 2, y1 / 2, (x2 + 1 - x1) / 2, (y2 + 1 - y1) / 2
            for row in range(3):
                for column in range(2):
                    ys = [max(0, math.floor(top + row * height / 3)), math.ceil(top + (row + 1) * height / 3)]
                    xs = [max(0, math.floor(left + column * width / 2)), math.ceil(left + (column + 1) * width / 2)]
                    part = maps[int(image), :, ys[0] : max(0, ys[1]), xs[0] : max(0, xs[1])]
                    if part.numel() and width > 0 and height > 0:
                        pooled[number, :, row, column] = part.amax((1, 2))
        return pooled

    check(lambda maps: roi_pool(maps, REGIONS.double(), (3, 2), 0.5), define, doubles(2, 2, 7, 9))


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_deform_roi_pool(offsets: bool, sampling_ratio: int):
    from mmcv.ops import deform_roi_pool

    rois = REGIONS[[0, 1, 4, 2]].double()

    def define(maps: Tensor, shift: Tensor | None = None) -> Tensor:
        rows, height, width = [], *maps.shape[2:]
        for number, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
            w, h = (x2 - x1) / 2, (y2 - y1) / 2
            ny, nx = [sampling_ratio or math.ceil(h / 3), sampling_ratio or math.ceil(w / 2)]
            for row, column in ((r, c) for r in range(3) for c in range(2)):
                value = maps.new_zeros(maps.shape[1])
                for iy, ix in ((a, b) for a in range(ny) for b in range(nx)):
                    y = torch.tensor(y1 / 2 - 0.5 + (row + (iy + 0.5) / ny) * h / 3, dtype=maps.dtype)
                    x = torch.tensor(x1 / 2 - 0.5 + (column + (ix + 0.5) / nx) * w / 2, dtype=maps.dtype)
                    if shift is not None:
                        x, y = x + 0.1 * w * shift[number, 0, row, column], y + 0.1 * h * shift[number, 1, row, column]
                    if -1 <= y <= height and -1 <= x <= width:
                        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
                        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1]).view(1, 1, 1, 2)
                        value = value + F.grid_sample(maps[int(image)][None], grid, align_corners=True).flatten()
                rows.append(value / max(1, ny * nx))
        return torch.stack(rows).view(len(rois), 3, 2, -1).permute(0, 3, 1, 2)

    tensors = [doubles(2, 2, 7, 9), *([doubles(4, 2, 3, 2)] if offsets else [])]
    run = lambda maps, shift=None: deform_roi_pool(maps, rois, shift, (3, 2), 0.5, sampling_ratio)  # noqa: E731
    check(run, define, *tensors)


@pytest.mark.parametrize("name", ["roi_pool", "deform_roi_pool"])
def test_no_regions(name: str):
    import mmcv.ops

    maps = torch.randn(1, 3, 8, 8, requires_grad=True)
    arguments = [(2, 2)] if name == "roi_pool" else [torch.zeros(0, 2, 2, 2), (2, 2)]
    pooled = getattr(mmcv.ops, name)(maps, torch.zeros(0, 5), *arguments)
    pooled.sum().backward()
    assert pooled.shape == (0, 3, 2, 2) and not maps.grad.any()


@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_focal_loss(gamma: float, weighted: bool):
    from mmcv.ops import sigmoid_focal_loss

    target = torch.tensor([0, 3, 1, 4, 2, 4])  # 4 is background
    weight = torch.rand(4, dtype=torch.float64) if weighted else None

    def define(logits: Tensor) -> Tensor:
        positive = F.one_hot(target, 5)[:, :4].to(logits)
        p = logits.sigmoid()
        p_t, alpha_t = p * positive + (1 - p) * (1 - positive), 0.25 * positive + 0.75 * (1 - positive)
        rows = torch.ones(6, 1) if weight is None else torch.cat([weight, torch.ones(1)])[target][:, None]
        return rows * -alpha_t * (1 - p_t) ** gamma * p_t.log()

    check(lambda x: sigmoid_focal_loss(x, target, gamma, 0.25, weight, "none"), define, doubles(6, 4))


def test_sigmoid_focal_loss_of_certain_logits():
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, "sum")
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [2.0, 0.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_focal_loss(gamma: float, weighted: bool):
    from mmcv.ops import softmax_focal_loss

    target = torch.tensor([0, 3, -1, 2, 1])  # -1 is ignored
    weight = torch.rand(4, dtype=torch.float64) if weighted else None

    def define(logits: Tensor) -> Tensor:
        p = logits.softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
        loss = -0.25 * (1 - p) ** gamma * p.log() * (1 if weight is None else weight[target])
        return (loss * (target >= 0)).sum()  # mmcv's backward pass of single losses fails

    check(lambda x: softmax_focal_loss(x, target, gamma, 0.25, weight, "sum"), define, doubles(5, 4))


@pytest.mark.parametrize("name", ["carafe", "carafe_naive"])
@pytest.mark.parametrize(("groups", "scale"), [(1, 2), (2, 3)])
def test_carafe(name: str, groups: int, scale: int, monkeypatch: pytest.MonkeyPatch):
    import mmcv.ops

    kernel, size = 3, (2, 3)

    def define(features: Tensor, masks: Tensor) -> Tensor:
        padded = F.pad(features, (1, 1, 1, 1)).unflatten(1, (groups, -1))
        masks = masks.unflatten(1, (groups, kernel, kernel))
        rows = []
        for y, x in ((y, x) for y in range(size[0] * scale) for x in range(size[1] * scale)):
            patch = padded[..., y // scale : y // scale + kernel, x // scale : x // scale + kernel]
            rows.append((patch * masks[:, :, None, :, :, y, x]).sum((-2, -1)).flatten(1))
        return torch.stack(rows, -1).view(*features.shape[:2], size[0] * scale, size[1] * scale)

    leaves = doubles(2, 4, *size), doubles(2, groups * kernel**2, size[0] * scale, size[1] * scale)
    function = getattr(mmcv.ops, name)
    if name == "carafe_naive":  # mmcv asks for gradients on CUDA
        monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    check(lambda x, masks: function(x, masks, kernel, groups, scale), define, *leaves)


def test_masked_conv():
    from mmcv.ops import MaskedConv2d

    layer = MaskedConv2d(3, 4, (3, 5), padding=(1, 2)).double()
    x, mask = torch.randn(1, 3, 6, 7, dtype=torch.float64), torch.rand(1, 6, 7) > 0.6
    with torch.no_grad():
        assert_close([layer(x, mask)], [layer(x) * mask], 1e-12)
        assert not layer(x, torch.zeros_like(mask)).any()


def test_multi_scale_deformable_attention():
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    shapes = torch.tensor([[4, 5], [2, 3]])
    starts = torch.tensor([0, 20])
    leaves = doubles(2, 26, 2, 3), torch.rand(2, 4, 2, 2, 3, 2, dtype=torch.float64) * 1.2 - 0.1, doubles(2, 4, 2, 2, 3)
    leaves[1].requires_grad_()

    check(
        lambda value, places, weights: MultiScaleDeformableAttnFunction.apply(
            value, shapes, starts, places, weights, 64
        ),
        lambda value, places, weights: multi_scale_deformable_attn_pytorch(value, shapes, places, weights),
        *leaves,
    )


def lanes(number: int, rows: int) -> Tensor:
    """Scores, first row, first offset, number of rows, offsets: near each other, of all lengths, one of them empty."""
    drawn = torch.rand(number, 5 + rows)
    drawn[:, 4] = (drawn[:, 4] * rows).floor()
    drawn[0, 4] = 0
    drawn[:, 5:] = (torch.rand(number, 1) * 4).floor() * 20 + drawn[:, 5:] * 4
    return drawn


@pytest.mark.parametrize("top_k", [3, 100])
def test_line_nms(top_k: int):
    try:
        from mmcv.ops import line_nms
    except ImportError:
        pytest.skip("mmcv 2.1 has no line_nms")

    drawn, scores, rows = lanes(60, 72), torch.rand(60), 72

    def is_close(a: list[float], b: list[float]) -> bool:
        starts = [int(lane[2] * (rows - 1) + 0.5) for lane in (a, b)]
        end = min(starts[0] + int(a[4]), starts[1] + int(b[4]), rows) - 1
        common = range(max(starts), end + 1)
        return len(common) > 0 and sum(abs(a[5 + row] - b[5 + row]) for row in common) < 15 * len(common)

    keep: list[int] = []
    parents = [0] * 60
    gone: set[int] = set()
    for lane in scores.argsort(descending=True).tolist():
        if lane in gone or len(keep) == top_k:
            continue
        keep.append(lane)
        rest = [other for other in scores.argsort(descending=True).tolist() if scores[other] <= scores[lane]]
        for other in (o for o in rest if o == lane or is_close(drawn[lane].tolist(), drawn[o].tolist())):
            gone.add(other)
            parents[other] = len(keep)
    indices, number, parent = line_nms(drawn, scores, 15.0, top_k)
    assert indices[:number].tolist() == keep and 1 < len(keep) < 60
    assert parent.tolist() == parents


@pytest.mark.parametrize("mode", ["default", "N"])
def test_sync_batch_norm(mode: str):
    """A process alone; mmcv adds up the statistics of several itself."""
    from mmcv.ops.sync_bn import SyncBatchNormFunction

    norm = nn.BatchNorm2d(3, momentum=0.2)
    nn.init.uniform_(norm.weight)
    x = torch.randn(4, 3, 5, 6, requires_grad=True)
    running = norm.running_mean.clone(), norm.running_var.clone()
    parameters = [p.detach().clone().requires_grad_() for p in (norm.weight, norm.bias)]
    got = SyncBatchNormFunction.apply(x, *running, *parameters, 0.2, norm.eps, None, 1, mode)
    wanted = norm(x)
    weights = torch.randn_like(wanted)
    got_gradients = torch.autograd.grad((got * weights).sum(), (x, *parameters))
    wanted_gradients = torch.autograd.grad((wanted * weights).sum(), (x, norm.weight, norm.bias))
    assert_close([got, *running, *got_gradients], [wanted, norm.running_mean, norm.running_var, *wanted_gradients])
