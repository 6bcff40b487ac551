"""``frozen_stages`` means the same in every backbone: -1 nothing, 0 the stem, n the stem and n stages."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from timm_networks import FAMILIES, frozen_parameters
from torch import nn

from fpn_plugins import (
    FeatureSpec,
    HybridCNNViT,
    ImagePyramid,
    MultiDepthViT,
    MViT,
    SpatialTuningAdapter,
    Swin,
    TimmBackbone,
    TimmHybrid,
    ViT,
    ViTAdapter,
    build_backbone,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NORM = ("weight", "bias")


def keys(prefix: str, *parts: str) -> set[str]:
    return {f"model.{prefix}.{part}" for part in parts}


def norms(prefix: str, count: int) -> set[str]:
    return keys(prefix, *(f"bn{index}.{part}" for index in range(1, count + 1) for part in NORM))


def bottleneck(prefix: str) -> set[str]:
    return keys(prefix, "conv1.weight", "conv2.weight", "conv3.weight") | norms(prefix, 3)


def separable(prefix: str, *excitation: str) -> set[str]:
    return keys(prefix, "conv_dw.weight", "conv_pw.weight", *excitation) | norms(prefix, 2)


SHORTCUT = keys("layer1.0.downsample", "0.weight", "1.weight", "1.bias")
RESNET50 = (
    {"model.conv1.weight"} | keys("bn1", *NORM) | SHORTCUT | {k for i in range(3) for k in bottleneck(f"layer1.{i}")}
)
EFFICIENT_STEM = {"model.conv_stem.weight"} | keys("bn1", *NORM)
EXCITATION = [f"se.conv_{layer}.{part}" for layer in ("reduce", "expand") for part in NORM]
# what the shipped configs freeze, by network
FROZEN_BY_CONFIGS = {
    "resnet50.tv_in1k": RESNET50,
    "mobilenetv2_100": EFFICIENT_STEM | separable("blocks.0.0"),
    "tf_efficientnet_b3.aa_in1k": EFFICIENT_STEM
    | {k for i in range(2) for k in separable(f"blocks.0.{i}", *EXCITATION)},
}


def frozen_backbones() -> list[Any]:
    """Arguments of each ``TimmBackbone`` with ``frozen_stages`` in the shipped configs."""
    found = []
    for path in sorted(CONFIGS.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for arguments in ({k.arg: k.value for k in call.keywords} for call in calls):
            if "frozen_stages" in arguments:
                values = {str(k): ast.literal_eval(value) for k, value in arguments.items() if k != "_delete_"}
                if "name" in values:  # those of a ViT change an inherited config
                    found.append(pytest.param(values, id=f"{path.parent.name}/{path.stem}"))
    declared = yaml.safe_load((CONFIGS / "detectron2/demo_retinanet.yaml").read_text())["MODEL"]["FPN_PLUGINS"]
    found.append(pytest.param({"type": "TimmBackbone", **declared["BACKBONE"]["ARGS"]}, id="detectron2/demo_retinanet"))
    study = yaml.safe_load((CONFIGS / "studies/fpn_ablations.yml").read_text())
    return [*found, pytest.param(study["backbones"]["mobilenetv2"], id="studies/fpn_ablations")]


@pytest.mark.timm
@pytest.mark.parametrize("arguments", frozen_backbones())
def test_shipped_configs_freeze_the_expected_parameters(arguments: dict[str, Any]) -> None:
    sources = {"pretrained": False, "checkpoint": None}
    backbone = build_backbone({**arguments, **sources, "type": arguments["type"].removeprefix("fpn_plugins.")})
    assert frozen_parameters(backbone) == FROZEN_BY_CONFIGS[arguments["name"]]


def test_shipped_configs_are_found() -> None:
    assert len(frozen_backbones()) == 9


# ------------------------------------------------------------------------------------------------ each kind of backbone

TINY_VIT: dict[str, Any] = {"img_size": 32, "embed_dim": 8, "depth": 3, "num_heads": 2, "global_block_indices": (1,)}
TINY_SWIN: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}
TINY_MVIT: dict[str, Any] = {
    **{"name": "mvitv2_tiny", "embed_dim": 8, "last_block_indices": (0, 2, 4, 6), "window_size": 8, "img_size": 64},
}
# constructor, first parts of the names of the stem's parameters, then of each stage's
KINDS: list[Any] = [
    pytest.param(
        ViT, TINY_VIT, [("patch_embed", "pos_embed"), ("blocks.0.",), ("blocks.1.",), ("blocks.2.",)], id="ViT"
    ),
    pytest.param(
        ViT,
        {"name": "vit_pe_core_tiny_patch16_384", "embed_dim": 8, "depth": 2, "num_heads": 1},
        [("patch_embed", "pos_embed", "cls_token", "norm_pre"), ("blocks.0.",), ("blocks.1.", "norm.")],
        marks=pytest.mark.timm,
        id="ViT-PE",
    ),
    pytest.param(
        Swin,
        {**TINY_SWIN, "use_abs_pos": True},
        [("patch_embed", "absolute_pos_embed"), *((f"layers.{i}.", f"norm{i}.") for i in range(4))],
        id="Swin",
    ),
    pytest.param(
        MViT,
        TINY_MVIT,
        [
            ("patch_embed",),
            ("blocks.0.", "norms.0."),
            ("blocks.1.", "blocks.2.", "norms.1."),
            ("blocks.3.", "blocks.4.", "norms.2."),
            ("blocks.5.", "blocks.6.", "norms.3."),
        ],
        id="MViT",
    ),
    pytest.param(
        TimmBackbone,
        {"name": "convnext_atto"},
        [("model.stem_",), *((f"model.stages_{i}.",) for i in range(4))],
        marks=pytest.mark.timm,
        id="ConvNeXt",
    ),
    pytest.param(
        TimmBackbone,
        {
            "name": "vit_tiny_patch16_224",
            "out_indices": (0, 1),
            "model_args": {"depth": 2, "embed_dim": 8, "num_heads": 2},
        },
        [
            ("model.model.cls_token", "model.model.pos_embed", "model.model.patch_embed"),
            *((f"model.model.blocks.{i}.",) for i in range(2)),
        ],
        marks=pytest.mark.timm,
        id="timm's ViT",
    ),
    pytest.param(
        HybridCNNViT,
        {"cnn": {"type": "Swin", **TINY_SWIN}, "vit": {"embed_dim": 8, "depth": 2, "num_heads": 2}},
        [
            ("cnn.patch_embed",),
            *((f"cnn.layers.{i}.", f"cnn.norm{i}.") for i in range(4)),
            ("vit.patch_embed", "vit.pos_embed", "vit.blocks.0."),
            ("vit.blocks.1.",),
        ],
        id="HybridCNNViT",
    ),
    pytest.param(
        SpatialTuningAdapter,
        {"vit": {"type": "ViT", "embed_dim": 8, "depth": 2, "num_heads": 2, "global_block_indices": ()}},
        [("vit.patch_embed", "vit.pos_embed"), ("vit.blocks.0.",), ("vit.blocks.1.",)],
        id="SpatialTuningAdapter",
    ),
    pytest.param(
        ViTAdapter,
        {"vit": {"embed_dim": 8, "depth": 2, "num_heads": 2, "global_block_indices": ()}, "conv_inplane": 4},
        [("vit.patch_embed", "vit.pos_embed"), ("vit.blocks.0.",), ("vit.blocks.1.",)],
        id="ViTAdapter",
    ),
    pytest.param(
        ImagePyramid,
        {"backbone": {"type": "Swin", **TINY_SWIN}},
        [("backbone.patch_embed",), *((f"backbone.layers.{i}.", f"backbone.norm{i}.") for i in range(4))],
        id="ImagePyramid",
    ),
    pytest.param(
        TimmHybrid,
        {"name": "vit_small_r26_s32_224", "model_args": {"embed_dim": 32, "depth": 2, "num_heads": 4}},
        [
            ("model.patch_embed.backbone.stem.",),
            *((f"model.patch_embed.backbone.stages.{i}.",) for i in range(4)),
            (
                *("model.patch_embed.backbone.norm.", "model.patch_embed.proj.", "model.norm_pre."),
                *("model.cls_token", "model.pos_embed", "model.blocks.0."),
            ),
            ("model.blocks.1.",),
        ],
        marks=pytest.mark.timm,
        id="TimmHybrid",
    ),
    pytest.param(
        TimmBackbone,
        {"name": "eca_nfnet_l0", "out_indices": (1, 2)},
        [("model.stem_",), ("model.stages_0.",), ("model.stages_1.",)],
        marks=pytest.mark.timm,
        id="NFNet",  # its first map is taken in the middle of the stem
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "parts"), KINDS)
def test_frozen_stages_count_the_stem_and_then_stages(
    kind: type[nn.Module], arguments: dict[str, Any], parts: list[tuple[str, ...]]
) -> None:
    for count in range(-1, len(parts)):
        backbone = kind(**arguments, frozen_stages=count)
        frozen = tuple(prefix for stage in parts[: count + 1] for prefix in stage)
        expected = {name for name, _ in backbone.named_parameters() if frozen and name.startswith(frozen)}
        assert frozen_parameters(backbone) == expected
        assert (count < 0) == (not expected)
    with pytest.raises(ValueError, match=rf"frozen_stages={len(parts)} must be -1 .* stages up to {len(parts) - 1}"):
        kind(**arguments, frozen_stages=len(parts))
    with pytest.raises(ValueError, match="frozen_stages=-2 must be -1"):
        kind(**arguments, frozen_stages=-2)


def test_multi_depth_vit_freezes_through_its_vit() -> None:
    backbone = MultiDepthViT({**TINY_VIT, "frozen_stages": 1}, depths=(1, 2), strides=(8, 16))
    assert {name.split(".")[1] for name in frozen_parameters(backbone)} == {"patch_embed", "pos_embed", "blocks"}
    assert not any(p.requires_grad for p in backbone.vit.blocks[0].parameters())
    assert all(p.requires_grad for p in [*backbone.vit.blocks[1].parameters(), *backbone.resamples.parameters()])


def test_a_backbone_without_stages_cannot_be_frozen() -> None:
    foreign = nn.Conv2d(3, 4, 4, stride=4)
    foreign.feature_specs = (FeatureSpec(4, 4),)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"frozen_stages=0 must be -1 \(none\), for it names no stages"):
        ImagePyramid(foreign, scales=(1.0,), frozen_stages=0)


# ------------------------------------------------------------------------------------------------------ timm's networks


@pytest.mark.timm
@pytest.mark.mmdet
@pytest.mark.parametrize("norm_eval", [False, True])
@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 4])
def test_frozen_stages_of_resnet_match_mmdet_by_name(frozen_stages: int, norm_eval: bool) -> None:
    from mmdet.models.backbones import ResNet

    theirs = ResNet(18, frozen_stages=frozen_stages, norm_eval=norm_eval)
    theirs.train()  # returns None
    ours = TimmBackbone("resnet18", frozen_stages=frozen_stages, norm_eval=norm_eval).train()
    assert frozen_parameters(ours) == {f"model.{name}" for name in frozen_parameters(theirs)}
    training = {f"model.{n}" for n, m in theirs.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training}
    assert {n for n, m in ours.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training} == training


# networks whose first map is the output of the stem; in others, it is the output of the first stage
STEM_MAPS = {"resnet18": 1, "regnetx_002": 1, "mobilenetv3_small_050": 1}


@pytest.mark.timm
@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_frozen_maps_get_no_gradient_and_the_others_do(name: str, maps: int) -> None:
    """Independent of names: a map has a gradient exactly if it comes after the frozen stages."""
    stem_maps = STEM_MAPS.get(name, 0)
    for frozen_stages in (0, 1, maps - stem_maps):
        backbone = TimmBackbone(name, out_indices=range(maps), frozen_stages=frozen_stages).train()
        frozen_maps = frozen_stages + stem_maps
        computed = backbone(torch.randn(2, 3, 64, 64))
        assert [m.requires_grad for m in computed] == [index >= frozen_maps for index in range(maps)]
        if frozen_maps == maps:
            continue
        sum(m.square().sum() for m in computed[frozen_maps:]).backward()
        free = {key: p for key, p in backbone.named_parameters() if p.requires_grad}
        assert free and [key for key, p in free.items() if p.grad is None] == []


@pytest.mark.timm
@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_frozen_weights_and_statistics_do_not_move_in_training(name: str, maps: int) -> None:
    backbone = TimmBackbone(name, out_indices=range(maps), frozen_stages=1)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    owners = {key.rpartition(".")[0] for key in frozen_parameters(backbone)}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    backbone.train()
    sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64))[2:]).backward()
    optimizer.step()
    moved = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    statistics = {key for key in before if "running_" in key}
    assert not {key for key in moved if key.rpartition(".")[0] in owners}
    assert moved >= {key for key in statistics if key.rpartition(".")[0] not in owners}


@pytest.mark.timm
def test_norm_eval_keeps_statistics_but_trains_weights() -> None:
    backbone = TimmBackbone("resnet18", norm_eval=True).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items() if "running_" in key}
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(backbone.state_dict()[key], value) for key, value in before.items())
    assert frozen_parameters(backbone) == set()
    assert all(m.requires_grad for m in maps)
    assert backbone.training and backbone.model.layer1.training


@pytest.mark.timm
@pytest.mark.parametrize("arguments", [{}, {"frozen_stages": 1}, {"norm_eval": True}])
def test_train_and_eval_return_self_and_switch(arguments: dict[str, Any]) -> None:
    backbone = TimmBackbone("resnet18", **arguments)
    assert backbone.eval() is backbone and not any(m.training for m in backbone.modules())
    assert backbone.train() is backbone and backbone.training and backbone.model.layer4.training
    assert backbone.train(False) is backbone and not backbone.training


@pytest.mark.timm
def test_frozen_parts_stay_frozen_in_copies_and_inside_a_detector() -> None:
    backbone = TimmBackbone("resnet18", frozen_stages=1)
    for clone in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        detector = nn.Sequential(clone).train()
        assert not detector[0].model.bn1.training and detector[0].model.layer2.training
        assert frozen_parameters(clone) == frozen_parameters(backbone) != set()


@pytest.mark.timm
def test_stages_after_the_last_map_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match=r"frozen_stages=3 must be -1 \(none\), 0 \(the stem\) or .* up to 2"):
        TimmBackbone("resnet10t", out_indices=(1, 2), frozen_stages=3)


@pytest.mark.timm
def test_a_network_whose_maps_are_not_outputs_of_modules_cannot_be_frozen() -> None:
    with torch.device("meta"):
        assert frozen_parameters(TimmBackbone("hrnet_w18_small")) == set()
        with pytest.raises(ValueError, match="'stem' is not a module of this network, so no stages can be frozen"):
            TimmBackbone("hrnet_w18_small", frozen_stages=0)
