"""Detectron2's semantic head with ours in its place: keys, outputs, gradients; and the whole model's losses."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2_training import draw_batch, losses_of
from precision import assert_same_gradients, assert_same_losses, assert_same_maps
from torch import Tensor, nn

pytestmark = pytest.mark.detectron2

ZOO = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"


def build(kind: str, strides: tuple[int, ...], **arguments: Any) -> nn.Module:
    """A head of Detectron2's registry."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import SEM_SEG_HEADS_REGISTRY

    import fpn_plugins.adapters.detectron2  # noqa: F401  (registers)

    shapes = {f"p{stride.bit_length() - 1}": ShapeSpec(channels=8, stride=stride) for stride in strides}
    arguments = {"num_classes": 5, "conv_dims": 32, "common_stride": 4, "norm": "GN", **arguments}
    return SEM_SEG_HEADS_REGISTRY.get(kind)(shapes, **arguments)


def build_pair(strides: tuple[int, ...] = (4, 8, 16, 32), **arguments: Any) -> tuple[nn.Module, nn.Module]:
    """Detectron2's head, and ours with its state dict as it is."""
    theirs, ours = (build(kind, strides, **arguments) for kind in ("SemSegFPNHead", "PanopticFPNHead"))
    result = ours.load_state_dict(theirs.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    return theirs, ours


def features(height: int, width: int, requires_grad: bool = True) -> dict[str, Tensor]:
    """p2..p5, each half (rounded up) of the one before."""
    found = {}
    for level in range(2, 6):
        found[f"p{level}"] = torch.randn(2, 8, height, width, requires_grad=requires_grad)
        height, width = -(-height // 2), -(-width // 2)
    return found


@pytest.mark.parametrize(
    ("strides", "arguments"),
    [((4, 8, 16, 32), {}), ((16, 8), {"norm": "", "loss_weight": 0.5}), ((4, 16), {"norm": "BN", "ignore_value": 255})],
)
def test_equal_losses_gradients_and_predictions(strides: tuple[int, ...], arguments: dict[str, Any]) -> None:
    theirs, ours = (head.double() for head in build_pair(strides, **arguments))
    maps = {name: m.detach().double().requires_grad_() for name, m in features(16, 24).items()}
    targets = torch.randint(0, 5, (2, 64, 96))
    targets[:, :3] = theirs.ignore_value
    found = []
    for head in (theirs, ours):
        nothing, losses = head(maps, targets)
        assert nothing is None
        read = [maps[name] for name in head.in_features]
        loss = losses["loss_sem_seg"]
        predictor = list(head.predictor.parameters())
        branches = [p for name, p in head.named_parameters() if not name.startswith("predictor.")]
        found.append([loss, *torch.autograd.grad(loss, [*read, *branches, *predictor])])
    assert_same_gradients(found[1], found[0])
    theirs.eval(), ours.eval()
    assert_same_maps(ours(maps)[0], theirs(maps)[0])


def test_odd_sizes_at_which_detectron2_raises() -> None:
    theirs, ours = build_pair()
    theirs.eval(), ours.eval()
    maps = features(17, 11)
    with pytest.raises(RuntimeError, match="must match the size"):
        theirs(maps)
    assert ours(maps)[0].shape == (2, 5, 68, 44)


def test_strides_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"num_upsamples=\[-1, 0\]"):
        build("PanopticFPNHead", (4, 8), common_stride=8)
    with pytest.raises(TypeError, match="conv_dim"):
        build("PanopticFPNHead", (4, 8), conv_dim=8)


def config() -> Any:
    """Detectron2's own config with a ResNet-18 of trainable norms in place of the ResNet-50, on the CPU."""
    from detectron2.model_zoo import get_config

    cfg = get_config(ZOO)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.RESNETS.NORM = "BN"  # random weights with frozen norms overflow within a few iterations
    return cfg


def with_ours(cfg: Any) -> Any:
    """The same with our backbone builder and our head, by their names."""
    import fpn_plugins.adapters.detectron2  # noqa: F401  (registers)

    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.NAME = "build_fpn_plugins_resnet_fpn_backbone"
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PanopticFPNHead"
    return cfg


draw = partial(draw_batch, num_labels=54)


def test_same_losses_as_the_stock_neck_and_head() -> None:
    """Detectron2's whole state dict goes into the model with our parts, strictly."""
    cfg = config()
    wanted, weights = losses_of(cfg, None, draw)
    got, _ = losses_of(with_ours(cfg), weights, draw)
    for ours, theirs in zip(got, wanted, strict=True):
        assert_same_losses(ours, theirs)
    assert got[0]["loss_sem_seg"] != got[1]["loss_sem_seg"]


def test_official_pkl_loads_through_the_detectron2_checkpointer(tmp_path: Path) -> None:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling import build_model

    stock, ours = build_model(config()).eval(), build_model(with_ours(config())).eval()
    arrays = {key: value.numpy() for key, value in stock.state_dict().items()}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2"}))
    DetectionCheckpointer(ours).load(str(tmp_path / "model_final.pkl"))
    images = torch.randn(1, 3, 96, 64, dtype=torch.double)
    with torch.no_grad():
        wanted, got = (model.double().sem_seg_head(model.backbone(images))[0] for model in (stock, ours))
    assert_same_maps(got, wanted)
