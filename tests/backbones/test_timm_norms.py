"""Batch norms of timm's networks under utilities of the toolboxes that replace them, and as ``norm=`` asks."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_maps
from timm_networks import images, randomize
from torch import nn

from fpn_plugins import TimmBackbone
from fpn_plugins.weights import write_checkpoint

pytestmark = pytest.mark.timm

# activations inside the norms, in sequences and attributes, and beside them
NETWORKS = ["mobilenetv2_050", "regnetx_002", "resnetv2_18", "densenet121"]


def torch_sync(module: nn.Module) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)


def mmengine_sync(module: nn.Module) -> nn.Module:
    from mmengine.model import convert_sync_batchnorm

    return convert_sync_batchnorm(module, "torch").train(module.training)  # its new norms are in training mode


def mmengine_sync_and_back(module: nn.Module) -> nn.Module:
    from mmengine.model import revert_sync_batchnorm

    return revert_sync_batchnorm(mmengine_sync(module)).train(module.training)


def detectron2_frozen(module: nn.Module) -> nn.Module:
    from detectron2.layers import FrozenBatchNorm2d

    return FrozenBatchNorm2d.convert_frozen_batchnorm(module)


def mmcv_fused(module: nn.Module) -> nn.Module:
    from mmcv.cnn import fuse_conv_bn

    return fuse_conv_bn(module)


def timm_sync(module: nn.Module) -> nn.Module:
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(module)


UTILITIES = [
    torch_sync,
    timm_sync,
    pytest.param(mmengine_sync, marks=pytest.mark.mmdet),
    pytest.param(mmengine_sync_and_back, marks=pytest.mark.mmdet),
    pytest.param(mmcv_fused, marks=pytest.mark.mmdet),
    pytest.param(detectron2_frozen, marks=pytest.mark.detectron2),
]


@pytest.fixture(scope="module", params=NETWORKS)
def backbone(request: pytest.FixtureRequest) -> TimmBackbone:
    return randomize(TimmBackbone(request.param)).double().eval()


def batch_norms(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("utility", UTILITIES)
def test_maps_stay_when_a_utility_replaces_the_norms(backbone: TimmBackbone, utility: Callable):
    x = images(size=(64, 64), dtype=torch.double)
    with torch.no_grad():
        wanted = backbone(x)
        changed = utility(copy.deepcopy(backbone))
        assert_same_maps(changed(x), wanted, tolerance=1e-8)
        assert_same_maps(changed(x), wanted, tolerance=1e-8)  # attached once
        again = pickle.loads(pickle.dumps(copy.deepcopy(changed)))
        assert_same_maps(again(x), wanted, tolerance=1e-8)
        assert_same_maps(backbone(x), wanted, tolerance=0)


@pytest.mark.parametrize("utility", [torch_sync, pytest.param(mmengine_sync, marks=pytest.mark.mmdet)])
@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnetv2_18"])
def test_keys_stay_and_every_norm_is_synchronized(name: str, utility: Callable):
    plain = TimmBackbone(name)
    synced = utility(copy.deepcopy(plain))
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in batch_norms(synced)) and batch_norms(synced)
    synced.train()
    assert list(synced.state_dict()) == list(plain.state_dict())
    synced.load_state_dict(plain.state_dict())


def test_a_compiled_backbone_keeps_its_activations():
    plain = randomize(TimmBackbone("mobilenetv2_050", (1, 2))).double().eval()
    changed = torch_sync(copy.deepcopy(plain)).eval()
    x = images(dtype=torch.double)
    with torch.no_grad():
        compiled = torch.compile(changed, fullgraph=True, backend="eager")
        assert_same_maps(compiled(x), plain(x), tolerance=1e-8)


@pytest.mark.detectron2
def test_a_script_keeps_its_activations():
    changed = detectron2_frozen(TimmBackbone("mobilenetv2_050", (1, 2)).eval())
    x = images()
    assert_same_maps(torch.jit.script(changed)(x), changed(x))


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet18"])
@pytest.mark.parametrize("norm", ["SyncBN", "FrozenBN"])
def test_own_norms_give_the_same_maps(name: str, norm: str, tmp_path: Path):
    """From files of timm's network, of a backbone without and with such norms, and back."""
    import timm

    theirs = randomize(timm.create_model(name))
    plain = TimmBackbone(name, checkpoint=write_checkpoint(theirs.state_dict(), tmp_path / "timm.pth")).eval()
    own = write_checkpoint(plain.state_dict(), tmp_path / "own.pth")
    x = images()
    with torch.no_grad():
        for file in (tmp_path / "timm.pth", own):
            ours = TimmBackbone(name, checkpoint=file, norm=norm).eval()
            assert_same_maps(ours(x), plain(x))
        ours.load_state_dict(plain.state_dict())
        back = TimmBackbone(name, checkpoint=write_checkpoint(ours.state_dict(), tmp_path / "back.pth")).eval()
        assert_same_maps(back(x), plain(x))
    if norm == "FrozenBN":
        assert not batch_norms(ours) and not any("bn" in key for key, _ in ours.named_parameters())
        ours.train()
        before = {key: value.clone() for key, value in ours.state_dict().items()}
        assert_same_maps(ours(x), plain(x))
        assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())
    else:
        assert all(isinstance(layer, nn.SyncBatchNorm) for layer in batch_norms(ours))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet18", "norm": "BN"}, "norm='BN' is unknown; choose one of"),
        ({"name": "convnext_atto", "norm": "SyncBN"}, "timm's 'convnext_atto' has no batch norms; set norm=None"),
    ],
)
def test_norms_that_do_not_exist_are_named(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**arguments)
