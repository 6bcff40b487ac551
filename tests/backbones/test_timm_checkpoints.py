"""Weights of timm backbones, in the names of timm, torchvision, mmdet and Detectron2, and files that do not fit."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from payload import Payload
from precision import assert_same_maps
from timm_networks import FAMILIES, images, randomize
from torch import nn

from fpn_plugins import TimmBackbone
from fpn_plugins.weights import write_checkpoint

pytestmark = pytest.mark.timm


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[nn.Module], Path]:
    """Write a module's weights to a file."""

    def write(module: nn.Module, name: str = "weights.pth") -> Path:
        return write_checkpoint(module.state_dict(), tmp_path / name)

    return write


@pytest.mark.parametrize("in_chans", [3, 1, 4])
@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_timm_file_gives_the_outputs_of_timm(name: str, maps: int, in_chans: int, checkpoint: Callable):
    """Also for images of other channels than the file's: timm adapts the first convolution."""
    import timm

    file = checkpoint(randomize(timm.create_model(name)))
    ours = TimmBackbone(name, range(maps), checkpoint=file, in_chans=in_chans).eval()
    theirs = timm.create_model(
        name,
        features_only=True,
        out_indices=tuple(range(maps)),
        in_chans=in_chans,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(file)},
    ).eval()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.model.state_dict().items())
    x = images(in_chans, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(ours.double()(x), theirs.double()(x))


def test_timm_file_loads_into_fewer_maps(checkpoint: Callable):
    import timm

    theirs = timm.create_model("resnet18")
    ours = TimmBackbone("resnet18", (1, 2), checkpoint=checkpoint(theirs))
    assert torch.equal(ours.model.layer2[1].conv2.weight, theirs.layer2[1].conv2.weight)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_own_file_loads(suffix: str, checkpoint: Callable):
    backbone = randomize(TimmBackbone("resnet18", frozen_stages=1)).eval()
    other = TimmBackbone("resnet18", checkpoint=checkpoint(backbone, f"weights{suffix}")).eval()
    x = images()
    assert_same_maps(other(x), backbone(x), tolerance=0)


@pytest.mark.torchvision
def test_torchvision_resnet_loads(checkpoint: Callable):
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter

    theirs = randomize(resnet18()).eval()
    ours = TimmBackbone("resnet18", checkpoint=checkpoint(theirs)).eval()
    layers = IntermediateLayerGetter(theirs, {f"layer{index}": str(index) for index in (1, 2, 3, 4)})
    x = images(dtype=torch.double)
    assert_same_maps(ours.double()(x), list(layers.double()(x).values()))


@pytest.mark.mmdet
def test_mmdet_resnet_loads(checkpoint: Callable):
    from mmdet.models.backbones import ResNet

    theirs = randomize(ResNet(18))
    theirs.eval()  # returns None
    ours = TimmBackbone("resnet18", checkpoint=checkpoint(theirs)).eval()
    x = images(dtype=torch.double)
    assert_same_maps(ours.double()(x), theirs.double()(x))


@pytest.mark.detectron2
@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize("depth", [18, 50])
def test_detectron2_resnet_loads(depth: int, classifier: bool, tmp_path: Path):
    """With the stride in the 3x3 convolution, as torchvision's and timm's weights have it."""
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet

    bottleneck = {"stride_in_1x1": False} if depth == 50 else {}
    stages = ResNet.make_default_stages(depth, norm="BN", **bottleneck)
    names = [f"res{stage}" for stage in (2, 3, 4, 5)]
    theirs = randomize(ResNet(BasicStem(norm="BN"), stages, num_classes=7 if classifier else None, out_features=names))
    arrays = {key: value.numpy() for key, value in theirs.state_dict().items() if "num_batches" not in key}
    file = tmp_path / "weights.pkl"  # as in their model zoo: arrays, no step counters
    file.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone", "matching_heuristics": True}))
    ours = TimmBackbone(f"resnet{depth}", checkpoint=file).eval()
    x = images(dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(ours.double()(x), list(theirs.double().eval()(x).values()))


def test_foreign_names_load_through_load_state_dict_too():
    """As the toolboxes do it: mmdet's ``load_from`` never sees the file's path."""
    import timm

    theirs = timm.create_model("resnet18")
    detector = nn.ModuleDict({"backbone": TimmBackbone("resnet18")})
    weights = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    detector.load_state_dict(weights)
    assert torch.equal(detector["backbone"].model.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


def test_output_norms_normalize_each_map_and_are_not_in_timm_files(checkpoint: Callable):
    import timm

    file = checkpoint(randomize(timm.create_model("convnext_atto")))
    plain = TimmBackbone("convnext_atto", checkpoint=file).double().eval()
    normed = TimmBackbone("convnext_atto", checkpoint=file, output_norm="LN").double().eval()
    assert {key for key in normed.state_dict() if key.startswith("norms.")} == {
        f"norms.{index}.{part}" for index in range(4) for part in ("weight", "bias")
    }
    x = images(dtype=torch.double)
    assert all(m.is_contiguous() for m in normed(x))
    for got, m in zip(normed(x), plain(x), strict=True):
        expected = nn.functional.layer_norm(m.permute(0, 2, 3, 1), (m.shape[1],), eps=1e-6).permute(0, 3, 1, 2)
        assert_same_maps(got, expected)


# ------------------------------------------------------------------------------------------------------------ errors


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch):
    import timm

    create = timm.create_model

    def offline(*args: Any, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RuntimeError, match="timm's weights for 'resnet18' from https:.*no route.*checkpoint=FILE"):
        TimmBackbone("resnet18", pretrained=True)


def test_pretrained_and_checkpoint_exclude_each_other():
    with pytest.raises(ValueError, match="pretrained=True and checkpoint='x.pth' are mutually exclusive"):
        TimmBackbone("resnet18", pretrained=True, checkpoint="x.pth")


@pytest.mark.parametrize(
    ("other", "ours", "named"),
    [
        ("mobilenetv2_100", "resnet18", "blocks.0.0"),  # shares `bn1` with ResNet
        ("convnext_atto", "resnet18", "stem.0.bias"),  # shares nothing
        ("resnet18", "convnext_atto", "bn1.bias"),
        ("resnet34", "resnet18", "layer1.2"),  # holds more
        ("resnet18", "resnet34", "layer1.2"),  # holds less
        ("convnext_femto", "convnext_atto", "stem_0"),  # the same names, other widths
    ],
)
def test_a_checkpoint_of_another_architecture_names_keys(other: str, ours: str, named: str, checkpoint: Callable):
    import timm

    file = checkpoint(timm.create_model(other))
    with pytest.raises(ValueError) as error:
        TimmBackbone(ours, out_indices=(1, 2, 3), checkpoint=file)
    assert named in str(error.value)


def test_a_truncated_checkpoint_is_an_error_that_names_the_file(checkpoint: Callable):
    file = checkpoint(TimmBackbone("resnet18"))
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match="cannot read checkpoint .*weights.pth.*damaged"):
        TimmBackbone("resnet18", checkpoint=file)


def test_a_missing_checkpoint_is_not_found():
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        TimmBackbone("resnet18", checkpoint="nowhere.pth")


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_checkpoint_with_a_payload_is_refused_and_does_not_run(tmp_path: Path, suffix: str):
    file, trace = tmp_path / f"weights{suffix}", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"conv1.weight": Payload(trace)}))
    with pytest.raises(ValueError, match="not executed"):
        TimmBackbone("resnet18", checkpoint=file)
    assert not trace.exists()
