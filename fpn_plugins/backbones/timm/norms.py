"""Batch norms of timm's networks: replaced on request, and safe from utilities that replace them.

Many of timm's batch norms apply the activation themselves (``BatchNormAct2d``). PyTorch's, mmengine's, mmcv's and
Detectron2's utilities replace them by plain norms, or fuse them into convolutions, and so lose the activations.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...checks import one_of

NORMS = ("SyncBN", "FrozenBN")


def replace_norms(network: nn.Module, norm: str | None, name: str) -> None:
    """Replace all batch norms of a network of timm, with their activations; ``None`` keeps them.

    Args:
        network: network to change, in place.
        norm: ``"SyncBN"`` (statistics over all processes) or ``"FrozenBN"`` (statistics and affine parameters are
            constants: buffers, not parameters).
        name: the network's name, for the message.

    Raises:
        ValueError: another ``norm``, or a network without batch norms.
    """
    if norm is None:
        return
    from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d

    one_of("norm", norm, NORMS)
    before = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not before:
        raise ValueError(f"norm={norm!r}: timm's {name!r} has no batch norms; set norm=None")
    (convert_sync_batchnorm if norm == "SyncBN" else freeze_batch_norm_2d)(network)


class FusedActivations:
    """Activations inside the batch norms of a network, which stay when a utility replaces the norms.

    Attributes:
        places: parent module and name of each norm with an activation, and the layers that the norm applies afterwards
            (``drop``, ``act``).
    """

    def __init__(self, network: nn.Module) -> None:
        from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, SyncBatchNormAct

        self._kinds = (BatchNormAct2d, SyncBatchNormAct, FrozenBatchNormAct2d)
        self.places: list[tuple[Any, str, nn.Module, nn.Module]] = []
        for parent in network.modules():
            for name, norm in parent.named_children():
                if isinstance(norm, self._kinds):
                    self.places.append((parent, name, norm.get_submodule("drop"), norm.get_submodule("act")))

    def restore(self) -> None:
        """Attach the activation to each norm that was replaced since, as a forward hook."""
        for parent, name, drop, act in self.places:
            norm = parent._modules[name]
            if not isinstance(norm, self._kinds) and _activate not in norm._forward_hooks.values():
                norm.add_module("drop", drop)
                norm.add_module("act", act)
                norm.register_forward_hook(_activate)


def _activate(self: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return self.act(self.drop(output))
