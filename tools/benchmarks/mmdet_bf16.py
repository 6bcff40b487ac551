"""Run mmdet's detectors under autocast to bfloat16 on a CPU."""

from __future__ import annotations

from mmcv.ops import RoIAlign
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


def allow_bf16(detector: nn.Module) -> None:
    """Let a detector run under autocast to bfloat16 on a CPU, where mmcv's RoIAlign and NMS support only fp32.

    Casts inputs of RoIAlign to fp32, and predictions of the heads before boxes are decoded and losses are computed.
    """
    for name, module in detector.named_modules():
        if isinstance(module, RoIAlign):
            module.register_forward_pre_hook(lambda _, inputs: tree_map_only(Tensor, Tensor.float, inputs))
            module.register_forward_hook(lambda _, inputs, pooled: pooled.bfloat16())
        elif name.rstrip(".0123456789").split(".")[-1] in ("rpn_head", "bbox_head", "mask_head"):  # of a stage, or all
            module.register_forward_hook(lambda _, inputs, predicted: tree_map_only(Tensor, Tensor.float, predicted))
