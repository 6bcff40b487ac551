"""DropBlock: A regularization method for convolutional networks (Ghiasi et al., NeurIPS 2018, arXiv:1810.12890)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import integer, one_of, positive_int, positive_number, shown
from ..ops.tracing import traced

LayerFactory = Callable[[], nn.Module]


class DropBlock(nn.Module):
    """Set random squares of each channel to zero in training, and scale the other cells up; matches mmdet's.

    Deliberate difference: a map smaller than a block loses the largest odd squares that it holds; mmdet fails there.

    Args:
        drop_prob: expected share of cells that are dropped, above 0 and at most 1; overlaps of squares are not counted.
        block_size: side of the squares in cells; odd.
        warmup_steps: the probability grows linearly from 0 during the first calls in training, so many; a pyramid
            calls the layer once per merge. The count of calls is not in the state dict, as in mmdet.

    Raises:
        ValueError: an even block, or another value outside its range.
    """

    def __init__(self, drop_prob: float = 0.3, block_size: int = 3, warmup_steps: int = 0) -> None:
        super().__init__()
        self.drop_prob = positive_number("drop_prob", drop_prob)
        if self.drop_prob > 1:
            raise ValueError(f"drop_prob={drop_prob} must be at most 1")
        self.block_size = positive_int("block_size", block_size)
        if self.block_size % 2 == 0:
            raise ValueError(f"block_size={block_size} must be odd, so that a block has a center")
        self.warmup_steps = integer("warmup_steps", warmup_steps, 0)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C H W`` to the same shape; without training, return ``x``."""
        if not self.training:
            return x
        height, width = x.shape[-2], x.shape[-1]
        side = self.block_size
        if not torch.jit.is_scripting():  # noqa: SIM102 TorchScript compiles both conditions of a single one
            if not traced():
                side = min(side, (min(height, width) - 1) // 2 * 2 + 1)
        centers = (height - side + 1, width - side + 1)
        rate = self.drop_prob * height * width / (centers[0] * centers[1]) / side**2
        rates = torch.full((x.shape[0], x.shape[1], centers[0], centers[1]), rate, device=x.device)
        if self.warmup_steps:
            self.calls += 1
            rates = rates * (self.calls / self.warmup_steps).clamp(max=1.0)
        dropped = F.pad(torch.bernoulli(rates), [side // 2, side // 2, side // 2, side // 2])
        kept = 1 - F.max_pool2d(dropped, side, stride=1, padding=side // 2)
        # in single precision, because half precision cannot count the cells; 1e-6 for a map that is dropped completely
        scale = kept.numel() / (1e-6 + kept.sum())
        return x * (kept * scale).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the arguments that ``print(module)`` shows."""
        return f"drop_prob={self.drop_prob}, block_size={self.block_size}, warmup_steps={self.warmup_steps}"


LAYERS: dict[str, Callable[..., nn.Module]] = {"drop_block": DropBlock}


def make_after_merge(layer: Mapping[str, Any] | LayerFactory | None, gradient_checkpointing: bool = False) -> nn.Module:
    """Build the layer that follows each merge of a top-down path.

    Args:
        layer: ``{"type": "drop_block", **arguments of DropBlock}``, a factory ``() -> Module``, or ``None`` for the
            identity.
        gradient_checkpointing: whether the layer runs a second time in backward.

    Raises:
        ValueError: unknown type, an argument outside its range, or ``warmup_steps``, which would count twice, with
            ``gradient_checkpointing``.
        TypeError: neither a mapping nor a factory, an argument that the type does not have, or a factory that builds no
            module.
    """
    if layer is None:
        return nn.Identity()
    if isinstance(layer, Mapping):
        arguments = {str(key): value for key, value in layer.items()}
        name = one_of("after_merge type", arguments.pop("type", None), LAYERS, ", or pass a factory")
        if gradient_checkpointing and arguments.get("warmup_steps"):
            raise ValueError(
                f"after_merge={shown(dict(layer))}: the second pass of gradient_checkpointing would count as a step; "
                "leave out warmup_steps or gradient_checkpointing"
            )
        try:
            return LAYERS[name](**arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(f"after_merge={shown(dict(layer))}: {error}") from error
    built = layer() if callable(layer) and not isinstance(layer, nn.Module) else None
    if not isinstance(built, nn.Module):
        raise TypeError(
            f'after_merge={shown(layer)} must be a mapping such as {{"type": "drop_block", "drop_prob": 0.3}}, a '
            "factory that builds a module, or None"
        )
    return built
