"""Small examples of every registered neck and backbone, with inputs, for the contract tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins import BACKBONES, NECKS, FeatureSpec
from fpn_plugins.testing import make_pyramid

# necks that read the maps of another neck
BEHIND_A_NECK = {name for name, neck in NECKS.items() if neck.card.follows}
# necks that read a single map, or several of one stride
ON_ONE_STRIDE = {name for name, neck in NECKS.items() if len({s.stride for s in neck.card.example_specs}) == 1}
# necks that read only the sizes of all maps except the last
ON_THE_LAST_MAP = {"DilatedEncoder", "TopDownPyramid"}
SIZES = [(64, 64), (65, 97), (75, 33)]  # square, and odd sides that round up at every stride
NECK_NAMES = sorted(NECKS)

# one of the two blocks attends in windows, of which the maps of the tests are no multiple
SMALL_NETWORK = {"embed_dim": 32, "depth": 2, "num_heads": 2, "window_size": 3, "global_block_indices": (1,)}
TINY_ENCODER = {"embed_dim": 32, "depth": 2, "num_heads": 4}
VIT_PARTS = {
    "img_size": 64,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 4,
    "window_size": 3,
    "global_block_indices": (1, 3),
}
DEPTHS = {
    **TINY_ENCODER,
    "type": "ViT",
    "depth": 3,
    "window_size": 0,
    "global_block_indices": (),
    "use_rel_pos": False,
    "out_block_indices": (0, 1, 2),
}
# example arguments; a registered backbone without an entry fails a test
BACKBONE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "TimmBackbone": {"name": "resnet10t"},
    "ImagePyramid": {"backbone": {"type": "TimmBackbone", "name": "resnet10t", "out_indices": (1, 2, 3)}},
    "MViT": {
        "name": "mvitv2_tiny",
        "embed_dim": 8,
        "last_block_indices": (0, 2, 4, 6),
        "window_size": 8,
        "img_size": 64,
    },
    "Swin": {
        "embed_dim": 16,
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 2, 4, 8),
        "window_size": 4,
        "drop_path_rate": 0.0,
    },
    "MultiDepthViT": {"vit": VIT_PARTS, "depths": (1, 2, 3, 4)},
    "HybridCNNViT": {"cnn": {"type": "TimmBackbone", "name": "resnet10t"}, "vit": TINY_ENCODER},
    "TimmHybrid": {"name": "vit_small_r26_s32_224", "model_args": TINY_ENCODER},
    "DetectoRSResNet": {"base_channels": 4},
    "SpatialTuningAdapter": {"vit": DEPTHS, "detail_channels": 8},
    "ViTAdapter": {
        "vit": {**SMALL_NETWORK, "pretrain_img_size": 64},
        "conv_inplane": 8,
        "n_points": 2,
        "init_values": 0.5,
    },
    "ViT": {
        "img_size": 64,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "window_size": 2,
        "global_block_indices": (1,),
    },
}
# arguments for tests that trace: fewer repeats and blocks, which are alike; tracing takes seconds
FEWER: dict[str, dict[str, Any]] = {
    "BiFPN": {"num_repeats": 1},
    "CSPNeXtPAFPN": {"num_blocks": 1},
    "CSPPAFPN": {"num_blocks": 1},
    "DyHead": {"num_blocks": 1},
    "FPG": {"paths": ("bottom_up",) * 2, "skipped_paths": "none"},
    "HybridEncoder": {"in_indices": (2, 3)},
    "ImagePyramid": {"scales": (1, 0.5)},
    "MViT": {"last_block_indices": (0, 1, 2, 3)},
    "MultiDepthViT": {
        "vit": {**VIT_PARTS, "depth": 2, "global_block_indices": (1,)},
        "depths": (1, 2),
        "strides": (8, 16),
    },
    "NASFPN": {"num_repeats": 1},
    "SpatialTuningAdapter": {"vit": {**DEPTHS, "depth": 1, "out_block_indices": (0,)}},
    "ViTAdapter": {"vit": {**SMALL_NETWORK, "depth": 1, "global_block_indices": ()}, "use_extra_extractor": False},
}
# classes with arguments that make another network of them, under names of their own; they pass the same contracts
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT-DINOv3": ("ViT", {"name": "vit_small_plus_patch16_dinov3_qkvb", **SMALL_NETWORK, "num_heads": 4}),
    "ViT-EVA-02": (
        "ViT",
        {
            **{"name": "eva02_base_patch14_224", "patch_size": 16, **SMALL_NETWORK},
            **{"prefix_tokens_in_windows": "copy", "window_positions": "window"},
        },
    ),
}
# further families of foundation models, for the contracts on which their designs bear: export and precision
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT-PE-detector": (
        "ViT",
        {
            **{"name": "vit_pe_core_gigantic_patch14_448", "patch_size": 16, "pretrain_img_size": 48, **SMALL_NETWORK},
            **{"prefix_tokens_in_windows": "drop", "window_positions": "window"},
            **{"tile_positions": True, "final_norm": False},
        },
    ),
    "ViT-PE-spatial": ("ViT", {"name": "vit_pe_spatial_tiny_patch16_512", **SMALL_NETWORK}),
    "ViT-DINOv2": ("ViT", {"name": "vit_small_patch14_reg4_dinov2", **SMALL_NETWORK}),
    "ViT-SigLIP": ("ViT", {"name": "vit_base_patch16_siglip_256", **SMALL_NETWORK}),
}
FOUNDATION = [pytest.param(name, marks=pytest.mark.timm) for name in (*VARIANTS, *FAMILIES)]
# markers of backbones that need a host
HOSTED = ("TimmBackbone", "ImagePyramid", "HybridCNNViT", "TimmHybrid", *VARIANTS, *FAMILIES)
BACKBONE_HOSTS = dict.fromkeys(HOSTED, pytest.mark.timm)
BACKBONE_NAMES = [pytest.param(name, marks=BACKBONE_HOSTS.get(name, ())) for name in sorted([*BACKBONES, *VARIANTS])]
# necks that round odd sizes down from the second level on, as their peers do; then also necks whose extra levels, and
# backbones whose maps do so
ROUNDS_DOWN_AT_ONCE = {"HRFPN"}
ROUNDS_DOWN = {*ROUNDS_DOWN_AT_ONCE, "NASFPN", "SimpleFeaturePyramid", "ViT", *VARIANTS}
# backbones whose residual stream stays in single precision under autocast, as in their peers
SINGLE_PRECISION_MAPS = {"MViT", "Swin", "ViT", "ViTAdapter", *VARIANTS}
MODULES = [*NECK_NAMES, *BACKBONE_NAMES]


def in_specs(name: str) -> tuple[FeatureSpec, ...]:
    """Return the specs of a neck's example inputs: a backbone's maps or another neck's."""
    return NECKS[name].card.example_specs


def build_neck(name: str, **arguments: Any) -> nn.Module:
    """Build a neck with its card's example arguments and further ones."""
    channels = [spec.channels for spec in in_specs(name)]
    return NECKS[name](**{"in_channels": channels, **NECKS[name].card.example_arguments, **arguments})


def build(name: str, **arguments: Any) -> nn.Module:
    """Build a registered class with its example arguments and further ones, non-trivial norms, and no zero weights."""
    if name in NECKS:
        module = build_neck(name, **arguments)
    else:
        kind, example = {**VARIANTS, **FAMILIES}.get(name, (name, BACKBONE_ARGUMENTS.get(name, {})))
        module = BACKBONES[kind](**{**example, **arguments})
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(std=0.1), layer.running_var.uniform_(0.5, 1.5)
            layer.weight.data.uniform_(0.5, 1.5), layer.bias.data.normal_(std=0.1)
        if isinstance(layer, nn.LayerNorm):  # after an initial one the mean square of a map is constant
            layer.weight.data.uniform_(0.5, 1.5), layer.bias.data.normal_(std=0.1)
    for key, p in module.named_parameters():
        if not p.any() and (p.dim() > 1 or key.endswith("weight")):  # a block that starts as the identity
            nn.init.normal_(p, std=0.1)
        if p.dim() == 1 and bool((p == 1).all()):  # a norm: the mean of its output's squares would be constant
            nn.init.uniform_(p, 0.5, 1.5)
    return module.eval()


def neck_inputs(name: str, size: tuple[int, int], batch: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return make_pyramid(in_specs(name), size, batch, seed=None, dtype=dtype)


def example(name: str, size: tuple[int, int] = (65, 97), batch: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    """Build the argument of ``forward``."""
    return neck_inputs(name, size, batch, dtype) if name in NECKS else torch.randn(batch, 3, *size, dtype=dtype)


def double_example(name: str, size: tuple[int, int] = (65, 97)) -> Any:
    """Build the example in double precision, so that no tolerance hides a difference."""
    return example(name, size, dtype=torch.float64)


def gradients(module: nn.Module, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the gradient of every parameter for the mean squares of the outputs."""
    named = dict(module.named_parameters())
    return dict(zip(named, torch.autograd.grad(sum(m.square().mean() for m in outputs), named.values()), strict=True))


def each(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return change(inputs) if isinstance(inputs, Tensor) else tuple(change(x) for x in inputs)


def tensors(inputs: Any) -> tuple[Tensor, ...]:
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
