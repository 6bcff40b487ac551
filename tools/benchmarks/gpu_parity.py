"""Compare maps and gradients of every registered module on a device with its float32 result on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from bench_models import largest_difference, perturb
from gpu_measure import Bench, Rows, describe, set_precision
from torch import Tensor, nn

from fpn_plugins import BACKBONES, NECKS
from fpn_plugins.testing import make_pyramid

SIZE, BATCH = (97, 129), 2
ENCODER = {"embed_dim": 32, "depth": 2, "num_heads": 4}
VIT = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4, "window_size": 3, "global_block_indices": (1,)}
RESNET = {"type": "TimmBackbone", "name": "resnet10t"}
BACKBONE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "DetectoRSResNet": {"base_channels": 4},
    "HybridCNNViT": {"cnn": RESNET, "vit": ENCODER},
    "ImagePyramid": {"backbone": {**RESNET, "out_indices": (1, 2, 3)}},
    "MViT": {
        "name": "mvitv2_tiny",
        "embed_dim": 8,
        "last_block_indices": (0, 2, 4, 6),
        "window_size": 8,
        "img_size": 64,
    },
    "MultiDepthViT": {"vit": {**VIT, "depth": 4}, "depths": (1, 2, 3, 4)},
    "SpatialTuningAdapter": {"vit": {**VIT, "type": "ViT"}},
    "Swin": {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "window_size": 4},
    "TimmBackbone": {"name": "resnet10t"},
    "TimmHybrid": {"name": "vit_small_r26_s32_224", "model_args": ENCODER},
    "ViT": VIT,
    "ViTAdapter": {"vit": VIT, "conv_inplane": 8, "init_values": 0.5},
}
# largest relative differences of maps and of gradients that rounding explains
TOLERANCES = {
    "float32": (1e-4, 2e-3),
    "channels_last": (1e-4, 2e-3),
    "bfloat16": (0.05, 0.5),
    "float16": (0.05, 0.5),
}
DEFAULT = ("float32", "bfloat16")


class PassOutput:
    """Maps and gradients of one pass, on the CPU."""

    def __init__(self, maps: Sequence[Tensor], leaves: Mapping[str, Tensor]) -> None:
        self.maps = [m.detach().float().cpu() for m in maps]
        self.gradients = {key: x.grad.float().cpu() for key, x in leaves.items() if x.grad is not None}

    def differences(self, expected: PassOutput) -> tuple[float, float]:
        """Relative differences of the maps, by their largest value, and of all gradients, by their norm.

        The norm, because in a few places rounding changes which value of a window is the largest or which values are
        above zero, and thus single gradients.

        Raises:
            ValueError: different parameters have gradients.
        """
        if set(self.gradients) != set(expected.gradients):
            raise ValueError(f"other gradients: {sorted(set(self.gradients) ^ set(expected.gradients))[:5]}")
        found, wanted = (
            torch.cat([result.gradients[key].flatten() for key in expected.gradients]) for result in (self, expected)
        )
        return largest_difference(self.maps, expected.maps), float((found - wanted).norm() / wanted.norm())


def build(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Build a registered module with small example arguments, and its inputs."""
    torch.manual_seed(0)
    if name in BACKBONES:
        module, inputs = BACKBONES[name](**BACKBONE_ARGUMENTS[name]), (torch.randn(BATCH, 3, *SIZE),)
    else:
        card = NECKS[name].card  # type: ignore[attr-defined]
        module = NECKS[name](
            **{"in_channels": [spec.channels for spec in card.example_specs], **card.example_arguments}
        )
        inputs = make_pyramid(card.example_specs, SIZE, BATCH)
    return perturb(module).eval(), inputs


def run(name: str, device: str, label: str) -> PassOutput:
    """Run one pass of the module forward, and backward from fixed gradients of the maps."""
    module, inputs = build(name)
    layout = torch.channels_last if label == "channels_last" else torch.contiguous_format
    module.to(device, memory_format=layout)
    leaves = [x.to(device).contiguous(memory_format=layout).requires_grad_() for x in inputs]
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(label)
    with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
        maps = module(leaves[0] if name in BACKBONES else leaves)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(m.shape, generator=generator).to(m) for m in maps]
    torch.autograd.backward(maps, grads)
    return PassOutput(maps, {**dict(module.named_parameters()), **{f"input {k}": x for k, x in enumerate(leaves)}})


def parity(bench: Bench, rows: Rows, names: Sequence[str] = ()) -> None:
    """Add a row per module and way to compute, independent of the bench's precisions; a large difference is an error.

    All of `TOLERANCES` in full, otherwise `DEFAULT`.

    Args:
        bench: gives the device.
        rows: receives the rows.
        names: registered modules; empty is all.
    """
    set_precision("float32")
    for name in names or (*sorted(NECKS), *sorted(BACKBONES)):
        try:
            expected = run(name, "cpu", "float32")
            for label in TOLERANCES if bench.full else DEFAULT:
                tolerances = TOLERANCES[label]
                found = run(name, bench.device, label).differences(expected)
                far = any(not value <= most for value, most in zip(found, tolerances, strict=True))
                error = {"error": f"more than {tolerances} from the CPU"} if far else {}
                rows.add(module=name, way=label, maps=found[0], gradients=found[1], **error)
        except ImportError as error:  # of timm
            rows.add(module=name, skipped=describe(error))
        except Exception as error:  # continue with the others
            rows.add(module=name, error=describe(error))
