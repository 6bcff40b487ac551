"""Two training iterations with mmdet's neck and with ours: same seed, data and weights give the same losses."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from precision import assert_near_maps, assert_same_gradients, assert_same_losses, assert_same_maps
from seeds import seed

pytestmark = pytest.mark.mmdet

CONFIGS = {
    "mask_rcnn": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "faster_rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
}


def small_model(name: str) -> Any:
    """mmdet's own config with a ResNet-18 in place of the ResNet-50, so that it runs in seconds."""
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    cfg = Config.fromfile(str(shipped(CONFIGS[name]))).model
    cfg.backbone.update(depth=18, init_cfg=None)
    cfg.neck.in_channels = [64, 128, 256, 512]
    if "rcnn" in (cfg.train_cfg or {}):
        cfg.train_cfg.rcnn.sampler.num = 32
    return cfg


def shipped(path: str) -> Any:
    """A config file in mmdet's package."""
    from pathlib import Path

    import mmdet

    return Path(mmdet.__file__).parent / ".mim" / "configs" / path


def batch() -> dict[str, Any]:
    """Two seeded pictures with boxes and masks."""
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(2, [[3, 128, 160], [3, 160, 128]], num_items=[5, 4], num_classes=80, with_mask=True)


def losses_of(cfg: Any, weights: dict[str, Any] | None) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Losses of two SGD iterations, and the weights before them."""
    from mmdet.registry import MODELS

    seed(0)
    model = MODELS.build(copy.deepcopy(cfg))
    if weights is not None:
        model.load_state_dict(weights)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    history = []
    for number in (1, 2):
        seed(number)
        data = model.data_preprocessor(batch(), training=True)
        seed(number)  # the samplers draw from the global state
        loss, log = model.parse_losses(model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append({name: float(value) for name, value in log.items()})
    return history, before


@pytest.mark.parametrize("name", CONFIGS)
def test_same_losses_as_the_stock_neck(name: str) -> None:
    cfg = small_model(name)
    wanted, weights = losses_of(cfg, None)
    cfg.neck.type = "fpn_plugins.FPN"
    got, _ = losses_of(cfg, weights)
    for ours, theirs in zip(got, wanted, strict=True):
        assert_same_losses(ours, theirs)
    assert got[0]["loss"] != got[1]["loss"]


def test_retina_head_trains_like_mmdet_and_with_level_weights() -> None:
    cfg = small_model("retinanet")
    wanted, weights = losses_of(cfg, None)
    cfg.bbox_head.type = "fpn_plugins.RetinaHead"
    got, _ = losses_of(cfg, weights)
    assert got == wanted  # to the last bit
    cfg.bbox_head.level_weights = [3.0, 1.0, 1.0, 0.5, 0.5]
    weighted, _ = losses_of(cfg, weights)
    assert wanted[0]["loss_cls"] < weighted[0]["loss_cls"] < 3 * wanted[0]["loss_cls"]  # P3 has most anchors
    assert math.isfinite(weighted[1]["loss"]) and weighted[1]["loss"] != wanted[1]["loss"]


def test_official_layout_loads_through_mmengines_loader(tmp_path: Any) -> None:
    """`load_from` and `init_detector` use mmengine's loader; a stock checkpoint must arrive complete, ``strict``."""
    from mmdet.registry import MODELS
    from mmengine.runner import load_checkpoint

    cfg = small_model("retinanet")
    stock = MODELS.build(copy.deepcopy(cfg))
    torch.save({"state_dict": stock.state_dict(), "meta": {}}, tmp_path / "stock.pth")
    cfg.neck.type = "fpn_plugins.FPN"
    ours = MODELS.build(copy.deepcopy(cfg))
    load_checkpoint(ours, str(tmp_path / "stock.pth"), strict=True)
    images = torch.randn(1, 3, 96, 64, dtype=torch.double)
    stock.double().eval(), ours.double().eval()
    with torch.no_grad():
        assert_same_maps(ours.extract_feat(images), stock.extract_feat(images))


def test_a_channel_list_that_does_not_fit_the_backbone_names_both() -> None:
    from mmdet.registry import MODELS

    cfg = small_model("faster_rcnn")
    cfg.neck.update(type="fpn_plugins.FPN", in_channels=[256, 512, 1024, 2048])
    model = MODELS.build(cfg)
    with pytest.raises(ValueError, match=r"in_channels=\[256, 512, 1024, 2048\].*channels \[64, 128, 256, 512\]"):
        model.extract_feat(torch.randn(1, 3, 64, 64))


def test_pyramid_backbone_wires_the_channels() -> None:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    model = MODELS.build(
        {
            "type": "fpn_plugins.PyramidBackbone",
            "backbone": {"type": "TimmBackbone", "name": "resnet18", "norm_eval": True},
            "neck": {"type": "FPN", "out_channels": 32, "num_outs": 5, "norm_cfg": {"type": "BN"}},
        }
    )
    before = model.backbone.model.conv1.weight.clone()
    model.init_weights()
    assert torch.equal(before, model.backbone.model.conv1.weight)  # mmengine must not reinitialize timm's network
    assert [tuple(o.shape[1:]) for o in model(torch.randn(1, 3, 64, 64))] == [(32, s, s) for s in (16, 8, 4, 2, 1)]
    assert [spec.stride for spec in model.feature_specs] == [4, 8, 16, 32, 64]


def test_channels_last_changes_nothing_but_the_speed() -> None:
    """Maps and gradients, and what mmcv's RoIAlign, which asks for no layout, reads from the maps."""
    from mmcv.ops import roi_align
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    config = {
        "type": "fpn_plugins.PyramidBackbone",
        "backbone": {"type": "TimmBackbone", "name": "resnet10t", "norm_eval": True},
        "neck": {"type": "FPN", "out_channels": 16, "num_outs": 5},
    }
    usual, fast = MODELS.build(copy.deepcopy(config)), MODELS.build({**config, "channels_last": True})
    fast.load_state_dict(usual.state_dict())
    for model in (usual, fast):
        model.init_weights()
    fast.load_state_dict(usual.state_dict())
    weights = [p for p in fast.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    images = torch.randn(2, 3, 75, 97, dtype=torch.double)
    boxes = torch.tensor([[0.0, 3, 5, 40, 50], [1, 20, 10, 90, 60]], dtype=torch.double)
    usual.double().train(), fast.double().train()
    wanted, got = usual(images), fast(images)
    assert all(x.is_contiguous() for x in got)
    assert_same_maps(got, wanted)
    assert_same_maps(*(roi_align(maps[0], boxes, 7, 0.25) for maps in (got, wanted)))
    grads = [
        torch.autograd.grad(sum(x.square().mean() for x in m), list(n.parameters()))
        for m, n in ((got, fast), (wanted, usual))
    ]
    assert_same_gradients(*grads)


def test_autocast_of_the_pyramid_hands_single_precision_on() -> None:
    """Which mmcv's RoIAlign needs on a CPU."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    config = {
        "type": "fpn_plugins.PyramidBackbone",
        "backbone": {"type": "TimmBackbone", "name": "resnet10t", "norm_eval": True},
        "neck": {"type": "FPN", "out_channels": 16, "num_outs": 5},
    }
    usual = MODELS.build(copy.deepcopy(config))
    fast = MODELS.build({**copy.deepcopy(config), "autocast": "bfloat16", "channels_last": True})
    fast.load_state_dict(usual.state_dict())
    images = torch.randn(2, 3, 75, 97)
    got, wanted = fast(images), usual(images)
    assert all(m.dtype == torch.float32 and m.is_contiguous() for m in got)
    assert_near_maps(got, wanted, tolerance=0.1)
    assert all(float((a - b).norm() / b.norm()) > 1e-5 for a, b in zip(got, wanted, strict=True))
    with pytest.raises(ValueError, match="autocast='bf16' is unknown"):
        MODELS.build({**copy.deepcopy(config), "autocast": "bf16"})


def test_pyramid_backbone_needs_parts_of_this_package() -> None:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    ours = {"type": "fpn_plugins.TimmBackbone", "name": "resnet10t"}
    for stranger in ({"type": "RPNHead"}, {"type": "mmdet.RPNHead"}):
        with pytest.raises(TypeError, match="RPNHead' is not a neck of fpn_plugins; give backbone and neck"):
            MODELS.build({"type": "fpn_plugins.PyramidBackbone", "backbone": ours, "neck": stranger})
    for other in ("FPN", ["FPN"], [None]):
        with pytest.raises(TypeError, match="must be the config of a neck, a list of configs, or None"):
            MODELS.build({"type": "fpn_plugins.PyramidBackbone", "backbone": ours, "neck": other})
    with pytest.raises(TypeError, match="publishes no feature_specs"):
        MODELS.build(
            {
                "type": "fpn_plugins.PyramidBackbone",
                "backbone": {"type": "mmdet.ResNet", "depth": 18},
                "neck": {"type": "FPN", "out_channels": 8, "num_outs": 4},
            }
        )
