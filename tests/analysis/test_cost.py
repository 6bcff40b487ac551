"""Counts agree with formulas, with PyTorch's counter, with fvcore, and with what autograd keeps on real tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fpn_plugins import NECKS, FeatureSpec, build_neck
from fpn_plugins.analysis import build_pyramid, count_cost, neck_cost, pyramid_cost
from fpn_plugins.analysis.components import Component, component_namer, neck_role
from fpn_plugins.ops.deformable import ModulatedDeformConv2d, flop_formulas
from fpn_plugins.testing import make_pyramid
from fpn_plugins.upsampling import UPSAMPLE_MODES
from fpn_plugins.visualization import draw_costs

IN_SPECS = (FeatureSpec(8, 4), FeatureSpec(12, 8), FeatureSpec(16, 16), FeatureSpec(24, 32))
# what multiplies and adds; fvcore counts norms and resizing as well
FVCORE_MACS = ("conv", "linear", "matmul", "addmm", "bmm", "mm")


def drop(_: Any) -> None:
    """What runs a network for the counter returns no maps."""


def of_neck(report: Any, name: str) -> Any:
    return report.total("neck", name)


@given(
    channels=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    width=st.integers(1, 40),
    size=st.tuples(st.integers(32, 200), st.integers(32, 200)),
)
def test_fpn_by_hand(channels: list[int], width: int, size: tuple[int, int]) -> None:
    specs = [FeatureSpec(c, 4 * 2**level) for level, c in enumerate(channels)]
    report = neck_cost({"type": "FPN", "out_channels": width}, specs, size)
    cells = [-(-size[0] // spec.stride) * -(-size[1] // spec.stride) for spec in specs]
    assert of_neck(report, "lateral convs").macs == sum(n * c * width for n, c in zip(cells, channels, strict=True))
    assert of_neck(report, "lateral convs").parameters == sum(c * width + width for c in channels)
    assert of_neck(report, "output convs").macs == sum(n * 9 * width**2 for n in cells)
    assert of_neck(report, "output convs").parameters == len(channels) * (9 * width**2 + width)
    assert of_neck(report, "merges").macs == 0
    assert report.total().macs == of_neck(report, "lateral convs").macs + of_neck(report, "output convs").macs


def real_neck(name: str) -> tuple[nn.Module, list[Tensor]]:
    """A neck with weights, on the maps of a small image."""
    arguments: dict[str, Any] = {"out_channels": 32}  # of GN
    if name in ("BFP", "SimpleFeaturePyramid"):
        arguments = {}
    if name in ("NASFCOSFPN", "SSDNeck"):
        arguments = dict(NECKS[name].card.example_arguments)
    specs = IN_SPECS
    if name in ("BFP", "DyHead"):
        specs = tuple(FeatureSpec(16, spec.stride) for spec in IN_SPECS)
    elif name == "RFP":
        specs, arguments = NECKS[name].card.example_specs, dict(NECKS[name].card.example_arguments)
    elif len({spec.stride for spec in NECKS[name].card.in_specs}) == 1:
        specs = NECKS[name].card.example_specs
    neck = build_neck({"type": name, **arguments}, specs).eval()
    return neck, [x.requires_grad_() for x in make_pyramid(specs, (128, 64), seed=None)]


def count_on_cpu(module: nn.Module, inputs: Any) -> Any:
    return count_cost(module, lambda: drop(module(inputs)), "", (0, 0), lambda name: Component("neck", name))


@pytest.mark.parametrize("name", sorted(NECKS))
def test_every_neck_agrees_with_torch_and_fvcore(name: str) -> None:
    neck, maps = real_neck(name)
    counter = FlopCounterMode(display=False, custom_mapping=flop_formulas())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        cost = count_on_cpu(neck, maps).total()
        with counter:
            neck(maps)
    assert cost.parameters == sum(p.numel() for p in neck.parameters())
    assert 2 * cost.macs == counter.get_total_flops() > 0
    analysis = FlopCountAnalysis(neck, (maps,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted = sum(macs for operator, macs in analysis.by_operator().items() if operator in FVCORE_MACS)
    # fvcore does not count fused attention: each of n positions with each, for the weights and for the sum of values
    position, width = {"BFP": (2, 16), "HybridEncoder": (-1, 32)}.get(name, (0, 0))
    attention = 2 * (maps[position].shape[-2] * maps[position].shape[-1]) ** 2 * width
    # nor deformable convolutions: of each level, of the finer and of the coarser one, in each of six blocks
    cells = [x.shape[-2] * x.shape[-1] for x in maps] if name in ("DyHead", "CTResNetNeck") else []
    deformable = 9 * 32 * (16 + 5 * 32) * (sum(cells) + 2 * sum(cells[1:]))
    if name == "CTResNetNeck":  # the map is doubled after each of the three
        layers = [layer for layer in neck.modules() if isinstance(layer, ModulatedDeformConv2d)]
        cells = [maps[-1].shape[-2] * maps[-1].shape[-1] * 4**k for k in range(len(layers))]
        deformable = sum(n * layer.weight.numel() for n, layer in zip(cells, layers, strict=True))
    assert cost.macs == counted + attention + deformable


@pytest.mark.timm
@pytest.mark.parametrize("neck", [None, "FPN", "PAFPN"])
def test_a_whole_pyramid_agrees_with_torch(neck: str | None) -> None:
    report = pyramid_cost("resnet10t", neck, (64, 96))
    model = build_pyramid("resnet10t", neck).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, 64, 96))
    assert 2 * report.total().macs == counter.get_total_flops()
    assert report.total().parameters == sum(p.numel() for p in model.parameters())
    assert sum(c.macs for c in report.components) == report.total().macs
    assert report.total("backbone").macs + report.total("neck").macs == report.total().macs


@pytest.mark.timm
def test_fused_attention_is_counted_and_its_weights_are_not_kept() -> None:
    """On the meta device PyTorch itself takes the kernel that keeps B x heads x N x N."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(64, 192)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.backbone(x).unflatten(-1, (3, 2, 32)).permute(2, 0, 3, 1, 4)  # 3 B heads N C
            return nn.functional.scaled_dot_product_attention(q, k, v)

    with torch.device("meta"):
        model, x = Attention(), torch.empty(1, 500, 64)
        report = count_cost(model, lambda: drop(model(x)), "", (0, 0))
    assert report.total().macs == 500 * 64 * 192 + 2 * 500 * 500 * 64
    assert report.total().activation_bytes < 2 * 500 * 500 * 4


@pytest.mark.timm
def test_kept_bytes_match_autograd_on_real_tensors() -> None:
    model = build_pyramid("resnet10t", "FPN").train()  # batch norms keep the batch's statistics
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    holding = []  # keeps the addresses from being used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        holding.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(torch.randn(1, 3, 64, 96))
    assert pyramid_cost("resnet10t", "FPN", (64, 96)).total().activation_bytes == sum(kept.values()) > 0


@pytest.mark.timm
def test_checkpointing_keeps_less_and_computes_the_same() -> None:
    plain, checkpointed = (
        pyramid_cost({"type": "TimmBackbone", "name": "resnet26", "gradient_checkpointing": on}, None, (64, 96)).total()
        for on in (False, True)
    )
    assert checkpointed.macs == plain.macs
    assert checkpointed.activation_bytes < 0.6 * plain.activation_bytes


@pytest.mark.timm
def test_frozen_stages_keep_nothing() -> None:
    frozen = pyramid_cost({"type": "TimmBackbone", "name": "resnet10t", "frozen_stages": 1}, "FPN", (64, 64))
    by_name = {cost.name: cost for cost in frozen.components if cost.part == "backbone"}
    assert by_name["layer1"].activation_bytes == 0 < by_name["layer1"].macs
    assert by_name["layer3"].activation_bytes > 0


@pytest.mark.timm
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("mobilenetv2_100", ["stem", *(f"blocks.{i}" for i in range(7))]),
        ("convnext_atto", ["stem_0", *(f"stages_{i}" for i in range(4))]),
    ],
)
def test_stages_of_backbones(name: str, stages: list[str]) -> None:
    indices = (0, 1, 2, 3) if name.startswith("convnext") else (1, 2, 3, 4)
    report = pyramid_cost({"type": "TimmBackbone", "name": name, "out_indices": indices}, None, (64, 64))
    found = [cost.name for cost in report.components if cost.part == "backbone"]
    assert found[-4:] == stages[-4:] and len(found) in (len(stages), len(stages) + 1)


def test_module_names_of_each_toolbox() -> None:
    """The same roles from mmdet's, Detectron2's and torchvision's names."""
    model = nn.Module()
    model.backbone, model.neck = nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Module()
    model.neck.lateral_convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
    name = component_namer(model)
    assert name("neck.fpn_convs.2.conv") == ("neck", "output convs")
    assert name("neck.fpn_convs.3.conv") == ("neck", "extra levels")
    assert name("neck.1.refine.g") == ("neck", "refinement")
    assert name("neck") == name("neck.0") == ("neck", "merges")
    assert name("neck.fpn") == ("neck", "merges") and name("neck.fpn.lateral_convs.0") == ("neck", "lateral convs")
    assert name("neck.semantic_merge.branches.1.0") == ("neck", "semantic branch")
    assert name("rpn_head.rpn_conv") == ("head", "RPN")
    assert name("roi_head.mask_head.convs.0") == ("head", "mask head")
    assert name("roi_heads.box_predictor") == ("head", "box head")
    assert name("bbox_head.cls_convs.0") == ("head", "dense head")
    both = nn.Module()
    both.backbone = nn.Module()
    both.backbone.bottom_up, both.backbone.fpn_lateral2 = nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Conv2d(3, 3, 1)
    name = component_namer(both)
    assert name("backbone.fpn_lateral2") == ("neck", "lateral convs")
    assert name("backbone.fpn_output5") == ("neck", "output convs")
    assert name("backbone.top_block.p6") == ("neck", "extra levels")
    assert name("backbone.bottom_up.0").part == "backbone"


@pytest.mark.parametrize("name", sorted(NECKS))
def test_no_part_of_a_neck_is_listed_under_other(name: str) -> None:
    with torch.device("meta"):
        neck = build_neck({"type": name, **NECKS[name].card.arguments}, NECKS[name].card.in_specs)
    names = [inside for inside, module in neck.named_modules() if list(module.parameters(recurse=False))]
    assert names and [inside for inside in names if neck_role(inside) == "other"] == []


@pytest.mark.parametrize("options", [{"upsample_mode": mode} for mode in UPSAMPLE_MODES] + [{"fusion": "freqfusion"}])
def test_ways_to_merge_belong_to_the_top_down_path(options: dict[str, str]) -> None:
    with torch.device("meta"):
        neck = build_neck({"type": "FPN", "out_channels": 32, **options}, IN_SPECS)
    roles = {neck_role(name) for name, module in neck.named_modules() if list(module.parameters(recurse=False))}
    assert roles - {"top-down merges"} == {"lateral convs", "output convs"}


@pytest.mark.mmdet
def test_no_part_of_a_neck_of_mmdet_is_listed_under_other() -> None:
    from mmdet.models import necks

    norm = {"type": "BN"}
    built = [
        necks.ChannelMapper([8, 8], 8, num_outs=3),
        necks.CTResNetNeck(8, (8, 8), (4, 4), use_dcn=False),
        necks.DilatedEncoder(8, 8, 8, 1, (1,)),
        necks.DyHead(8, 32, 1),
        necks.HRFPN([8, 8], 8),
        necks.NASFCOS_FPN([8, 8, 8, 8], 8, 5, start_level=1),
        necks.NASFPN([8, 8, 8], 8, 5, 1, norm_cfg=norm),
        necks.SSDNeck([8, 8], [8, 8, 8], [2], [1]),
        necks.SSH(2, [8, 8], [8, 8]),
        necks.YOLOV3Neck(2, [16, 8], [8, 4]),
        necks.YOLOXPAFPN([8, 8], 8),
    ]
    for neck in built:
        names = [name for name, module in neck.named_modules() if list(module.parameters(recurse=False))]
        assert names and [name for name in names if neck_role(name) == "other"] == [], type(neck)


def test_uncounted_modules_are_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    model = nn.Sequential(nn.Linear(4, 4), Scale())
    report = count_on_cpu(model, torch.randn(4, 4))
    assert report.uncounted == ("1 (Scale)",) and "Not counted" in report.markdown()


@pytest.mark.timm
def test_batch_and_size_scale_the_cost() -> None:
    one = pyramid_cost("resnet10t", "FPN", (64, 64)).total()
    two = pyramid_cost("resnet10t", "FPN", (64, 64), batch_size=2).total()
    large = pyramid_cost("resnet10t", "FPN", (128, 128)).total()
    assert two.macs == 2 * one.macs and large.macs == 4 * one.macs
    assert two.parameters == large.parameters == one.parameters
    with pytest.raises(ValueError, match=r"image_size=\(0, 64\)"):
        pyramid_cost("resnet10t", "FPN", (0, 64))


@pytest.mark.timm
def test_pictures_of_costs(tmp_path: Path) -> None:
    reports = [pyramid_cost("resnet10t", neck, (64, 64)) for neck in ("FPN", "PAFPN")]
    assert draw_costs(reports, tmp_path / "cost.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="at least one"):
        draw_costs([], tmp_path / "none.png")


def test_only_the_last_neck_of_a_chain_is_counted() -> None:
    specs: Sequence[FeatureSpec] = IN_SPECS
    chain = neck_cost([{"type": "FPN", "out_channels": 16}, {"type": "BFP"}], specs, (64, 64))
    alone = neck_cost({"type": "BFP"}, [FeatureSpec(16, spec.stride) for spec in specs], (64, 64))
    assert chain.total() == alone.total()
