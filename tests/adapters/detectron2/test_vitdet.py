"""ViTDet in Detectron2: its own Mask R-CNN against the same with our ViT and pyramid, from one state dict."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2_pair import (
    CHANNELS,
    assert_equal_detections,
    assert_equal_training,
    build_pair,
    narrow_heads,
    their_names,
)
from torch import nn

pytestmark = pytest.mark.detectron2

SIDE = 128
VIT = {"img_size": SIDE, "embed_dim": 32, "depth": 4, "num_heads": 4, "pretrain_img_size": 64}
GLOBAL, WINDOWED, RESIDUAL = (1, 3), [0, 2], [3]
NECK = {"type": "SimpleFeaturePyramid", "out_channels": CHANNELS, "norm": "LN", "extra_levels": {"num_levels": 1}}


def stock_config() -> Any:
    """Detectron2's own Mask R-CNN config of ViTDet, made small."""
    from detectron2 import model_zoo

    model = narrow_heads(model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model)
    model.backbone.net.update(
        **VIT, window_size=3, window_block_indexes=WINDOWED, residual_block_indexes=RESIDUAL, drop_path_rate=0.0
    )
    model.backbone.update(out_channels=CHANNELS, square_pad=SIDE)
    return model


def ours_config() -> Any:
    """The same with our backbone in its place."""
    from detectron2.config import LazyCall as L

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    model = stock_config()
    bottom_up = {
        "type": "ViT",
        **VIT,
        "window_size": 3,
        "global_block_indices": GLOBAL,
        "residual_block_indices": RESIDUAL,
    }
    model.backbone = L(PyramidBackbone)(bottom_up=bottom_up, neck=NECK, square_pad=SIDE)
    return model


def vitdet_pair() -> tuple[nn.Module, nn.Module]:
    """Detectron2's and ours."""
    return build_pair(stock_config(), ours_config())


def test_equal_losses_and_gradients_in_training() -> None:
    assert_equal_training(*vitdet_pair(), num_losses=5)


def test_equal_detections() -> None:
    assert_equal_detections(*vitdet_pair())


def test_published_shapes_match_detectron2() -> None:
    theirs, ours = vitdet_pair()
    assert ours.backbone.output_shape() == theirs.backbone.output_shape()


@pytest.mark.parametrize("recipe", ["b", "h"])
def test_parameter_groups_match_the_detectron2_recipe(recipe: str) -> None:
    """ViTDet-B's and ViT-H's: learning rate and weight decay of every parameter of the detector."""
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
    from detectron2.solver import get_default_optimizer_params

    from fpn_plugins.training import vit_lr_factor

    theirs, ours = vitdet_pair()
    overrides, norm = ({"pos_embed": {"weight_decay": 0.0}}, 0.0) if recipe == "b" else ({}, None)
    found = []
    for model, function in (
        (theirs, partial(get_vit_lr_decay_rate, lr_decay_rate=0.7, num_layers=4)),
        (ours, partial(vit_lr_factor, decay=0.7, depth=4)),
    ):
        groups = get_default_optimizer_params(
            model,
            base_lr=1e-4,
            weight_decay=0.1,
            weight_decay_norm=norm,
            lr_factor_func=function,
            overrides=dict(overrides),
        )
        names = {id(p): name for name, p in model.named_parameters()}
        found.append({names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]})
    wanted, got = found
    renamed = {theirs_name: got[name] for name, theirs_name in their_names(theirs, ours).items()}
    assert renamed == wanted
    assert len({lr for lr, _ in wanted.values()}) == 6  # embeddings, four blocks, the rest
    assert ({decay for _, decay in wanted.values()} == {0.0, 0.1}) == (recipe == "b")


def test_weights_of_a_pretrained_vit_load_by_matching_names(tmp_path: Path) -> None:
    """``train.init_checkpoint = "....pth?matching_heuristics=True"``, as ViTDet's configs load MAE's file."""
    from detectron2.checkpoint import DetectionCheckpointer

    theirs, ours = vitdet_pair()
    weights = {
        key.removeprefix("backbone.net."): torch.randn_like(value)
        for key, value in theirs.state_dict().items()
        if "backbone.net" in key and "rel_pos" not in key and "residual" not in key
    }
    extra = {"cls_token": torch.zeros(1, 1, 32), "norm.weight": torch.ones(32), "norm.bias": torch.ones(32)}
    torch.save({"model": {**weights, **extra}}, tmp_path / "mae.pth")
    DetectionCheckpointer(ours).load(f"{tmp_path / 'mae.pth'}?matching_heuristics=True")
    state = ours.state_dict()
    assert all(torch.equal(state[f"backbone.bottom_up.{key}"], value) for key, value in weights.items())


def sizes_of_batch(backbone: nn.Module, *sizes: tuple[int, int]) -> tuple[int, ...]:
    """Height and width of the batch that Detectron2 makes of images for a backbone."""
    from detectron2.structures import ImageList

    images = [torch.randn(3, *size) for size in sizes]
    batch = ImageList.from_tensors(images, backbone.size_divisibility, padding_constraints=backbone.padding_constraints)
    for index, image in enumerate(images):
        kept = batch.tensor[index, :, : image.shape[1], : image.shape[2]]
        assert kept.shape == image.shape and torch.equal(kept, image)
        assert not batch.tensor[index, :, image.shape[1] :].any()  # zeros after normalization
    return tuple(batch.tensor.shape[-2:])


def test_square_padding_never_cuts_an_image_off() -> None:
    """Where it fits it is Detectron2's square; Detectron2 silently crops what does not."""
    theirs, ours = (model.backbone for model in vitdet_pair())
    for fitting in ([(97, 128)], [(31, 40), (128, 16)]):
        assert sizes_of_batch(ours, *fitting) == sizes_of_batch(theirs, *fitting) == (SIDE, SIDE)
    assert sizes_of_batch(ours, (129, 100)) == (2 * SIDE, SIDE)
    assert sizes_of_batch(ours, (129, 100), (60, 300)) == (2 * SIDE, 3 * SIDE)
    with pytest.raises(AssertionError):
        sizes_of_batch(theirs, (129, 100))


def test_square_padding_must_fit_the_strides() -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    vit = {"type": "ViT", **VIT, "global_block_indices": GLOBAL}
    with pytest.raises(ValueError, match="square_pad=100 must be a multiple of the stride 16"):
        PyramidBackbone(vit, NECK, square_pad=100)
    assert PyramidBackbone(vit, NECK).size_divisibility == 16


@pytest.mark.timm
def test_from_yaml_keys(caplog: pytest.LogCaptureFixture) -> None:
    """The image's channels reach the network that reads it; other pixels than the weights' are a warning."""
    from detectron2.config import CfgNode, get_cfg
    from detectron2.modeling import build_backbone

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    vit = {**VIT, "global_block_indices": GLOBAL}
    resnet = {"type": "TimmBackbone", "name": "resnet10t", "out_indices": [2, 3]}
    for kind, arguments, neck in (
        ("ViT", vit, "SimpleFeaturePyramid"),
        ("SpatialTuningAdapter", {"vit": {"type": "ViT", **vit}}, "FPN"),
        ("ViTAdapter", {"vit": vit, "conv_inplane": 8}, "FPN"),
        ("MultiDepthViT", {"vit": vit, "depths": [1, 2, 3, 4]}, "FPN"),
        (
            "HybridCNNViT",
            {"cnn": resnet, "vit": {"embed_dim": 24, "depth": 1, "num_heads": 3}, "vit_stride": 16},
            "FPN",
        ),
    ):
        cfg = get_cfg()
        add_fpn_plugins_config(cfg)
        cfg.MODEL.BACKBONE.NAME = "build_fpn_plugins_backbone"
        node = cfg.MODEL.FPN_PLUGINS
        node.SQUARE_PAD = 64
        node.BACKBONE.TYPE, node.BACKBONE.ARGS = kind, CfgNode(arguments)
        node.NECK.TYPE, node.NECK.ARGS = neck, CfgNode({"out_channels": 8})
        build_backbone(cfg)
        assert f"the weights of {kind} expect INPUT.FORMAT RGB" in caplog.text
        caplog.clear()
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0], [1.0]
        backbone = build_backbone(cfg)
        assert backbone.size_divisibility == 64
        assert all(m.shape[1] == 8 for m in backbone(torch.randn(1, 1, 64, 96)).values())
        assert "INPUT.FORMAT" not in caplog.text
