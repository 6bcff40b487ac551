"""Our backbones and necks inside torchvision's detectors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_maps

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.torchvision, pytest.mark.timm]

FPN = {"type": "FPN", "out_channels": 256, "extra_levels": {"num_levels": 1}}
RETINANET_LEVELS = {"num_levels": 2, "op": "conv", "source": "output", "relu": True, "bare": True}


def backbone(neck: Any = None, name: str = "resnet10t", **arguments: Any) -> Any:
    from fpn_plugins.adapters.torchvision import PyramidBackbone

    return PyramidBackbone({"type": "TimmBackbone", "name": name, **arguments}, neck or {**FPN, "out_channels": 32})


def detector(kind: str) -> Any:
    from torchvision.models import detection

    if kind == "RetinaNet":
        body = backbone({**FPN, "out_channels": 32, "in_indices": [1, 2, 3], "extra_levels": RETINANET_LEVELS})
        return detection.RetinaNet(body, 4, anchor_generator=body.retinanet_anchors(), min_size=96, max_size=128)
    body = backbone()
    pools = {"box_roi_pool": body.roi_align()}
    if kind == "MaskRCNN":
        pools["mask_roi_pool"] = body.roi_align(14)
    build = getattr(detection, kind)
    return build(body, 4, rpn_anchor_generator=body.rpn_anchors(), min_size=96, max_size=128, **pools)


def target() -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, 90, 120, dtype=torch.uint8)
    mask[:, 20:60, 10:70] = 1
    return {"boxes": torch.tensor([[10.0, 20.0, 70.0, 60.0]]), "labels": torch.tensor([2]), "masks": mask}


@pytest.mark.parametrize("kind", ["FasterRCNN", "MaskRCNN", "RetinaNet"])
def test_trains_and_predicts(kind: str) -> None:
    model = detector(kind)
    image = torch.rand(3, 90, 120)
    losses = model([image], [target()])
    sum(losses.values()).backward()
    without = [key for key, p in model.backbone.named_parameters() if p.grad is None]
    assert without == []
    with torch.no_grad():
        found = model.eval()([image])[0]
    assert found["boxes"].shape[1] == 4
    assert ("masks" in found) == (kind == "MaskRCNN")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["FasterRCNN", "RetinaNet"])
def test_scripts_as_torchvisions_own_detectors_do(kind: str, tmp_path: Path) -> None:
    """The detector itself computes, pickles and copies as before, although TorchScript replaces its backbone."""
    from fpn_plugins import FPN, TimmBackbone

    model, image = detector(kind).eval(), torch.rand(3, 90, 120)
    expected = model([image])
    torch.jit.script(model).save(tmp_path / "detector.pt")
    scripted = torch.jit.load(tmp_path / "detector.pt")
    with pytest.warns(UserWarning, match="always returns a"):
        _, found = scripted([image])
    assert_same_maps(found, expected)
    assert_same_maps(model([image]), expected)
    assert model.state_dict().keys() == scripted.state_dict().keys()
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert (type(twin.backbone.body), type(twin.backbone.fpn)) == (TimmBackbone, FPN)
        twin.load_state_dict(model.state_dict())
        assert_same_maps(twin([image]), expected)


@pytest.mark.parametrize("kind", ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_a_torchvision_checkpoint_gives_the_same_maps(kind: str) -> None:
    from torchvision.models import detection

    theirs = getattr(detection, kind)(weights=None, weights_backbone=None, num_classes=4).backbone.eval()
    neck = FPN
    if kind.startswith("retinanet"):
        neck = {**FPN, "in_indices": [1, 2, 3], "extra_levels": RETINANET_LEVELS}
    ours = backbone(neck, "resnet50").eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 65, 97, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(list(ours.double()(x).values()), list(theirs.double()(x).values()))


def test_anchors_match_torchvision_on_its_own_levels() -> None:
    from torchvision.models.detection.faster_rcnn import _default_anchorgen
    from torchvision.models.detection.retinanet import _default_anchorgen as retinanet_anchorgen

    assert backbone().rpn_anchors().sizes == _default_anchorgen().sizes
    levels = {**FPN, "in_indices": [1, 2, 3], "extra_levels": RETINANET_LEVELS}
    assert backbone(levels).retinanet_anchors().sizes == retinanet_anchorgen().sizes


def test_maps_of_several_widths_are_an_error() -> None:
    with pytest.raises(ValueError, match="one number"):
        backbone({"type": "PanopticFPN", "out_channels": 32, "inner_channels": 64})


def test_the_example_runs(tiny_coco: Path, tmp_path: Path) -> None:
    from fpn_plugins import TimmBackbone
    from fpn_plugins.weights import read_checkpoint, write_checkpoint

    weights = write_checkpoint(TimmBackbone("resnet10t").model.state_dict(), tmp_path / "resnet.safetensors")
    output = tmp_path / "model.safetensors"
    command = ["tools/finetune_torchvision.py", tiny_coco, "--backbone", "resnet10t", "--checkpoint", weights]
    subprocess.run([sys.executable, *map(str, command), "--iterations", "2", "--out", output], cwd=ROOT, check=True)
    assert any(key.startswith("backbone.fpn.lateral_convs") for key in read_checkpoint(output))
