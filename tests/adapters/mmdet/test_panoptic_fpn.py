"""mmdet's semantic head with our type in its place: keys, outputs, gradients; and the whole detector's losses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_losses, assert_same_maps
from seeds import seed
from torch import Tensor, nn

pytestmark = pytest.mark.mmdet

HEAD = {
    "type": "PanopticFPNHead",
    "in_channels": 8,
    "inner_channels": 32,
    "num_things_classes": 3,
    "num_stuff_classes": 5,
    "loss_seg": {"type": "CrossEntropyLoss", "ignore_index": 255, "loss_weight": 0.5},
}
SHIPPED = "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py"


def build(config: dict[str, Any]) -> nn.Module:
    """A module of mmdet's registry."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    return MODELS.build(copy.deepcopy(config))


def build_pair(**arguments: Any) -> tuple[nn.Module, nn.Module]:
    """mmdet's head, and ours with its state dict as it is."""
    config = {**HEAD, **arguments}
    theirs, ours = build(config), build({**config, "type": "fpn_plugins.PanopticFPNHead"})
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def maps(height: int, width: int) -> list[Tensor]:
    """Five levels, each half (rounded up) of the one before; a head reads the first four."""
    levels = []
    for _ in range(5):
        levels.append(torch.randn(2, HEAD["in_channels"], height, width, requires_grad=True))
        height, width = -(-height // 2), -(-width // 2)
    return levels


def samples(height: int, width: int) -> list[Any]:
    """Labels of two images: things 0..2, stuff 3..6, and 255."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import PixelData

    found = []
    for _ in range(2):
        labels = torch.randint(0, 8, (1, height, width)).where(torch.rand(1, height, width) > 0.1, torch.tensor(255))
        found.append(DetDataSample(gt_sem_seg=PixelData(sem_seg=labels.to(torch.uint8))))
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"start_level": 1, "norm_cfg": None},
        {"end_level": 2, "norm_cfg": {"type": "BN"}, "conv_cfg": {"type": "ConvWS"}},
    ],
    ids=["shipped", "p3p5", "bn"],
)
def test_equal_outputs_losses_and_gradients(arguments: dict[str, Any]) -> None:
    theirs, ours = (head.double() for head in build_pair(**arguments))
    levels, targets = [m.detach().double().requires_grad_() for m in maps(16, 24)], samples(64, 96)
    assert_same_maps(ours(levels), theirs(levels))
    gradients = []
    for head in (theirs, ours):
        loss = head.loss(levels, targets)["loss_seg"]
        wanted = [*levels, *head.parameters()]
        gradients.append([loss, *torch.autograd.grad(loss, wanted, allow_unused=True)])
    # mmdet's head has conv_logits behind the branches, ours before: pair them by name
    ours_by_name = dict(zip(names(ours, levels), gradients[1], strict=True))
    theirs_by_name = dict(zip(names(theirs, levels), gradients[0], strict=True))
    assert ours_by_name.keys() == theirs_by_name.keys()
    assert_same_gradients(ours_by_name, theirs_by_name)  # there are none of a level that is not read


def names(head: nn.Module, levels: list[Tensor]) -> list[str]:
    """Of the loss, the levels and the parameters, the latter as ours are called."""
    from fpn_plugins.weights import KeyMap
    from fpn_plugins.weights.maps.panoptic_fpn import mmdet

    table = KeyMap("", [(rule.theirs, f"semantic_merge.{rule.ours}") for rule in mmdet().rules])
    keys = [name for name, _ in head.named_parameters()]
    renamed = [table.find(key)[1] or key for key in keys]
    return ["loss", *(f"p{i}" for i in range(len(levels))), *renamed]


def test_odd_sizes_at_which_mmdet_raises() -> None:
    theirs, ours = build_pair()
    levels = maps(17, 11)
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        theirs(levels)
    assert ours(levels)["seg_preds"].shape == (2, 6, 17, 11)
    assert ours.loss(levels, samples(68, 44))["loss_seg"].isfinite()


def test_levels_that_are_none() -> None:
    with pytest.raises(ValueError, match="start_level=2, end_level=2 choose no levels: end_level is exclusive"):
        build({**HEAD, "type": "fpn_plugins.PanopticFPNHead", "start_level": 2, "end_level": 2})
    with pytest.raises(TypeError, match="inner_chanels"):
        build({**HEAD, "type": "fpn_plugins.PanopticFPNHead", "inner_chanels": 64})


def small_detector() -> Any:
    """mmdet's own Panoptic FPN with a ResNet-18 in place of the ResNet-50, so that it runs in seconds."""
    import mmdet
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    cfg = Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / SHIPPED)).model
    cfg.backbone.update(depth=18, init_cfg=None)
    cfg.neck.in_channels = [64, 128, 256, 512]
    cfg.train_cfg.rcnn.sampler.num = 32
    return cfg


def with_ours(cfg: Any) -> Any:
    """The same with our neck and our head."""
    cfg = copy.deepcopy(cfg)
    cfg.neck.type = "fpn_plugins.FPN"
    cfg.semantic_head.type = "fpn_plugins.PanopticFPNHead"
    return cfg


def losses_of(cfg: Any, weights: dict[str, Any] | None) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Losses of two SGD iterations, and the weights before them."""
    from mmdet.testing import demo_mm_inputs

    seed(0)
    model = build(cfg)
    if weights is not None:
        model.load_state_dict(weights)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    history = []
    for number in (1, 2):
        seed(number)
        shapes = [[3, 128, 160], [3, 160, 128]]
        data = demo_mm_inputs(2, shapes, num_items=[5, 4], num_classes=80, with_mask=True, with_semantic=True)
        data = model.data_preprocessor(data, training=True)
        seed(number)  # the samplers draw from the global state
        loss, log = model.parse_losses(model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append({name: float(value) for name, value in log.items()})
    return history, before


def test_same_losses_as_the_stock_neck_and_head() -> None:
    """mmdet's whole state dict goes into the detector with our parts, strictly."""
    cfg = small_detector()
    wanted, weights = losses_of(cfg, None)
    got, _ = losses_of(with_ours(cfg), weights)
    for ours, theirs in zip(got, wanted, strict=True):
        assert_same_losses(ours, theirs)
    assert got[0]["loss_seg"] != got[1]["loss_seg"]


def test_official_layout_loads_through_mmengines_loader(tmp_path: Path) -> None:
    from mmengine.runner import load_checkpoint

    stock, ours = build(small_detector()), build(with_ours(small_detector()))
    torch.save({"state_dict": stock.state_dict(), "meta": {}}, tmp_path / "stock.pth")
    load_checkpoint(ours, str(tmp_path / "stock.pth"), strict=True)
    images = torch.randn(1, 3, 96, 64, dtype=torch.double)
    stock.double().eval(), ours.double().eval()
    with torch.no_grad():
        wanted, got = (model.semantic_head(model.extract_feat(images)) for model in (stock, ours))
    assert_same_maps(got, wanted)


def test_weights_start_as_in_mmdet() -> None:
    """Same spread of each layer after ``init_weights``."""
    theirs, ours = (build({**HEAD, "type": kind}) for kind in (HEAD["type"], "fpn_plugins.PanopticFPNHead"))
    for head in (theirs, ours):
        head.init_weights()
    for name, a, b in zip(names(theirs, [])[1:], theirs.parameters(), by_name(ours, theirs), strict=True):
        assert float(b.std(unbiased=False)) == pytest.approx(float(a.std(unbiased=False)), rel=0.2, abs=1e-8), name


def by_name(ours: nn.Module, theirs: nn.Module) -> list[Tensor]:
    """Our parameters in the order of theirs."""
    own = dict(zip(names(ours, [])[1:], ours.parameters(), strict=True))
    return [own[name] for name in names(theirs, [])[1:]]
