"""Messages about arguments, maps and configs that users meet often, word by word where it helps them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fpn_plugins
from fpn_plugins import BFP, CSPPAFPN, FPN, PAFPN, FeatureSpec, Pyramid, SimpleFeaturePyramid, Swin, ViT, build_neck
from fpn_plugins.testing import TINY_SPECS, make_pyramid

CHANNELS = [spec.channels for spec in TINY_SPECS]
SWIN = {"type": "Swin", "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FPN(CHANNELS, "16"), "out_channels='16' must be an integer; leave out the quotes"),
        (lambda: FPN(CHANNELS, 8.7), "out_channels=8.7 must be an integer"),
        (lambda: FPN(CHANNELS, True), "out_channels=True must be an integer"),
        (lambda: FPN(CHANNELS, 0), "out_channels=0 must be at least 1"),
        (lambda: FPN("1234"), "in_channels='1234' must be a sequence of integers, written in brackets"),
        (lambda: FPN("256,512"), "in_channels='256,512' must be a sequence of integers"),
        (lambda: FPN({256, 512}), "must be a sequence of integers"),
        (lambda: FPN(CHANNELS, in_indices=2), "in_indices=2 must be a sequence of integers"),
        (
            lambda: FPN(CHANNELS, norm=3),
            "norm=3 must be one of ['BN', 'GN', 'LN', 'SyncBN'], a factory such as a class",
        ),
        (lambda: FPN(CHANNELS, norm={"type": "BN"}), "norm={'type': 'BN'} must be one of"),
        (lambda: FPN(CHANNELS, norm=nn.BatchNorm2d(4)), "pass its class, or functools.partial of it"),
        (lambda: FPN(CHANNELS, norm=int), "norm=<class 'int'> must build a module, but built 256"),
        (lambda: FPN(CHANNELS, act=lambda x: x), "cannot be called with ()"),
        (lambda: FPN(CHANNELS, gradient_checkpointing="false"), "gradient_checkpointing='false' must be True or False"),
        (lambda: FPN(CHANNELS, extra_levels={"num_levls": 1}), "extra_levels={'num_levls': 1}: ExtraLevels() got an"),
        (lambda: FPN(CHANNELS, fusoin="sum"), "got an unexpected keyword argument 'fusoin' (near: fusion"),
        (lambda: FPN(CHANNELS, norm_cfg=None), "'norm_cfg'; its word here is norm"),
        (lambda: FPN(CHANNELS, num_outs=5), "'num_outs'; its word here is extra_levels"),
        (lambda: Swin(drop_path_rate=float("nan")), "drop_path_rate=nan must be a finite number"),
        (lambda: ViT(frozen_stages="1", depth=1, global_block_indices=()), "frozen_stages='1' must be an integer"),
        (lambda: ViT(depth=18, num_stages=4, style="pytorch"), "also unknown: 'style'; in a config that inherits"),
        (lambda: ViT(num_stages=4), "in a config that inherits this part from a base config, add _delete_=True"),
        (lambda: SimpleFeaturePyramid([8], scale_factors="12"), "scale_factors='12' must be a sequence of numbers"),
        (lambda: CSPPAFPN(CHANNELS, num_blocks=-1), "num_blocks=-1 must be at least 0"),
        (lambda: BFP([8, 8], out_channels=0), "out_channels=0 must be at least 1"),
    ],
)
def test_wrong_arguments(build: Callable[[], object], message: str):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        build()


def test_integers_of_numpy_and_torch_are_integers():
    sizes = torch.Size([4, 6])
    neck = FPN(np.array([4, 6]), np.int64(8), in_indices=range(2), gradient_checkpointing=np.bool_(True))
    assert neck.in_channels == FPN(sizes, sizes[0]).in_channels == (4, 6)
    assert type(neck.out_channels) is int
    assert neck.gradient_checkpointing is True
    assert FPN([4, 6], 8, norm_on_lateral=1, norm="BN").lateral_convs[0].norm is not None


def test_a_class_outside_the_package_keeps_its_keywords():
    """Its constructor may take what it likes from ``**keywords``."""

    class Own(FPN):
        def __init__(self, **keywords: Any) -> None:
            self_made = keywords.pop("self_made")
            super().__init__(**keywords)
            self.self_made = self_made

    assert Own(in_channels=[4], out_channels=4, self_made=3).self_made == 3


# ---------------------------------------------------------------------------------- inputs


def maps(size: tuple[int, int] = (256, 384)) -> list[Tensor]:
    return list(make_pyramid(TINY_SPECS, size, batch_size=2, device="meta"))


def changed(position: int, change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    return [change(x) if index == position else x for index, x in enumerate(maps())]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"p2": None}, "FPN takes a list or tuple of maps B C H W, not a dict; pass list(maps.values())"),
        (torch.zeros(4, 4, 4, 4), "FPN takes a list or tuple of maps B C H W, not a Tensor"),
        (changed(3, lambda x: x[:1]), "FPN received maps of different batches"),
        (changed(3, Tensor.double), "FPN received maps of different types, torch.float32 and torch.float64 (map 3)"),
        (changed(3, lambda x: torch.zeros(x.shape)), "FPN received maps on different devices, meta and cpu (map 3)"),
        (changed(3, lambda x: x[:, :, :1, :1]), "FPN takes maps from high to low resolution, but map 3 has (1, 1)"),
        (changed(1, lambda x: x[:, :, :12, :12]), "FPN takes maps from high to low resolution, but map 2"),
        ([x.long() for x in maps()], "FPN takes maps of floating-point numbers, but map 0 has torch.int64"),
    ],
)
def test_wrong_maps(inputs: Any, message: str):
    neck = FPN(CHANNELS, 4).to("meta")
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        neck(inputs)


def test_equal_channels_hint_at_a_neck_in_the_backbone():
    pyramid = [torch.zeros(1, 8, side, side) for side in (16, 8, 4, 2)]
    with pytest.raises(ValueError, match="if the backbone has its own neck, set the detector's neck=None"):
        FPN(CHANNELS, 4)(pyramid)


def test_maps_of_pafpn_must_halve_where_one_cell_would_broadcast():
    neck = PAFPN([4, 6], 4)
    with pytest.raises(
        ValueError, match=r"PAFPN halves a map of \(8, 8\) cells to \(4, 4\), but the next map has \(1,"
    ):
        neck([torch.zeros(1, 4, 8, 8), torch.zeros(1, 6, 1, 1)])


@pytest.mark.parametrize("second", [(16, 16), (4, 4), (8, 6)], ids=["dilated", "a stage left out", "transposed"])
@pytest.mark.parametrize("kind", [PAFPN, CSPPAFPN])
def test_a_second_path_names_maps_that_do_not_halve(kind: Any, second: tuple[int, int]):
    """Cropping the downsampled map to a much smaller one would misplace it."""
    neck = kind([4, 6], 4).eval()
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} halves a map of \(16, 16\) cells to \(8, 8\), but the next"
    ):
        neck([torch.zeros(1, 4, 16, 16), torch.zeros(1, 6, *second)])


def test_maps_of_yolox_may_be_rounded_either_way():
    neck = CSPPAFPN([4, 6], 4).eval()
    for second in ((7, 8), (8, 7)):
        assert [m.shape[-2:] for m in neck([torch.zeros(1, 4, 15, 15), torch.zeros(1, 6, *second)])][1] == second


def test_a_map_too_small_to_halve_is_named():
    with pytest.raises(
        ValueError, match=r"SimpleFeaturePyramid cannot scale a map of \(1, 4\) cells by 0\.5; pad images"
    ):
        SimpleFeaturePyramid([8], 4)([torch.zeros(1, 8, 1, 4)])


@pytest.mark.parametrize("sizes", [(32, 2), (64, 2), (16, 1), (1, 1), (15, 1)])
def test_stages_may_be_far_apart(sizes: tuple[int, int]):
    """A network's first and last stage have strides 2 and 32; an input can be as small as one cell."""
    maps = FPN([4, 6], 4)([torch.zeros(1, channels, s, s) for channels, s in zip([4, 6], sizes, strict=True)])
    assert tuple(m.shape[-1] for m in maps) == sizes


def test_types_may_differ_under_autocast_and_sizes_may_repeat():
    inputs = [torch.zeros(1, 4, 8, 8), torch.zeros(1, 6, 8, 8, dtype=torch.bfloat16)]  # a dilated stage, half precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert len(FPN([4, 6], 4)(inputs)) == 2


def test_wrong_images():
    backbone = ViT(img_size=32, embed_dim=8, depth=1, num_heads=2, global_block_indices=())
    for image, message in (
        ([torch.zeros(3, 32, 32)], "ViT takes images B 3 H W in one tensor, not a list"),
        (torch.zeros(3, 32, 32), "received the shape (3, 32, 32); stack single images"),
        (torch.zeros(1, 4, 32, 32), "set in_chans for another number of channels"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "normalized floating-point numbers, not of torch.uint8"),
        (torch.zeros(1, 3, 0, 32), "takes images with pixels"),
    ):
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            backbone(image)


# ---------------------------------------------------------------------------------- two parts


class Foreign(nn.Module):
    """A backbone of a user: one map, and whatever specs and output it is told."""

    def __init__(self, specs: Any, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.feature_specs = specs
        self.output = output

    def forward(self, x: Tensor) -> Any:
        return self.output(x)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([(3, 1)], "backbone=Foreign publishes the specs [(3, 1)]; they must be a sequence of FeatureSpec"),
        ({"c2": FeatureSpec(3, 1)}, "they must be a sequence of FeatureSpec(channels, stride), one for each map"),
        ((), "backbone=Foreign publishes no specs"),
        ([FeatureSpec("3", 1)], "backbone=Foreign: channels='3' must be an integer"),
        ([FeatureSpec(3, 0)], "backbone=Foreign: stride=0 must be at least 1"),
    ],
)
def test_wrong_specs_of_a_foreign_backbone(specs: Any, message: str):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        Pyramid(Foreign(specs, lambda x: (x,)))


@pytest.mark.parametrize("output", [lambda x: {"c2": x}, lambda x: x, lambda x: ()])
def test_wrong_outputs_of_a_foreign_backbone(output: Callable[[Tensor], Any]):
    pyramid = Pyramid(Foreign((FeatureSpec(3, 1),), output))
    with pytest.raises(TypeError, match="Foreign publishes 1 maps or more but returned .*; return a tuple of maps"):
        pyramid(torch.zeros(1, 3, 8, 8))


def test_a_chain_names_the_neck_at_fault():
    specs = TINY_SPECS
    with pytest.raises(ValueError, match=r"neck\[1\], after FPN: BFP was built for .* the module before it publishes"):
        build_neck([{"type": "FPN", "out_channels": 8}, BFP([9] * 4)], specs)
    with pytest.raises(TypeError, match=r"neck\[1\], after FPN: BFP\(\) got an unexpected keyword argument 'refin'"):
        build_neck([{"type": "FPN", "out_channels": 8}, {"type": "BFP", "refin": None}], specs)


def test_types_may_have_this_packages_scope():
    pyramid = Pyramid({**SWIN, "type": "fpn_plugins.Swin"}, {"type": "fpn_plugins.FPN", "out_channels": 8})
    assert [spec.channels for spec in pyramid.feature_specs] == [8] * 4


@pytest.mark.parametrize(
    ("neck", "message"),
    [
        ({"type": "mmdet.FPN"}, "'mmdet.FPN' is a class of mmdet: build it there, and pass the module"),
        ({"_target_": "detectron2.FPN"}, "is a part of a LazyConfig of Detectron2; write"),
        ({"TYPE": "FPN", "ARGS": {}}, "is a part of a YAML config of Detectron2; write"),
        ({"type": "FPM"}, "(near: FPN"),
    ],
)
def test_the_configs_of_other_toolboxes_are_named(neck: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_neck(neck, TINY_SPECS)


# ---------------------------------------------------------------------------------- toolboxes


@pytest.mark.mmdet
def test_types_in_mmdet_are_suggested():
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    fpn = {"in_channels": CHANNELS, "out_channels": 8, "num_outs": 4}
    for config, message in (
        ({"type": "fpn_plugins.FNP", **fpn}, "type='fpn_plugins.FNP' is unknown; .*near: FPN"),
        ({"type": "fpn_plugins.ResNet", "depth": 50}, "mmdet's own class is type='mmdet.ResNet'"),
        ({"type": "fpn_plugins.FPN", **fpn, "out_chanels": 3}, "'out_chanels' .near: out_channels"),
        ({"type": "fpn_plugins.FPN", **fpn, "norm_cfg": {"type": "BNN"}}, "norm_cfg=.*type='BNN' is unknown .near: "),
        ({"type": "fpn_plugins.FPN", **fpn, "norm_cfg": {"type": "BN", "epss": 1}}, "norm_cfg=.*epss"),
        ({"type": "fpn_plugins.PyramidBackbone", "backbone": None, "neck": None}, "backbone=None must be a mapping"),
        ({"type": "fpn_plugins.PyramidBackbone", "backbone": "ViT", "neck": None}, "backbone='ViT' must be a mapping"),
        ({"type": "fpn_plugins.TimmBackbone", "name": "x", "depth": 50, "num_stages": 4}, "_delete_=True"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            MODELS.build(config)


@pytest.mark.mmdet
def test_core_pyramids_take_scoped_types_in_mmdet():
    from fpn_plugins.adapters.mmdet import CorePyramid

    assert CorePyramid({**SWIN, "type": "fpn_plugins.Swin"}, {"type": "fpn_plugins.FPN", "out_channels": 8})


@pytest.mark.detectron2
def test_detectron2_names_are_suggested():
    from detectron2.config import get_cfg
    from detectron2.layers import get_norm

    from fpn_plugins.adapters.detectron2 import PyramidBackbone
    from fpn_plugins.adapters.detectron2.backbone import NORMS
    from fpn_plugins.adapters.detectron2.builders import check_builders

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_fpn_plugins_resnet_fpn_backbon"
    with pytest.raises(ValueError, match=r"MODEL.BACKBONE.NAME=.*near: build_fpn_plugins_resnet_fpn_backbone"):
        check_builders(cfg)
    for arguments, message in (
        ({"neck": {"type": "FPN", "norm": "Bogus"}}, "norm='Bogus' is unknown; choose one of"),
        ({"neck": None, "square_pad": -32}, "square_pad=-32 must be at least 0"),
        ({"neck": None, "in_features": "res3"}, "in_features='res3' must be a sequence of names of maps"),
    ):
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            PyramidBackbone(SWIN, **arguments)
    assert all(get_norm(name, 32) is not None for name in NORMS)


@pytest.mark.mmdet
@pytest.mark.detectron2
def test_the_config_of_the_other_toolbox_is_named(tmp_path: Path):
    from fpn_plugins.adapters.hosts import check_toolbox

    root = Path(fpn_plugins.__file__).resolve().parents[1] / "configs"
    for toolbox in ("mmdet", "detectron2"):
        configs = [path for path in sorted((root / toolbox).rglob("*")) if path.suffix in (".py", ".yaml")]
        assert configs
        for config in configs:
            check_toolbox(str(config), toolbox)
    with pytest.raises(ValueError, match="is a config of detectron2, not of mmdet; run it with fpn-plugins train-d2"):
        check_toolbox(str(root / "detectron2/demo_retinanet.yaml"), "mmdet")
    with pytest.raises(ValueError, match="is a config of mmdet, not of detectron2; run it with fpn-plugins train"):
        check_toolbox(str(root / "mmdet/demo_mask_rcnn.py"), "detectron2")
    (tmp_path / "own.py").write_text("from my_package import model\n")
    check_toolbox(str(tmp_path / "own.py"), "detectron2")


def test_moved_names_are_explained_as_attributes():
    with pytest.raises(AttributeError, match="fpn_plugins.FPNLevel was removed; build FPN on a single map"):
        fpn_plugins.FPNLevel  # noqa: B018
    weights = importlib.import_module("fpn_plugins.weights")
    with pytest.raises(AttributeError, match="is now fpn_plugins.conversion.convert; change the import"):
        weights.convert  # noqa: B018
    assert not hasattr(weights, "novelty")
