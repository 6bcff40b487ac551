"""Layers with parallel branches equal their definitions, and become one convolution for deployment."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from precision import assert_same_maps
from torch import nn

from fpn_plugins.necks.rep import CSPRepLayer, RepConv, RepELAN, SCDown, fuse_convs

LAYERS: dict[str, Any] = {"norm": "BN", "act": "silu"}
KINDS = {
    "RepConv": lambda: RepConv(6, 8, **LAYERS),
    "CSPRepLayer": lambda: CSPRepLayer(6, 8, 2, **LAYERS),
    "CSPRepLayer, narrow": lambda: CSPRepLayer(6, 8, 2, expansion=0.5, **LAYERS),
    "RepELAN": lambda: RepELAN(6, 8, 10, 4, 2, **LAYERS),
    "SCDown": lambda: SCDown(6, 8),
}


def evaluated(kind: str) -> nn.Module:
    """Build a module in double precision whose norms have statistics and weights of their own."""
    module = KINDS[kind]().double()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_fused_copy_computes_the_same_without_norms_and_branches(kind: str) -> None:
    module = evaluated(kind)
    keys, x = list(module.state_dict()), torch.randn(2, 6, 7, 5, dtype=torch.double)
    fused = fuse_convs(module)
    assert_same_maps(fused(x), module(x))
    assert list(module.state_dict()) == keys
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules())
    assert not any("conv2" in key for key in fused.state_dict())
    assert_same_maps(torch.jit.script(fused)(x), module(x))


def test_foldable_parts_alone_are_fused() -> None:
    """Other norms and convolutions stay, as the fold is wrong for them."""

    class Scaled(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    x = torch.randn(1, 4, 5, 5)
    for arguments in ({"norm": "LN"}, {"norm": "BN", "conv": Scaled}):
        module = RepConv(4, 4, **arguments).eval()
        assert list(fuse_convs(module).state_dict()) == list(module.state_dict())
        assert_same_maps(fuse_convs(module)(x), module(x))
    assert list(fuse_convs(RepConv(4, 4, norm=None).eval()).state_dict()) == ["conv1.conv.weight", "conv1.conv.bias"]


def test_module_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"RepConv is in training mode; call its eval\(\) before fuse_convs"):
        fuse_convs(RepConv(4, 4))


@pytest.mark.parametrize("expansion", [0.5, 1.0])
def test_csp_layer_adds_its_halves(expansion: float) -> None:
    layer = CSPRepLayer(6, 8, 1, expansion, norm=None, act="relu").double()
    w, x = layer.state_dict(), torch.randn(1, 6, 5, 4, dtype=torch.double)

    def conv(place: str, value: torch.Tensor) -> torch.Tensor:
        weight = w[f"{place}.conv.weight"]
        return F.conv2d(value, weight, w[f"{place}.conv.bias"], padding=weight.shape[-1] // 2)

    main = conv("main_conv", x).relu()
    main = (conv("blocks.0.conv1", main) + conv("blocks.0.conv2", main)).relu()
    joined = main + conv("short_conv", x).relu()
    assert_same_maps(layer(x), joined if expansion == 1 else conv("final_conv", joined).relu())


def test_aggregation_reads_the_map_after_each_stage() -> None:
    layer = RepELAN(6, 8, 10, 4, 1, **LAYERS).double().eval()
    x = torch.randn(1, 6, 5, 4, dtype=torch.double)
    first, second = layer.first_conv(x)[:, :5], layer.first_conv(x)[:, 5:]
    third = layer.stages[0](second)
    assert_same_maps(layer(x), layer.final_conv(torch.cat((first, second, third, layer.stages[1](third)), 1)))


def test_downsampling_rounds_up() -> None:
    assert SCDown(6, 8)(torch.randn(2, 6, 7, 4)).shape == (2, 8, 4, 2)
