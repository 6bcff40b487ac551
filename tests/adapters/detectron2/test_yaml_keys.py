"""`MODEL.FPN_PLUGINS` and the builders of YAML configs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.detectron2


def test_backbone_from_yaml_keys(tmp_path: Path) -> None:
    """`build_fpn_plugins_backbone` reads types and arguments from the config; a misspelled argument is an error."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    text = """
MODEL:
  DEVICE: cpu
  BACKBONE: {NAME: build_fpn_plugins_backbone}
  FPN_PLUGINS:
    BACKBONE: {TYPE: TimmBackbone, ARGS: {name: resnet18, out_indices: [2, 3, 4]}}
    NECK: {TYPE: FPN, ARGS: {out_channels: 32, norm: FrozenBN, extra_levels: {num_levels: 2, op: conv, source: input}}}
"""
    (tmp_path / "model.yaml").write_text(text)
    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.merge_from_file(str(tmp_path / "model.yaml"))
    backbone = build_backbone(cfg)
    outputs = backbone(torch.randn(1, 3, 65, 97))
    shapes = backbone.output_shape()
    assert list(outputs) == list(shapes) == ["p3", "p4", "p5", "p6", "p7"]
    assert [shapes[name].stride for name in shapes] == [8, 16, 32, 64, 128]
    assert backbone.size_divisibility == 32

    cfg.MODEL.FPN_PLUGINS.NECK.ARGS.out_chanels = 32
    with pytest.raises(TypeError, match="out_chanels"):
        build_backbone(cfg)


@pytest.mark.parametrize("name", ["build_fpn_plugins_backbone", "build_fpn_plugins_resnet_fpn_backbone"])
def test_the_fast_path_from_yaml_keys(name: str) -> None:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3"]
    if name != "build_fpn_plugins_backbone":
        cfg.MODEL.BACKBONE.NAME = name
        assert not build_backbone(cfg).channels_last  # without our keys
    add_fpn_plugins_config(cfg)
    keys = ["MODEL.BACKBONE.NAME", name, "MODEL.FPN_PLUGINS.CHANNELS_LAST", True, "MODEL.FPN_PLUGINS.AUTOCAST"]
    cfg.MODEL.FPN_PLUGINS.BACKBONE.ARGS.name = "resnet10t"
    cfg.merge_from_list([*keys, "bfloat16"])
    backbone = build_backbone(cfg)
    assert backbone.channels_last and backbone.autocast_dtype is torch.bfloat16
    cfg.MODEL.FPN_PLUGINS.AUTOCAST = "bf16"
    with pytest.raises(ValueError, match="autocast='bf16' is unknown; choose one of"):
        build_backbone(cfg)


@pytest.mark.parametrize("norm", ["", "BN"])
def test_merging_adds_in_place_without_a_detectron2_norm(norm: str) -> None:
    """Performance: the default of ``MODEL.FPN.NORM`` is an empty name."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    import fpn_plugins.adapters.detectron2  # noqa: F401  (registers the builder)

    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res4", "res5"]
    cfg.merge_from_list(["MODEL.FPN.NORM", norm, "MODEL.BACKBONE.NAME", "build_fpn_plugins_resnet_fpn_backbone"])
    neck = build_backbone(cfg).neck
    laterals = [torch.randn(1, 256, 4, 4), torch.randn(1, 256, 2, 2)]
    assert (neck.top_down(laterals)[0].data_ptr() == laterals[0].data_ptr()) == (norm == "")


def test_a_backbone_inside_another_from_yaml_keys() -> None:
    """The image's channels reach the network inside."""
    from detectron2.config import CfgNode, get_cfg
    from detectron2.modeling import build_backbone

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_fpn_plugins_backbone"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0], [1.0]
    cfg.MODEL.FPN_PLUGINS.BACKBONE.TYPE = "ImagePyramid"
    inner = {"type": "TimmBackbone", "name": "resnet10t", "out_indices": [3]}
    cfg.MODEL.FPN_PLUGINS.BACKBONE.ARGS.backbone = CfgNode(inner)
    cfg.MODEL.FPN_PLUGINS.NECK.ARGS.out_channels = 8
    outputs = build_backbone(cfg)(torch.randn(1, 1, 64, 96))  # as many channels as the mean has
    assert {name: tuple(m.shape[-2:]) for name, m in outputs.items()} == {"p3": (8, 12), "p4": (4, 6), "p5": (2, 3)}


def test_warns_of_pixels_that_timm_weights_do_not_expect(caplog: pytest.LogCaptureFixture) -> None:
    """Detectron2's defaults are BGR with standard deviation 1: timm's weights would train, and score less."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_fpn_plugins_backbone"
    cfg.MODEL.FPN_PLUGINS.BACKBONE.ARGS.name = "resnet10t"
    build_backbone(cfg)
    assert "expect INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]" in caplog.text
    caplog.clear()
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    build_backbone(cfg)
    assert "expect INPUT.FORMAT" not in caplog.text
