"""Every model-zoo YAML with an FPN, with our builder in its place: official keys load, equal outputs and gradients."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn

pytestmark = pytest.mark.detectron2

BUILDERS = {
    "build_resnet_fpn_backbone": "build_fpn_plugins_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_fpn_plugins_retinanet_resnet_fpn_backbone",
}
NUM_BACKBONES = 11  # distinct ones; parametrised by position, so that collecting reads no config


def zoo() -> Path:
    """Folder of the configs that Detectron2 ships."""
    import detectron2

    return Path(detectron2.__file__).parent / "model_zoo" / "configs"


def config(path: Path) -> Any:
    """Detectron2's config of one YAML file, on the CPU."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(str(path))  # its RetinaNet base computes anchor sizes in YAML
    cfg.MODEL.DEVICE = "cpu"
    # inside the ResNet, which is Detectron2's own on both sides; needs its compiled ops
    cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False] * 4
    return cfg


@lru_cache
def shipped_backbones() -> dict[str, list[Path]]:
    """Distinct settings of FPN backbones -> the YAML files that use them."""
    found: dict[str, list[Path]] = {}
    for path in sorted(zoo().rglob("*.yaml")):
        cfg = config(path)
        if cfg.MODEL.BACKBONE.NAME in BUILDERS:
            model = {key: dict(cfg.MODEL[key]) for key in ("BACKBONE", "FPN", "RESNETS")}
            found.setdefault(json.dumps(model, sort_keys=True, default=str), []).append(path)
    return found


class Fixed(nn.Module):
    """Stands in for the ResNet: hands out given maps, whatever the image."""

    def __init__(self, maps: dict[str, Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps."""
        return self.maps


def build_pair(cfg: Any) -> tuple[nn.Module, nn.Module]:
    """Detectron2's backbone, and ours with its weights, loaded through `load_state_dict` as they are."""
    from detectron2.modeling import build_backbone

    import fpn_plugins.adapters.detectron2  # noqa: F401  (registers)

    theirs = build_backbone(cfg)
    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.NAME = BUILDERS[cfg.MODEL.BACKBONE.NAME]
    ours = build_backbone(cfg)
    result = ours.load_state_dict(theirs.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    return theirs, ours


def random_maps(backbone: nn.Module, size: int, halve: Any) -> dict[str, Tensor]:
    """Maps of the ResNet's shapes for a ``size`` x ``size + 32`` image."""
    maps, sides = {}, (size // 4, (size + 32) // 4)
    for name, shape in backbone.bottom_up.output_shape().items():
        maps[name] = torch.randn(2, shape.channels, *sides, dtype=torch.double)
        sides = tuple(halve(side) for side in sides)
    return maps


def run(backbone: nn.Module, maps: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs of a backbone on fresh copies of the maps, and the copies with their gradients."""
    copies = {name: m.clone().requires_grad_() for name, m in maps.items()}
    backbone.bottom_up = Fixed(copies)
    outputs = backbone(torch.zeros(1))
    sum((o * torch.linspace(-1, 1, o.numel()).view_as(o)).sum() / o.numel() for o in outputs.values()).backward()
    return outputs, copies


def test_scan_finds_the_shipped_configs() -> None:
    """Guards the tests below: a changed zoo must not leave them without cases."""
    backbones = shipped_backbones()
    assert len(backbones) == NUM_BACKBONES
    assert sum(len(paths) for paths in backbones.values()) >= 35


@pytest.mark.parametrize("index", range(NUM_BACKBONES))
def test_equal_outputs_gradients_and_published_shapes(index: int) -> None:
    cfg = config(list(shipped_backbones().values())[index][0])
    theirs, ours = build_pair(cfg)
    assert ours.output_shape() == theirs.output_shape()
    assert ours.size_divisibility == theirs.size_divisibility
    assert ours.padding_constraints == {"size_divisibility": 32, **theirs.padding_constraints}
    training = cfg.MODEL.FPN.NORM != "SyncBN"  # which trains on GPUs only
    maps = random_maps(theirs, 32, lambda side: side // 2)
    theirs.double().train(training), ours.double().train(training)
    neck_parameters = {name: p for name, p in theirs.named_parameters() if not name.startswith("bottom_up.")}

    wanted, copies = run(theirs, maps)
    got, twins = run(ours, maps)
    assert list(got) == list(wanted)
    assert_same_maps(got, wanted)
    gradients = renamed(ours, {name: p.grad for name, p in neck_parameters.items()})
    own = {name: p.grad for name, p in ours.neck.named_parameters()}
    inputs = [{f"input {name}": x.grad for name, x in maps.items()} for maps in (twins, copies)]
    assert_same_gradients({**own, **inputs[0]}, {**gradients, **inputs[1]})


def renamed(ours: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detectron2's parameter names -> those of our neck, through the production table."""
    from fpn_plugins.weights.maps.fpn import detectron2

    stage = min(int(name[len("fpn_lateral") :].split(".")[0]) for name in tensors if name.startswith("fpn_lateral"))
    result, report = detectron2(stage).apply(tensors, dict(ours.neck.named_parameters()))
    assert report.complete, str(report)
    return result


@pytest.mark.parametrize("index", range(NUM_BACKBONES))
def test_odd_sizes_where_detectron2_raises(index: int) -> None:
    cfg = config(list(shipped_backbones().values())[index][0])
    theirs, ours = build_pair(cfg)
    ours.double().eval(), theirs.double().eval()
    maps = random_maps(theirs, 100, lambda side: -(-side // 2))
    with pytest.raises(RuntimeError, match="size of tensor"):
        run(theirs, maps)
    outputs, _ = run(ours, maps)
    used = [maps[name].shape[-2:] for name in cfg.MODEL.FPN.IN_FEATURES]
    assert [o.shape[-2:] for o in outputs.values()][: len(used)] == used


@pytest.mark.parametrize("index", range(NUM_BACKBONES))
def test_equal_initial_statistics(index: int) -> None:
    """Same bounds of the same uniform distribution, biases zero."""
    cfg = config(list(shipped_backbones().values())[index][0])
    from detectron2.modeling import build_backbone

    import fpn_plugins.adapters.detectron2  # noqa: F401

    theirs = build_backbone(cfg)
    cfg.MODEL.BACKBONE.NAME = BUILDERS[cfg.MODEL.BACKBONE.NAME]
    ours = build_backbone(cfg)
    names = {name: p for name, p in theirs.named_parameters() if not name.startswith("bottom_up.")}
    for name, wanted in renamed(ours, names).items():
        got = dict(ours.neck.named_parameters())[name]
        assert torch.isclose(got.abs().max(), wanted.abs().max(), rtol=2e-3), name
        assert torch.isclose(got.mean(), wanted.mean(), atol=1e-3), name


def test_whole_backbone_equals_detectron2s() -> None:
    theirs, ours = build_pair(config(zoo() / "COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
    theirs.double().eval(), ours.double().eval()
    images = torch.randn(2, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        wanted, got = theirs(images), ours(images)
    assert_same_maps(got, wanted)


def test_backbone_from_yaml_keys(tmp_path: Path) -> None:
    """`build_fpn_plugins_backbone` reads types and arguments from the config; a misspelt argument is an error."""
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
def test_merging_adds_in_place_without_a_norm_of_detectron2s(norm: str) -> None:
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


def test_pixels_that_timms_weights_do_not_expect_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_level_that_the_pyramid_does_not_have_is_left_to_detectron2() -> None:
    """RetinaNet from Mask R-CNN's weights: P2 stays behind; what P6 and P7 lack is an error that says what to do."""
    mask_rcnn, _ = build_pair(config(zoo() / "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"))
    _, ours = build_pair(config(zoo() / "COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
    weights = mask_rcnn.state_dict()
    with pytest.raises(ValueError, match="2 missing|4 missing.*extra_levels"):
        ours.load_state_dict(weights, strict=False)
    weights |= {f"top_block.p{k}.{name}": p for k in (6, 7) for name, p in conv_of_level(k).items()}
    result = ours.load_state_dict(weights, strict=False)
    assert not result.missing_keys
    assert all(key.startswith(("fpn_lateral2", "fpn_output2")) for key in result.unexpected_keys)
    assert torch.equal(ours.neck.lateral_convs[0].conv.weight, mask_rcnn.fpn_lateral3.weight)


def conv_of_level(level: int) -> dict[str, Tensor]:
    """Weights of an extra level as Detectron2 names them."""
    return dict(nn.Conv2d(2048 if level == 6 else 256, 256, 3).state_dict())


def test_a_folder_registered_again_is_read_again(tiny_coco: Path, tmp_path: Path) -> None:
    from detectron2.data import MetadataCatalog

    from fpn_plugins.adapters.detectron2 import register_coco_folder
    from fpn_plugins.data import make_coco_subset

    other = make_coco_subset(tiny_coco, tmp_path / "other", num_images=2)
    names = register_coco_folder(tiny_coco, "again")
    assert register_coco_folder(tiny_coco, "again") == names == ("again_train", "again_val")
    register_coco_folder(other, "again")
    assert MetadataCatalog.get("again_train").json_file.startswith(str(other))


@pytest.mark.parametrize(("name", "refused"), [("latest_of_it", True), ("it_test", False), ("it_test-dev", False)])
def test_sets_for_testing_alone_may_lack_annotations(name: str, refused: bool, tmp_path: Path) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_coco_instances

    from fpn_plugins.adapters.detectron2.datasets import check_datasets

    image = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}
    (tmp_path / "a.jpg").touch()
    (tmp_path / "set.json").write_text(json.dumps({"images": [image], "categories": [{"id": 1, "name": "cat"}]}))
    register_coco_instances(name, {}, str(tmp_path / "set.json"), str(tmp_path))
    try:
        if refused:
            with pytest.raises(ValueError, match="annotations"):
                check_datasets([name])
        else:
            assert len(check_datasets([name])) == 1
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_errors_of_pyramid_backbone() -> None:
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import build_resnet_backbone

    from fpn_plugins import FPN
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    small = {"type": "TimmBackbone", "name": "resnet18"}
    with pytest.raises(ValueError, match=r"in_channels=\[8, 16\].*publishes channels \[64, 128, 256, 512\]"):
        PyramidBackbone(small, FPN([8, 16]))
    with pytest.raises(ValueError, match="use out_indices instead"):
        PyramidBackbone(small, {"type": "FPN"}, in_features=["res2"])
    with pytest.raises(ValueError, match="FPM.*choose one of.*FPN"):
        PyramidBackbone(small, {"type": "FPM"})
    resnet = build_resnet_backbone(config(zoo() / "Base-RCNN-FPN.yaml"), ShapeSpec(channels=3))
    with pytest.raises(ValueError, match="the backbone has no"):
        PyramidBackbone(resnet, {"type": "FPN"}, in_features=["res7"])
    for neck in ("FPN", ["FPN"], [], 5):
        with pytest.raises(TypeError, match=r"neck=.* must be a neck, a mapping such as"):
            PyramidBackbone(small, neck)
    with pytest.raises(TypeError, match="backbone='resnet18' must be a backbone, or a mapping such as"):
        PyramidBackbone("resnet18", {"type": "FPN"})
    vit = {"type": "ViT", "img_size": 32, "embed_dim": 8, "depth": 2, "num_heads": 1, "global_block_indices": ()}
    with pytest.raises(ValueError, match=r"the maps \['c4', 'c4'\] share a stride"):
        PyramidBackbone({**vit, "out_block_indices": (0, 1)}, None)


def test_necks_one_behind_the_other() -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    fpn = {"type": "FPN", "out_channels": 32, "norm": "FrozenBN", "extra_levels": {"num_levels": 1}}
    backbone = PyramidBackbone({"type": "TimmBackbone", "name": "resnet10t"}, [fpn, {"type": "BFP"}])
    outputs = backbone(torch.randn(1, 3, 64, 64))
    assert list(outputs) == ["p2", "p3", "p4", "p5", "p6"] and type(backbone.neck[1]).__name__ == "BFP"


def test_autocast_of_the_pyramid_hands_single_precision_on() -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    parts = {"type": "TimmBackbone", "name": "resnet10t", "norm_eval": True}, {"type": "FPN", "out_channels": 16}
    usual, fast = PyramidBackbone(*parts), PyramidBackbone(*parts, autocast="bfloat16")
    fast.load_state_dict(usual.state_dict())
    images = torch.randn(1, 3, 96, 128)
    for (name, wanted), got in zip(usual(images).items(), fast(images).values(), strict=True):
        error = float((got - wanted).norm() / wanted.norm())
        assert got.dtype == torch.float32 and 1e-5 < error < 0.05, name
    sum(x.sum() for x in fast(images).values()).backward()
    with pytest.raises(ValueError, match="autocast='bf16' is unknown; choose one of"):
        PyramidBackbone(*parts, autocast="bf16")


def test_without_a_neck_it_is_a_bottom_up_network() -> None:
    from detectron2.modeling.backbone import FPN

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    bottom_up = PyramidBackbone({"type": "TimmBackbone", "name": "resnet10t"}, neck=None)
    pyramid = FPN(bottom_up, in_features=["c3", "c4", "c5"], out_channels=16)
    assert {name: tuple(x.shape[2:]) for name, x in pyramid(torch.randn(1, 3, 64, 96)).items()} == {
        "p3": (8, 12),
        "p4": (4, 6),
        "p5": (2, 3),
    }


def test_channels_last_changes_nothing_but_the_speed() -> None:
    """Maps and gradients, and what Detectron2's pooling reads from maps of that layout."""
    from detectron2.modeling.poolers import ROIPooler
    from detectron2.structures import Boxes

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    parts = {"type": "TimmBackbone", "name": "resnet10t", "norm_eval": True}, {"type": "FPN", "out_channels": 16}
    usual, fast = PyramidBackbone(*parts), PyramidBackbone(*parts, channels_last=True)
    fast.load_state_dict(usual.state_dict())
    weights = [p for p in fast.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    images = torch.randn(1, 3, 96, 128, dtype=torch.double)
    usual.double(), fast.double()
    wanted, got = list(usual(images).values()), list(fast(images).values())
    assert got[0].is_contiguous(memory_format=torch.channels_last) and not got[0].is_contiguous()
    boxes, pool = [Boxes([[3.0, 5, 60, 90]])], ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 2, "ROIAlignV2")
    assert_same_maps(got, wanted)
    pooled = [pool([m.float() for m in maps], boxes) for maps in (got, wanted)]  # its boxes are in single precision
    assert_same_maps(*pooled)
    grads = [
        torch.autograd.grad(sum(x.square().mean() for x in maps), list(model.parameters()))
        for maps, model in ((got, fast), (wanted, usual))
    ]
    assert_same_gradients(*grads)
