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
NUM_BACKBONES = 11  # distinct ones; parametrized by position, so that collecting reads no config


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
    """Replace the ResNet: return given maps, whatever the image."""

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


def test_whole_backbone_matches_detectron2() -> None:
    theirs, ours = build_pair(config(zoo() / "COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
    theirs.double().eval(), ours.double().eval()
    images = torch.randn(2, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        wanted, got = theirs(images), ours(images)
    assert_same_maps(got, wanted)


def test_a_level_that_the_pyramid_does_not_have_is_left_to_detectron2() -> None:
    """RetinaNet from Mask R-CNN's weights: P2 is left over; missing P6 and P7 raise an error with the remedy."""
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
