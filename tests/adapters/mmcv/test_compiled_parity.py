"""Our operators equal those that mmcv compiles for the CPU, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmcv_operators import assert_close, results, without_compiled
from torch import Tensor

pytestmark = [pytest.mark.mmdet, pytest.mark.compiled_mmcv]


def boxes(number: int, integer: bool = False) -> Tensor:
    """Crowded boxes; integer ones have IoUs such as exactly 3/5, and empty ones among them."""
    corners = torch.rand(number, 2) * 40
    drawn = torch.cat([corners, corners + torch.rand(number, 2) * 30], dim=1)
    return (drawn / 4).round() if integer else drawn


def scores(number: int, integer: bool = False) -> Tensor:
    drawn = torch.rand(number)
    return (drawn * 8).round() / 8 if integer else drawn


def both(function: Any, *args: Any, **more: Any) -> tuple[Any, Any]:
    wanted = function(*args, **more)
    with without_compiled():
        return function(*args, **more), wanted


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.2, 0.6, 0.7])
def test_nms(integer: bool, offset: int, threshold: float):
    from mmcv.ops import nms

    arguments = (boxes(300, integer), scores(300, integer), threshold, offset)
    got, wanted = both(nms, *arguments)
    assert torch.equal(got[1], wanted[1]) and torch.equal(got[0], wanted[0])
    assert 10 < len(got[1]) < 290
    got, wanted = both(nms, *arguments, score_threshold=0.3, max_num=20)
    assert torch.equal(got[1], wanted[1])


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("offset", [0, 1])
def test_soft_nms(integer: bool, method: str, offset: int):
    """Also in the order of boxes whose scores are equal."""
    from mmcv.ops import soft_nms

    drawn = boxes(300, integer)
    if method == "gaussian":  # the compiled one makes two empty boxes' IoU NaN
        drawn[:, 2:] += 0.5
    got, wanted = both(soft_nms, drawn, scores(300, integer), 0.4, min_score=0.05, method=method, offset=offset)
    assert torch.equal(got[1], wanted[1])
    assert_close([got[0]], [wanted[0]])


@pytest.mark.parametrize("integer", [False, True])
def test_nms_match(integer: bool):
    from mmcv.ops import nms_match

    dets = torch.cat([boxes(300, integer), scores(300, integer)[:, None]], dim=1)
    got, wanted = both(nms_match, dets, 0.6)
    assert [group.tolist() for group in got] == [group.tolist() for group in wanted]


@pytest.mark.parametrize("name", ["nms", "soft_nms"])
def test_nothing_to_suppress(name: str):
    import mmcv.ops

    got, wanted = both(getattr(mmcv.ops, name), torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert [tuple(x.shape) for x in got] == [tuple(x.shape) for x in wanted] == [(0, 5), (0,)]


def regions(number: int, aligned: bool = True) -> Tensor:
    """Regions of all sizes, some of them empty, some beyond the border of a map of 18 x 25 pixels at stride 2."""
    corners = torch.rand(number, 2) * 60 - 10
    sizes = torch.rand(number, 2) ** 3 * 40
    sizes[0] = 0
    return torch.cat([torch.randint(0, 2, (number, 1)).float(), corners, corners + sizes], dim=1)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align(mode: str, aligned: bool, sampling_ratio: int):
    from mmcv.ops import roi_align

    arguments = (regions(30), (4, 3), 0.5, sampling_ratio, mode, aligned)
    maps = torch.randn(2, 3, 18, 25, requires_grad=True)
    got, wanted = both(results, roi_align, maps, *arguments)
    assert_close(got, wanted)
    assert wanted[1].abs().sum() > 0
    channels_last = maps.detach().to(memory_format=torch.channels_last).requires_grad_()
    got, _ = both(results, roi_align, channels_last, *arguments)
    assert_close(got, wanted)


def test_roi_align_of_no_regions():
    from mmcv.ops import roi_align

    maps = torch.randn(2, 3, 18, 25, requires_grad=True)
    got, wanted = both(results, roi_align, maps, torch.zeros(0, 5), (4, 3))
    assert_close(got, wanted)


CONVOLUTIONS = [
    dict(kernel=(3, 3), stride=1, padding=1, dilation=1, groups=1, deform_groups=1),
    dict(kernel=(3, 2), stride=(2, 1), padding=(0, 2), dilation=(2, 1), groups=2, deform_groups=2),
    dict(kernel=(1, 1), stride=2, padding=0, dilation=1, groups=4, deform_groups=4),
]


def convolution(case: dict[str, Any], modulated: bool) -> tuple[list[Tensor], dict[str, Any]]:
    """Tensors (input, offset, [mask,] weight) and arguments; offsets reach beyond the border."""
    height, width = case["kernel"]
    more = {name: case[name] for name in ("stride", "padding", "dilation", "groups", "deform_groups")}
    x, weight = torch.randn(3, 8, 11, 9), torch.randn(12, 8 // case["groups"], height, width)
    size = torch.nn.functional.conv2d(x, weight, None, *list(more.values())[:4]).shape[-2:]
    taps = case["deform_groups"] * height * width
    offset, mask = torch.randn(3, 2 * taps, *size) * 2, torch.rand(3, taps, *size)
    return [t.requires_grad_() for t in (x, offset, *([mask] if modulated else []), weight)], more


def convolve(modulated: bool, bias: bool, case: dict[str, Any]) -> tuple[Any, list[Tensor]]:
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d

    tensors, more = convolution(case, modulated)
    if bias:
        tensors.append(torch.randn(12, requires_grad=True))

    def run(*tensors: Tensor) -> Tensor:  # autograd functions take no keywords
        if not modulated:
            return deform_conv2d(*tensors, *more.values(), False, 3)
        return modulated_deform_conv2d(*tensors[:4], tensors[4] if bias else None, *more.values())

    return run, tensors


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=["3x3", "uneven", "grouped"])
@pytest.mark.parametrize(("modulated", "bias"), [(False, False), (True, False), (True, True)])
def test_deform_conv(case: dict[str, Any], modulated: bool, bias: bool):
    run, tensors = convolve(modulated, bias, case)
    got, wanted = both(results, run, *tensors)
    assert_close(got, wanted)


@pytest.mark.parametrize("wanted_gradients", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_deform_conv_with_some_gradients(wanted_gradients: tuple[int, ...]):
    """The weight's gradient alone, and the others without it."""
    run, tensors = convolve(False, False, CONVOLUTIONS[0])
    tensors = [t.detach().requires_grad_(n in wanted_gradients) for n, t in enumerate(tensors)]
    got, wanted = both(results, run, *tensors)
    assert_close(got, wanted)


def test_modulated_deform_conv_with_offsets_of_a_larger_map():
    """As DyHead calls it."""
    from mmcv.ops import modulated_deform_conv2d

    x, weight = torch.randn(2, 8, 6, 5, requires_grad=True), torch.randn(12, 8, 3, 3, requires_grad=True)
    offset, mask = torch.randn(2, 18, 12, 9, requires_grad=True), torch.rand(2, 9, 12, 9, requires_grad=True)
    run = lambda x, offset, mask, weight: modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)  # noqa: E731
    got, wanted = both(results, run, x, offset, mask, weight)
    assert_close(got, wanted)
    with without_compiled(), pytest.raises(RuntimeError, match="offset output dims"):
        run(x, offset[..., :2, :2], mask[..., :2, :2], weight)


@pytest.mark.parametrize("modulated", [False, True])
def test_offsets_that_are_no_numbers(modulated: bool):
    """A diverging training ends with an error of its own, not with a crash."""
    run, tensors = convolve(modulated, False, CONVOLUTIONS[0])
    with torch.no_grad():
        tensors[1][0, 3, 2:5], tensors[1][1, 2], tensors[1][2, 5] = torch.nan, torch.inf, -1e30
        got, wanted = both(run, *tensors)
    assert_close([got], [wanted])
    with without_compiled():
        assert all(g.isfinite().all() for g in results(run, *tensors))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["roi_align", "roi_align max", "roi_pool", "deform_roi_pool"])
def test_regions_that_are_no_numbers(name: str, value: float):
    """The compiled ones read any memory."""
    from mmcv import ops

    rois, maps = regions(6), torch.randn(2, 3, 18, 25, requires_grad=True)
    rois[1, 2], rois[2, 3:], rois[3] = value, value, value
    calls = {
        "roi_align": lambda x, r: ops.roi_align(x, r, 3, 0.5),
        "roi_align max": lambda x, r: ops.roi_align(x, r, 3, 0.5, 2, "max"),
        "roi_pool": lambda x, r: ops.roi_pool(x, r, 3, 0.5),
        "deform_roi_pool": lambda x, r: ops.deform_roi_pool(x, r, x.new_full((6, 2, 3, 3), value), 3, 0.5),
    }
    with without_compiled():
        output, gradient = results(calls[name], maps, rois)
    assert not output[1:4].any() and output.isfinite().all() and gradient.isfinite().all()


def test_deform_conv_backward_twice():
    """Gradients of a second backward pass of the same graph."""
    run, tensors = convolve(False, False, CONVOLUTIONS[0])
    with without_compiled():
        output = run(*tensors)
        first = torch.autograd.grad(output.sum(), tensors, retain_graph=True)
        second = torch.autograd.grad((2 * output).sum(), tensors)
    assert_close(list(second), [2 * g for g in first])
