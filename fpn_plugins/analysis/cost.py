"""Count parameters, multiply-adds, and the bytes that training keeps for the backward pass, by component.

Networks are built and run on PyTorch's meta device, which computes shapes but no values: any size takes a second and
needs no weights or data. MACs are the multiply-adds of convolutions, linear layers and matrix products, attention
included, each counted once (FLOPs = 2 x MACs); norms, activations, additions and interpolation do not count. They are
half of what ``torch.utils.flop_counter.FlopCounterMode`` counts, which leaves out deformable convolutions; fvcore
agrees, but does not count these or fused attention.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ..ops.deformable import flop_formulas
from .components import Component, component_namer
from .report import ComponentCost, CostReport


class _FusedAttention(TorchFunctionMode):
    """Use fused attention on tensors without values, where PyTorch would choose the kernel that keeps N x N weights.

    Fused kernels need four-dimensional tensors; attention on others is left to PyTorch.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            if (query.is_meta or isinstance(query, FakeTensor)) and query.dim() == 4:
                return _fused_attention(*args, **kwargs)
        return func(*args, **kwargs)


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute attention with a fused kernel; arguments are those of ``F.scaled_dot_product_attention``."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    fused = torch.ops.aten._scaled_dot_product_efficient_attention
    return fused(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]


class _Meter:
    """Attribute multiply-adds and kept bytes to the innermost running module."""

    def __init__(self, model: nn.Module) -> None:
        self.counter = FlopCounterMode(display=False, custom_mapping=flop_formulas())
        self.flops: Counter[str] = Counter()
        self.kept_bytes: Counter[str] = Counter()
        self.called: set[str] = set()
        self._running = [""]
        self._settled = 0
        # holding a storage keeps its Python object, and thus its id, alive
        own = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
        self._seen = {id(storage): storage for storage in own}
        self._hooks = [hook for name, module in model.named_modules() for hook in self._watch(name, module)]

    def run(self, function: Callable[[], Any]) -> Any:
        """Run ``function`` once and return its result."""
        try:
            saving = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda x: x)
            with self.counter, _FusedAttention(), torch.enable_grad(), saving:
                result = function()
                self._settle()
        finally:
            for hook in self._hooks:
                hook.remove()
        return result

    def _watch(self, name: str, module: nn.Module) -> tuple[Any, Any]:
        def enter(*_: Any) -> None:
            self._settle()
            self.called.add(name)
            self._running.append(name)

        def leave(*_: Any) -> None:
            self._settle()
            self._running.pop()

        return module.register_forward_pre_hook(enter), module.register_forward_hook(leave)

    def _settle(self) -> None:
        total = self.counter.get_total_flops()
        self.flops[self._running[-1]] += total - self._settled
        self._settled = total

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in self._seen:
            self._seen[id(storage)] = storage
            self.kept_bytes[self._running[-1]] += storage.nbytes()
        return tensor


def count_cost(
    model: nn.Module,
    run: Callable[[], Sequence[str] | None],
    title: str,
    image_size: tuple[int, int],
    component_of: Callable[[str], Component] | None = None,
) -> CostReport:
    """Run a network once and count its cost.

    Args:
        model: network on the meta device, or of fake tensors (on another device, attention may go uncounted).
        run: runs the network, or the parts to count; returns the ``conditions`` of the report, or ``None``.
        title: title of the report.
        image_size: height and width in pixels that ``run`` uses, for the report.
        component_of: module name -> component; ``None`` uses `component_namer`.
    """
    meter = _Meter(model)
    conditions = meter.run(run)
    component_of = component_of or component_namer(model)
    sums: dict[Component, list[int]] = {}
    for name, module in model.named_modules():
        parameters = sum(p.numel() for p in module.parameters(recurse=False))
        before = sums.get(component_of(name), [0, 0, 0])
        own = (parameters, meter.flops[name] // 2, meter.kept_bytes[name])
        sums[component_of(name)] = [total + part for total, part in zip(before, own, strict=True)]
    costs = [ComponentCost(*component, *counts) for component, counts in sums.items() if any(counts)]
    return CostReport(title, image_size, tuple(costs), tuple(conditions or ()), tuple(_uncounted(model, meter)))


def _uncounted(model: nn.Module, meter: _Meter) -> list[str]:
    """List the called modules with a weight matrix of their own but no counted operation."""
    counted = [name for name, flops in meter.flops.items() if flops]
    names = []
    for name, module in model.named_modules():
        matrices = any(p.dim() >= 2 for p in module.parameters(recurse=False))
        inside = any(other == name or other.startswith(f"{name}.") for other in counted)
        if name in meter.called and matrices and not inside and not isinstance(module, nn.Embedding):
            names.append(f"{name} ({type(module).__name__})")
    return names


def on_meta(build: Callable[[], Any]) -> Any:
    """Build a module on the meta device, in evaluation mode.

    Constructors that need values (e.g. drop path rates from a ``linspace``) run on the default device first.
    """
    try:
        with torch.device("meta"):
            module = build()
    except (NotImplementedError, RuntimeError):
        module = build()
    return module.to("meta").eval()
