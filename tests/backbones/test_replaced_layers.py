"""Replaced layers of the transformers, as in adapters and quantization, are called and learn."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn

from fpn_plugins import MViT, Swin, ViT

SCALE = 1.25


class Scaled(nn.Module):
    """Replacement of a layer that exposes the layer's weights, as in LoRA and LayerNorm tuning."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        self.scale = nn.Parameter(torch.tensor(SCALE))

    @property
    def weight(self) -> Tensor:
        """Weights of the frozen layer."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """Weights of the frozen layer."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Scale the output of the layer."""
        return self.scale * self.base(x)


def swin() -> Swin:
    return Swin(embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8), window_size=3, drop_path_rate=0.0)


def mvit() -> MViT:
    return MViT("mvitv2_tiny", embed_dim=8, last_block_indices=(0, 2, 4, 6), window_size=8, img_size=64)


def vit() -> ViT:
    outputs = {"global_block_indices": (1,), "out_block_indices": (0, 1)}
    return ViT(64, embed_dim=16, depth=2, num_heads=2, window_size=3, **outputs)


NETWORKS = [swin, mvit, vit]


def scrambled(module: nn.Module) -> nn.Module:
    for p in module.parameters():
        nn.init.normal_(p, mean=float(p.dim() == 1), std=0.2)
    return module.double().eval()


def replace(module: nn.Module) -> int:
    """Replace each layer by a `Scaled`, and return how many there are."""
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, (nn.Linear, nn.LayerNorm, nn.Conv2d)):
            setattr(module, name, Scaled(child.requires_grad_(False)))
            count += 1
        else:
            count += replace(child)
    return count


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_replacements_of_layers_are_called_and_learn(network: Any, grad: bool) -> None:
    """Outputs equal those of a network whose weights are scaled."""
    module = scrambled(network())
    scaled = copy.deepcopy(module)
    for layer in scaled.modules():
        if isinstance(layer, (nn.Linear, nn.LayerNorm, nn.Conv2d)):
            for p in layer.parameters():
                p.data.mul_(SCALE)
    assert replace(module) > 20 - 8 * (network is vit)
    x = torch.randn(2, 3, 60, 75, dtype=torch.double)
    with torch.set_grad_enabled(grad):
        got = module(x)
        assert_same_maps(got, scaled(x))
    if grad:
        sum(m.square().mean() for m in got).backward()
        scales = {key: p.grad for key, p in module.named_parameters() if key.endswith("scale")}
        assert [key for key, p in scales.items() if p is None or not p.any()] == []


@pytest.mark.parametrize("network", NETWORKS)
def test_a_layer_with_another_forward_is_called(network: Any) -> None:
    """Some libraries replace the forward of a layer."""
    module = scrambled(network())
    called = []
    layers = {key: m for key, m in module.named_modules() if isinstance(m, (nn.Linear, nn.LayerNorm))}
    for key, layer in layers.items():
        layer.forward = lambda x, key=key, forward=layer.forward: called.append(key) or forward(x)
    module(torch.randn(1, 3, 64, 64, dtype=torch.double))
    assert set(called) == set(layers)


@pytest.mark.parametrize("network", NETWORKS)
def test_on_the_meta_device_shapes_are_computed(network: Any) -> None:
    x = torch.randn(2, 3, 60, 75)
    shapes = [m.shape for m in network()(x)]
    with torch.device("meta"):
        maps = network()(x.to("meta"))
    assert [m.shape for m in maps] == shapes and all(m.is_meta and m.requires_grad for m in maps)


@pytest.mark.parametrize("network", NETWORKS)
def test_no_images_give_no_maps(network: Any) -> None:
    module = network()
    maps = module(torch.zeros(0, 3, 64, 64))
    assert [m.shape[0] for m in maps] == [0] * len(maps)
    sum(m.sum() for m in maps).backward()
    assert all(p.grad is None or not p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_in_half_precision(network: Any) -> None:
    """The whole network is converted, without autocast."""
    module = scrambled(network())
    half, x = copy.deepcopy(module).bfloat16(), torch.randn(2, 3, 60, 75)
    got, expected = half(x.bfloat16()), module(x.double())
    sum(m.square().mean() for m in got).backward()
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a - b).norm() < 0.05 * b.norm()
    assert all(p.grad.dtype == torch.bfloat16 and p.grad.isfinite().all() for p in half.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_frozen_parameters_get_no_gradient_and_the_others_the_same(network: Any) -> None:
    """Every second parameter is frozen; gradients pass through frozen layers."""
    module = scrambled(network())
    x = torch.randn(1, 3, 60, 75, dtype=torch.double)
    gradients = []
    for step in (1, 2):
        names = [key for key, _ in module.named_parameters()][::step]
        for key, p in module.named_parameters():
            p.requires_grad_(key in names)
            p.grad = None
        sum(m.square().mean() for m in module(x)).backward()
        gradients.append({key: p.grad for key, p in module.named_parameters() if p.grad is not None})
    assert list(gradients[1]) == names
    assert_same_gradients(gradients[1], {key: gradients[0][key] for key in names})
