"""Build the models of the benchmarks: from any copy of the package, and the toolboxes' own."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from neck_cases import CASES, OURS
from torch import Tensor, nn

from fpn_plugins.testing import make_pyramid

Inputs = Tensor | tuple[Tensor, ...]  # images for a backbone, maps for a neck

WINDOWED = [index for index in range(12) if index not in (2, 5, 8, 11)]
# name of the registered class or path of the peer's, and its arguments; ViT-B also gets `img_size`
BACKBONE_CASES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "swin_t": {
        OURS: ("Swin", {"name": "swin_tiny_patch4_window7_224", "drop_path_rate": 0.0}),
        "mmdet": ("mmdet.models.SwinTransformer", {"drop_path_rate": 0.0}),
        "detectron2": ("detectron2.modeling.backbone.SwinTransformer", {"drop_path_rate": 0.0}),
    },
    "mvit_t": {
        OURS: ("MViT", {"name": "mvitv2_tiny", "norm_eps": 1e-5}),  # epsilon of detectron2's class
        "detectron2": ("detectron2.modeling.backbone.MViT", {"depth": 10, "last_block_indexes": (0, 2, 7, 9)}),
    },
    "vit_b": {
        OURS: ("ViT", {"norm_eps": 1e-5}),
        "detectron2": (
            "detectron2.modeling.backbone.ViT",
            {"use_rel_pos": True, "window_size": 14, "window_block_indexes": WINDOWED, "drop_path_rate": 0.0},
        ),
    },
}
# arguments that make models small enough to try a benchmark
SMALL_SWIN = {"embed_dim": 24, "depths": (2, 2, 1, 1)}
SMALL_VIT = {"embed_dim": 24, "depth": 3, "num_heads": 2}
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "swin_t": {
        OURS: {**SMALL_SWIN, "num_heads": (3, 6, 12, 24)},
        "mmdet": {"embed_dims": 24, "depths": (2, 2, 1, 1)},
        "detectron2": SMALL_SWIN,
    },
    "mvit_t": {
        OURS: {"embed_dim": 8, "last_block_indices": (0, 1, 3, 4)},
        "detectron2": {"embed_dim": 8, "depth": 5, "last_block_indexes": (0, 1, 3, 4)},
    },
    "vit_b": {
        OURS: {**SMALL_VIT, "global_block_indices": (2,)},
        "detectron2": {**SMALL_VIT, "window_block_indexes": (0, 1)},
    },
}
# cases of `neck_cases`
NECK_KINDS = {
    "fpn": "FPN",
    "bifpn": "BiFPN",
    "pafpn": "PAFPN",
    "nas_fpn": "NASFPN",
    "csp_pafpn": "CSPPAFPN",
    "bfp": "BFP",
}
BACKBONE_NAMES = ("vit_b", "swin_t", "mvit_t")
NAMES = (*BACKBONE_NAMES, *NECK_KINDS)


def peers_of(name: str, wanted: Sequence[str]) -> list[str]:
    """Select the wanted toolboxes that have the model and are installed."""
    known = CASES[NECK_KINDS[name]].peers if name in NECK_KINDS else BACKBONE_CASES[name]
    return [who for who in wanted if who in known and importlib.util.find_spec(who)]


def build_ours(name: str, package: ModuleType, size: tuple[int, int], tiny: bool = False) -> nn.Module:
    """Build a model from a copy of the package, with weights of a fixed seed.

    Raises:
        ValueError: the copy does not have the model.
    """
    kind, arguments = _neck(name) if name in NECK_KINDS else _backbone(name, OURS, size, tiny)
    registry = package.NECKS if name in NECK_KINDS else package.BACKBONES
    if kind not in registry:
        raise ValueError(f"{package.__name__} has no {kind}; leave {name} out")
    torch.manual_seed(0)
    return registry[kind](**arguments)


def build_peer(name: str, who: str, size: tuple[int, int], tiny: bool = False) -> nn.Module:
    """Build a toolbox's model, with weights of a fixed seed."""
    torch.manual_seed(0)
    if name in NECK_KINDS:
        case = CASES[NECK_KINDS[name]]
        return case.peers[who](case.specs, size)
    kind, arguments = _backbone(name, who, size, tiny)
    module, _, cls = kind.rpartition(".")
    return getattr(importlib.import_module(module), cls)(**arguments)


def _neck(name: str) -> tuple[str, dict[str, Any]]:
    case = CASES[NECK_KINDS[name]]
    return NECK_KINDS[name], {"in_channels": [spec.channels for spec in case.specs], **case.arguments}


def _backbone(name: str, who: str, size: tuple[int, int], tiny: bool) -> tuple[str, dict[str, Any]]:
    kind, arguments = BACKBONE_CASES[name][who]
    # both resize the positions of the shorter side
    image = {"img_size": max(size)} if name == "vit_b" else {}
    return kind, {**arguments, **image, **(SMALL[name][who] if tiny else {})}


def perturb(net: nn.Module) -> nn.Module:
    """Move all parameters away from zero, where a part of the model would not affect its maps."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return net


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """State dict in the toolbox's layout, which our modules load."""
    return getattr(net, "neck", net).state_dict()


def make_inputs(name: str, size: tuple[int, int], batch: int, device: str = "cpu") -> Inputs:
    """Draw random images, or maps like those of a ResNet-50."""
    if name in NECK_KINDS:
        return make_pyramid(CASES[NECK_KINDS[name]].specs, size, batch, device=device)
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)


def maps_of(net: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Run a model and list its maps, high to low resolution."""
    found = net(inputs if isinstance(inputs, Tensor) else list(inputs))  # effdet's appends to what it is given
    if isinstance(found, Tensor):  # of a single layer
        return [found]
    return list(found.values() if isinstance(found, dict) else found)


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of two pyramids, relative to the largest value of each map; NaN if one is in either."""
    pairs = zip(found, expected, strict=True)
    return float(torch.stack([(a - b).abs().max() / b.abs().max() for a, b in pairs]).max())


def peer_differences(nets: Mapping[str, nn.Module], inputs: Inputs) -> dict[str, float]:
    """Largest relative difference of our maps from each peer's, with the peer's weights."""
    found = {}
    for who in (who for who in nets if who != OURS):
        nets[OURS].load_state_dict(weights_of(nets[who]))
        for net in (nets[OURS], nets[who]):
            net.eval()  # mmdet's returns None
        with torch.no_grad():
            found[who] = largest_difference(maps_of(nets[OURS], inputs), maps_of(nets[who], inputs))
    return found


def prepare_pass(
    net: nn.Module, inputs: Inputs, training: bool, dtype: torch.dtype | None = None
) -> Callable[[], object]:
    """Make a job of one forward pass, or of forward and backward from gradients equal to the maps.

    Gradients of parameters exist before, as in every iteration but the first; a neck also computes those of its inputs.

    Args:
        net: model; its mode is set.
        inputs: of the model.
        training: whether to compute gradients.
        dtype: autocast dtype; ``None`` is no autocast.
    """
    net.train(training)
    for parameter in net.parameters() if training else ():
        parameter.grad = torch.zeros_like(parameter)
    device = (inputs if isinstance(inputs, Tensor) else inputs[0]).device.type

    def job() -> None:
        given = inputs if isinstance(inputs, Tensor) else tuple(x.detach().requires_grad_(training) for x in inputs)
        with (
            torch.set_grad_enabled(training),
            torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None),
        ):
            maps = maps_of(net, given)
        if training:
            torch.autograd.backward(maps, [m.detach() for m in maps])

    return job
