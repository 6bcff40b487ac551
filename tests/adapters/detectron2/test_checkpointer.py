"""Tables of another size, and weights of another shape, through Detectron2's own checkpointer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fpn_plugins import FPN, MViT, Swin, TimmBackbone, ViT
from fpn_plugins.weights import write_checkpoint

pytestmark = pytest.mark.detectron2

VIT = {"embed_dim": 8, "depth": 2, "num_heads": 2, "global_block_indices": (1,)}
SWIN = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
MVIT = {"name": "mvitv2_tiny", "embed_dim": 8, "num_heads": 1, "last_block_indices": (0, 1, 2, 3)}
VIT_NAME = "test_vit"


def vit(**arguments: Any) -> ViT:
    return ViT(**{**VIT, "img_size": 64, "window_size": 3, "pretrain_img_size": 64, **arguments})


def swin(window_size: int) -> Swin:
    return Swin(window_size=window_size, **SWIN)


def timm_vit(**arguments: Any) -> TimmBackbone:
    return TimmBackbone(VIT_NAME, model_args=arguments)


# a backbone, and one of another size
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "swin of other windows": (lambda: swin(4), lambda: swin(7)),
    "vit of other images": (vit, lambda: vit(img_size=96, pretrain_img_size=96)),
    "vit of other patches": (vit, lambda: vit(patch_size=8)),
    "vit of other windows everywhere": (lambda: vit(global_block_indices=()), lambda: vit(window_size=4)),
    "timm's vit of other images": (lambda: timm_vit(), lambda: timm_vit(img_size=96)),
}


def detector(backbone: Any) -> Any:
    """What a detector is to its checkpointer."""
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    model = nn.Module()
    model.backbone = PyramidBackbone(backbone, None, out_positions=[len(backbone.feature_specs) - 1])
    return model


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["detector", "data parallel", "backbone by heuristics"])
def test_the_checkpointer_resizes_as_load_state_dict_does(case: str, form: str, tmp_path: Path) -> None:
    from detectron2.checkpoint import DetectionCheckpointer

    source, expected, ours = detector(CASES[case][0]()), detector(CASES[case][1]()), detector(CASES[case][1]())
    for p in source.parameters():
        p.data.normal_()
    expected.load_state_dict(source.state_dict())
    weights = {
        "detector": source.state_dict(),
        "data parallel": {f"module.{key}": value for key, value in source.state_dict().items()},
        "backbone by heuristics": source.backbone.bottom_up.state_dict(),
    }[form]
    torch.save({"model": weights}, tmp_path / "x.pth")
    DetectionCheckpointer(ours).load(f"{tmp_path}/x.pth" + ("?matching_heuristics=True" if "heur" in form else ""))
    for key, value in expected.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


def test_layer_scale_is_folded_through_the_heuristics(tmp_path: Path) -> None:
    from detectron2.checkpoint import DetectionCheckpointer

    weights = {**vit().state_dict(), **{f"blocks.{i}.ls1.gamma": torch.full((8,), 3.0 + i) for i in range(2)}}
    expected, ours = detector(vit()), detector(vit())
    expected.backbone.bottom_up.load_state_dict(weights)
    torch.save({"model": weights}, tmp_path / "x.pth")
    DetectionCheckpointer(ours).load(f"{tmp_path}/x.pth?matching_heuristics=True")
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (lambda: MViT(img_size=64, **MVIT), lambda: MViT(img_size=128, **MVIT)),
        (lambda: swin(4), lambda: Swin(window_size=4, **{**SWIN, "num_heads": (2, 2, 4, 4)})),
        (vit, lambda: vit(mlp_ratio=2.0)),
        (lambda: TimmBackbone("mobilenetv2_050"), lambda: TimmBackbone("mobilenetv2_100")),
    ],
)
def test_tensors_of_another_shape_are_an_error(source: Callable, target: Callable, tmp_path: Path) -> None:
    """Detectron2 leaves them as they were initialized, with a warning."""
    from detectron2.checkpoint import DetectionCheckpointer

    torch.save({"model": detector(source()).state_dict()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="tensors of another shape"):
        DetectionCheckpointer(detector(target())).load(str(tmp_path / "x.pth"))


def test_a_neck_of_another_width_is_an_error_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from detectron2.checkpoint import DetectionCheckpointer

    def model(width: int) -> nn.Module:
        built = nn.Module()
        built.neck, built.head = FPN([3, 4], width), nn.Linear(width, 5 * width)
        return built

    torch.save({"model": model(4).state_dict()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"neck\.lateral_convs\.0\.conv\.weight .* Detectron2 would leave them"):
        DetectionCheckpointer(model(8)).load(str(tmp_path / "x.pth"))
    monkeypatch.setenv("FPN_PLUGINS_PARTIAL_LOAD", "1")
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(model(8)).load(str(tmp_path / "x.pth"))


def test_a_head_for_other_classes_is_left_as_it_is(tmp_path: Path) -> None:
    """Fine-tuning on other classes, as in Detectron2; the wrapper changes nothing for its own modules."""
    from detectron2.checkpoint import DetectionCheckpointer

    def model(classes: int) -> nn.Module:
        built = nn.Module()
        built.neck, built.head = FPN([3, 4], 4), nn.Linear(4, classes)
        return built

    source, other = model(80), model(3)
    torch.save({"model": source.state_dict()}, tmp_path / "x.pth")
    before = other.head.weight.clone()
    DetectionCheckpointer(other).load(str(tmp_path / "x.pth"))
    assert torch.equal(other.head.weight, before)
    assert torch.equal(other.neck.lateral_convs[0].conv.weight, source.neck.lateral_convs[0].conv.weight)


@pytest.mark.timm
@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_converted_file_with_batch_norms_loads_in_our_training_command(suffix: str, tmp_path: Path) -> None:
    from fpn_plugins.adapters.detectron2.checkpointer import SafeCheckpointer

    source, target = (TimmBackbone("resnet10t", out_indices=(1, 2)) for _ in range(2))
    source.get_buffer("model.bn1.num_batches_tracked").fill_(5)
    SafeCheckpointer(target, str(tmp_path)).load(
        str(write_checkpoint(source.state_dict(), tmp_path / f"x{suffix}", "model"))
    )
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
