"""Compiled training of every neck and backbone, at the changing sizes of a data set, with gradient checkpointing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from registered import (
    BACKBONE_HOSTS,
    FEWER,
    NECK_NAMES,
    build,
    example,
    gradients,
    tensors,
)
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from fpn_plugins import BACKBONES, NECKS, Pyramid
from fpn_plugins.keywords import accepted_keywords

# as in an epoch of COCO: both orientations, odd sides, sides that no stride divides; two cells or more at every level
SIZES = [(160, 224), (224, 160), (161, 257), (256, 192), (175, 193), (192, 192), (289, 165), (288, 160)]
NAMES = [pytest.param(name, marks=BACKBONE_HOSTS.get(name, ())) for name in (*NECK_NAMES, *sorted(BACKBONES))]
CHECKPOINTED = {"gradient_checkpointing": True}
# pyramids with layers and backward passes of their own
PYRAMIDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deformable attention": (
        {"type": "TimmBackbone", "name": "test_resnet", "out_indices": (2, 3)},
        {"type": "MSDeformAttnPixelDecoder", **CHECKPOINTED},
    ),
}


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def checkpointed(name: str) -> dict[str, bool]:
    """Return the argument that enables gradient checkpointing, where there is one."""
    known = accepted_keywords(NECKS[name] if name in NECKS else BACKBONES[name])
    return CHECKPOINTED if known and "gradient_checkpointing" in known else {}


def mark_dynamic(inputs: Any) -> Any:
    """Let the first graph be for dynamic heights and widths."""
    for x in tensors(inputs):
        torch._dynamo.maybe_mark_dynamic(x, (2, 3))
    return inputs


@pytest.mark.parametrize("name", NAMES)
def test_few_graphs_serve_all_sizes_in_training(name: str):
    """No graph breaks, and a side that became fixed would cost a graph for each of its values."""
    module: Any = build(name, **FEWER.get(name, {}), **checkpointed(name)).train()
    counter = CompileCounter()
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    for size in SIZES:
        inputs, maps = mark_dynamic(example(name, size, batch=1)), []
        for call in (compiled, module):
            torch.manual_seed(0)
            maps.append(call(inputs))
        assert_same_maps(*maps)
    assert_same_gradients(*(gradients(module, found) for found in maps))
    assert 1 <= counter.frame_count <= 4


@pytest.mark.timm
@pytest.mark.parametrize("name", PYRAMIDS)
def test_gradients_at_dynamic_sizes_are_eager_ones(name: str):
    """From one graph; `aot_eager` traces the backward pass as the default backend does, without its compiler."""
    torch.manual_seed(0)
    pyramid: Any = Pyramid(*PYRAMIDS[name]).double().train()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(pyramid, fullgraph=True, backend=counter)
    for size in SIZES[:3:2]:
        x, maps = mark_dynamic(torch.rand(1, 3, *size, dtype=torch.float64)), []
        for call in (compiled, pyramid):
            torch.manual_seed(0)
            maps.append(call(x))
        assert_same_maps(*maps)
        assert_same_gradients(*(gradients(pyramid, found) for found in maps))
    assert counter.frame_count == 1


class Alone(nn.Module):
    """A network of timm that returns its maps."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        self.network = timm.create_model(name, features_only=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(x))


@pytest.mark.timm
@pytest.mark.parametrize("name", ["test_convnext"])
def test_networks_of_timm_need_few_graphs_more_than_alone(name: str):
    numbers = []
    for module in (Alone(name), Pyramid({"type": "TimmBackbone", "name": name}, {"type": "FPN", "out_channels": 8})):
        torch._dynamo.reset()
        counter = CompileCounter()
        compiled = torch.compile(module.eval(), fullgraph=True, backend=counter)
        with torch.no_grad():
            for size in SIZES:
                compiled(torch.rand(1, 3, *size))
        numbers.append(counter.frame_count)
    alone, with_neck = numbers
    assert with_neck <= alone + 4
