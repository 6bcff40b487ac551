"""Compare the forms of attention on a device: with the biases of ViT and MViT, and in the windows of Swin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from bench_models import largest_difference
from gpu_layers import compare_layers
from gpu_measure import MODES, Bench, Job, Rows, describe, set_precision
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fpn_plugins.ops.attention import AxialBias, attend
from fpn_plugins.ops.attention.choice import LARGE_WINDOW, MASK_BYTES
from fpn_plugins.ops.attention.forms import Form, blocked, masked, plain, widened, widened_narrow


class AttentionCase(NamedTuple):
    """Attention of ``batch`` maps or windows of ``side x side`` queries, and ``key_side x key_side`` keys."""

    case: str
    batch: int
    heads: int
    channels: int  # of a head
    side: int
    key_side: int


AXIAL = [
    AttentionCase("global", 2, 12, 64, 64, 64),
    AttentionCase("global", 8, 12, 64, 32, 32),
    AttentionCase("global", 1, 12, 64, 96, 96),
    AttentionCase("global", 1, 2, 64, 128, 128),  # with the bias, heads are wider than flash kernels take
    AttentionCase("window", 200, 12, 64, 14, 14),
    AttentionCase("pooled", 50, 1, 96, 56, 14),  # stage 1 of MViTv2-T at 1024 x 1024, batch 2
]
TINY_AXIAL = [AttentionCase("global", 1, 2, 8, 8, 8), AttentionCase("pooled", 2, 1, 8, 8, 4)]
# stages 1 and 3 of Swin-T at 800 x 1344, batch 4
WINDOWS = [AttentionCase("stage 1", 4 * 29 * 48, 3, 32, 7, 7), AttentionCase("stage 3", 4 * 8 * 12, 12, 32, 7, 7)]
TINY_WINDOWS = [AttentionCase("stage 1", 4, 2, 8, 7, 7)]
FLEX = "FlexAttention"
FLEX_SIDES = (14, 64)  # it is compiled for each shape, and far slower
FAR = 0.05  # larger than any rounding
# sides of the cases that the default run leaves out
ONLY_IN_FULL = {("global", 32), ("pooled", 56)}


def no_bias(q: Tensor, k: Tensor, v: Tensor, bias: Any, scale: float) -> Tensor:
    """Attention without a bias: a lower bound of the cost."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def on_kernel(kernel: SDPBackend, form: Form) -> Form:
    """Restrict `scaled_dot_product_attention` of a form to one kernel."""

    def run(*arguments: Any) -> Tensor:
        with sdpa_kernel([kernel]):
            return form(*arguments)

    return run


def flex() -> Form:
    """Build a form with FlexAttention, which reads an `AxialBias` for each score."""
    from torch.nn.attention.flex_attention import flex_attention

    compiled = torch.compile(flex_attention)

    def run(q: Tensor, k: Tensor, v: Tensor, bias: AxialBias, scale: float) -> Tensor:
        rows, columns = (x.contiguous() for x in bias)
        width = columns.shape[-1]

        def add(score: Tensor, b: Tensor, m: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + rows[b, m, i, j // width] + columns[b, m, i, j % width]

        return compiled(q.contiguous(), k.contiguous(), v.contiguous(), score_mod=add, scale=scale)

    return run


def axial_forms(bench: Bench) -> dict[str, Form]:
    """Forms that take an `AxialBias` on the device."""
    forms: dict[str, Form] = {"attend": attend, "no bias": no_bias, "plain": plain, "masked": masked}
    forms |= {"widened": widened, "widened_narrow": widened_narrow}
    if not bench.on_gpu:
        return {**forms, "blocked": blocked}
    kernels = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "memory-efficient": SDPBackend.EFFICIENT_ATTENTION}
    narrow = {f"widened_narrow, {name}": on_kernel(kernel, widened_narrow) for name, kernel in kernels.items()}
    return {**forms, **narrow, FLEX: flex()}


class BiasSource(NamedTuple):
    """Shapes of random tensors, and the function that makes the bias from them."""

    shapes: list[tuple[int, ...]]
    make: Callable[..., Any]


class Tensors:
    """Random queries, keys and values, which are views of one tensor as in a layer, and the bias.

    Args:
        case: shapes; queries have a tensor of their own if there are more queries than keys.
        source: source of the bias.
        dtype: of all tensors.
        device: of all tensors.
    """

    def __init__(self, case: AttentionCase, source: BiasSource, dtype: torch.dtype, device: str) -> None:
        draw = partial(torch.randn, device=device, dtype=dtype)
        tokens, keys = case.side**2, case.key_side**2
        self.packed = draw(case.batch, keys, 3 if tokens == keys else 2, case.heads, case.channels)
        self.queries = None if tokens == keys else draw(case.batch, tokens, case.heads, case.channels)
        self.parts = [draw(shape) for shape in source.shapes]
        self.make_bias, self.scale = source.make, case.channels**-0.5

    def read(self) -> tuple[Tensor, Tensor, Tensor, Any]:
        """``q``, ``k``, ``v`` of shape ``B M N D``, and the bias."""
        *first, k, v = self.packed.permute(2, 0, 3, 1, 4).unbind(0)
        q = first[0] if self.queries is None else self.queries.transpose(1, 2)
        return q, k, v, self.make_bias(*self.parts)

    def job(self, form: Form, training: bool) -> Job:
        """Make a job that runs a form, with gradients of all tensors in training."""
        leaves = [x for x in (self.packed, self.queries, *self.parts) if x is not None]

        def run() -> None:
            for leaf in leaves:
                leaf.requires_grad_(training).grad = None
            with torch.set_grad_enabled(training):
                out = form(*self.read(), self.scale)
            if training:
                out.backward(out.detach())

        return run

    def difference(self, form: Form) -> float:
        """Largest relative difference from the float32 definition, for the first entry of the batch."""
        with torch.no_grad():
            q, k, v, bias = self.read()
            expected = plain(q[:1].float(), k[:1].float(), v[:1].float(), first_of(bias), self.scale)
            return largest_difference([form(q, k, v, bias, self.scale)[:1].float()], [expected])


def first_of(bias: Any) -> Any:
    """Float32 bias of the first entry of the batch."""
    return AxialBias(*map(first_of, bias)) if isinstance(bias, AxialBias) else bias[:1].float()


def compare_forms(
    bench: Bench, rows: Rows, case: AttentionCase, forms: Mapping[str, Form], source: BiasSource, **what: Any
) -> None:
    """Add differences from the definition and times of each form, in each precision and mode."""
    for precision in bench.precisions:
        dtype = set_precision(precision) or torch.float32
        torch.manual_seed(0)
        place = {**case._asdict(), **what, "precision": precision}
        with_flex = bench.full and bench.compiles(precision) and case.side in FLEX_SIDES
        chosen = {who: form for who, form in forms.items() if who != FLEX or with_flex}
        _compare_on(bench, rows, Tensors(case, source, dtype, bench.device), chosen, place)
        bench.reset()


def _compare_on(bench: Bench, rows: Rows, tensors: Tensors, forms: Mapping[str, Form], place: dict[str, Any]) -> None:
    """Compare forms on one set of tensors, without the forms that do not support them."""
    usable = dict(forms)
    for who, form in forms.items():
        try:
            gap = tensors.difference(form)
        except Exception as error:  # an unsupported kernel
            rows.add(**place, who=who, error=describe(error))
            del usable[who]
            bench.free()
            continue
        if form is not no_bias:
            rows.add(**place, who=who, difference=gap, **({} if gap <= FAR else {"error": "far from the definition"}))
    for mode, training in MODES.items():
        jobs = {who: tensors.job(form, training) for who, form in usable.items()}
        bench.compare(rows, jobs, **place, mode=mode)
        if "attend" in jobs and isinstance(tensors.read()[3], AxialBias):
            check_memory(bench, rows, jobs["attend"], tensors, {**place, "mode": mode})


def check_memory(bench: Bench, rows: Rows, job: Job, tensors: Tensors, place: dict[str, Any]) -> None:
    """Add an error if our choice holds all scores of a map that is larger than `MASK_BYTES` allows."""
    if not bench.on_gpu:
        return
    q, k, *_ = tensors.read()
    scores = q[..., 0].numel() * k.shape[-2] * q.element_size()
    # below, and in windows, all scores are the faster choice
    if k.shape[-2] > LARGE_WINDOW and (scores > MASK_BYTES or q.dtype != torch.float32) and bench.peak(job) >= scores:
        rows.add(**place, who="attend", error=f"holds all scores: at least {scores / 2**20:.0f} MiB")


def attention(bench: Bench, rows: Rows) -> None:
    """Compare forms with an `AxialBias`, then whole layers with relative positions."""
    for case in TINY_AXIAL if bench.tiny else AXIAL:
        if not bench.tiny and not bench.full and (case.case, case.side) in ONLY_IN_FULL:
            continue
        shape = (case.batch, case.heads, case.side**2, case.key_side)
        compare_forms(bench, rows, case, axial_forms(bench), BiasSource([shape, shape], AxialBias))
        if case.side == case.key_side:
            compare_layers(bench, rows, case.case, case.batch, case.heads, case.channels, case.side)


def windows(bench: Bench, rows: Rows) -> None:
    """Compare forms with a bias per head, without and with the masks of shifted windows."""
    forms: dict[str, Form] = {"attend": attend, "no bias": no_bias, "plain": plain, "masked": masked}
    for case in TINY_WINDOWS if bench.tiny else WINDOWS:
        shape = (case.heads, case.side**2, case.key_side**2)
        apart = torch.rand(case.batch, 1, *shape[1:], device=bench.device) < 0.5
        masks = torch.where(apart, -100.0, 0.0)
        for shifted, make in ((False, as_batch), (True, partial(add_masks, masks=masks))):
            compare_forms(bench, rows, case, forms, BiasSource([shape], make), shifted=shifted)


def as_batch(bias: Tensor) -> Tensor:
    """Add a batch dimension: ``M N N`` to ``1 M N N``, as `WindowAttention` does."""
    return bias[None]


def add_masks(bias: Tensor, masks: Tensor) -> Tensor:
    """Add masks of shifted windows, as `WindowAttention` does: ``M N N`` to ``n M N N``."""
    return (bias + masks).to(bias.dtype)
