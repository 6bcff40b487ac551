"""Conversion of whole detectors: stock detectors with random weights give equal outputs in both toolboxes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calibration import draw
from precision import assert_same_maps
from torch import Tensor

from fpn_plugins.analysis import spread_predictions
from fpn_plugins.conversion import convert

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2]

CAFFE = ["MODEL.RPN.NMS_THRESH=0.7"]  # detectron2's own pixels and strides
PYTORCH = [
    "MODEL.RESNETS.STRIDE_IN_1X1=False",
    "MODEL.PIXEL_MEAN=[123.675,116.28,103.53]",
    "MODEL.PIXEL_STD=[58.395,57.12,57.375]",
    "INPUT.FORMAT=RGB",
]
THIRD_STAGE = "[0.03333333,0.03333333,0.06666667,0.06666667]"
NO_WEIGHTS = "model.backbone.init_cfg=None"
# mmdet's config, its options, detectron2's config, its options
PAIRS = {
    "mask_rcnn": (
        "mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco.py",
        ["model.test_cfg.rcnn.score_thr=0.0"],
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
        [*CAFFE, "MODEL.ROI_HEADS.SCORE_THRESH_TEST=0.0"],
    ),
    "retinanet": (
        "retinanet/retinanet_r50-caffe_fpn_1x_coco.py",
        ["model.neck.relu_before_extra_convs=True", "model.test_cfg.score_thr=0.0"],
        "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
        ["MODEL.RETINANET.SCORE_THRESH_TEST=0.0"],
    ),
    "cascade": (
        "cascade_rcnn/cascade-mask-rcnn_r50-caffe_fpn_1x_coco.py",
        # mmdet rounds the third stage's: 0.033 and 0.067
        ["model.test_cfg.rcnn.score_thr=0.0", f"model.roi_head.bbox_head.2.bbox_coder.target_stds={THIRD_STAGE}"],
        "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
        [*CAFFE, "MODEL.ROI_HEADS.SCORE_THRESH_TEST=0.0"],
    ),
    "panoptic": (
        "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py",
        [],
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
        PYTORCH,
    ),
}


_built: dict[str, tuple[Any, Any]] = {}


def pair(name: str) -> tuple[Any, Any]:
    """Build both toolboxes' detectors once, with weights whose spread makes outputs distinguishable."""
    if name not in _built:
        from fpn_plugins.adapters.hosts import build_detector

        mmdet, mmdet_options, detectron2, detectron2_options = PAIRS[name]
        _built[name] = (
            draw(build_detector(f"mmdet::{mmdet}", [NO_WEIGHTS, *mmdet_options])),
            draw(build_detector(f"detectron2::{detectron2}", detectron2_options)),
        )
    return _built[name]


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)


def predictors(models: tuple[Any, Any]) -> tuple[Any, Any]:
    from fpn_plugins.adapters.detectron2.inference import Predictor as Detectron2Predictor
    from fpn_plugins.adapters.mmdet.inference import Predictor as MMDetPredictor

    return MMDetPredictor(models[0], 128, 160), Detectron2Predictor(models[1], 128, 160)


def set_equal_masks(model: Any) -> None:
    """Make the mask heads of mmdet's cascade equal; only then does detectron2's single head match them."""
    heads = model.roi_head.mask_head
    for head in heads[1:]:
        head.load_state_dict(heads[0].state_dict())


@pytest.mark.parametrize("direction", ["mmdet to detectron2", "detectron2 to mmdet"])
@pytest.mark.parametrize("name", ["mask_rcnn", "retinanet"])
def test_converted_detectors_find_the_same(name: str, direction: str) -> None:
    from fpn_plugins.analysis import agreement

    models = pair(name)
    both = predictors(models)
    first = direction.startswith("mmdet")
    source, target = models if first else models[::-1]
    spread_predictions(source, lambda: both[0 if first else 1](image()))
    weights, report = convert(source.state_dict(), target.state_dict())
    assert report.source == direction.split()[0] and set(weights) == set(target.state_dict())
    target.load_state_dict(weights)
    one, other = (detect(image()) for detect in both)
    assert len(one.scores) > 10
    found = agreement([(0, one, other)], box_tolerance=0.01, score_tolerance=1e-4)
    assert found.share >= 0.99, found
    if name != "retinanet":
        order = [int((one.boxes - box).abs().amax(1).argmin()) for box in other.boxes]
        assert (one.masks[order] == other.masks).float().mean() > 0.999


@pytest.mark.parametrize("name", ["vitdet", "swin", "mvit"])
def test_backbones_of_ours_detect_the_same_in_both_toolboxes(
    name: str, tiny_coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo's Mask R-CNN on each Transformer, one set of weights."""
    from fpn_plugins.analysis import agreement

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    models = demo_in_mmdet(name), demo_in_detectron2(name)
    both = predictors(models)
    spread_predictions(models[0], lambda: both[0](image()))
    models[1].load_state_dict(convert(models[0].state_dict(), models[1].state_dict())[0])
    one, other = (detect(image()) for detect in both)
    assert len(one.scores) > 5
    assert agreement([(0, one, other)], box_tolerance=1e-3, score_tolerance=1e-4).share >= 0.99


SMALL: dict[str, dict[str, Any]] = {
    "swin": {"type": "Swin", "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4},
    "mvit": {
        "type": "MViT",
        "name": "mvitv2_tiny",
        "embed_dim": 16,
        "last_block_indices": [0, 2, 4, 6],
        "window_size": 16,
    },
}


def demo_in_mmdet(name: str) -> Any:
    """The demo's Mask R-CNN with a small Transformer, or the demo's of ViTDet."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    stem = "demo_mask_rcnn" if name in SMALL else "demo_mask_rcnn_vitdet"
    model = Config.fromfile(str(ROOT / f"configs/mmdet/{stem}.py")).model
    if name in SMALL:
        model.backbone.backbone = SMALL[name]
    return MODELS.build(model).eval()


def demo_in_detectron2(name: str) -> Any:
    from detectron2.config import LazyConfig, instantiate

    stem = "demo_mask_rcnn" if name in SMALL else "demo_mask_rcnn_vitdet"
    model = LazyConfig.load(str(ROOT / f"configs/detectron2/{stem}.py")).model
    if name in SMALL:
        model.backbone.bottom_up = SMALL[name]
    return instantiate(model).eval()


@pytest.mark.parametrize("direction", ["mmdet to detectron2", "detectron2 to mmdet"])
def test_every_stage_of_a_cascade_is_the_same(direction: str) -> None:
    """Compare stages only: mmdet averages their logits, Detectron2 their probabilities."""
    models = pair("cascade")
    set_equal_masks(models[0])
    source, target = models if direction.startswith("mmdet") else models[::-1]
    target.load_state_dict(convert(source.state_dict(), target.state_dict())[0])
    models = tuple(copy.deepcopy(model).double() for model in models)  # the pair is kept for other tests
    ours, theirs = models[0].roi_head, models[1].roi_heads
    sizes = (1, 3, 128, 160), (5, 256, 7, 7), (2, 256, 14, 14)
    x, boxes, masks = (torch.randn(size, dtype=torch.double) for size in sizes)
    with torch.no_grad():
        pyramid = models[0].extract_feat(x)
        for mine, other in zip(pyramid, models[1].backbone(x).values(), strict=True):
            assert torch.equal(mine, other)
        for stage in range(3):
            found = theirs.box_predictor[stage](theirs.box_head[stage](boxes))
            assert_same_maps(ours.bbox_head[stage](boxes), found)
            assert_same_maps(ours.mask_head[stage](masks), theirs.mask_head.layers(masks))


@pytest.mark.parametrize("direction", ["mmdet to detectron2", "detectron2 to mmdet"])
def test_panoptic_segmentation_is_the_same(direction: str) -> None:
    models = pair("panoptic")
    source, target = models if direction.startswith("mmdet") else models[::-1]
    target.load_state_dict(convert(source.state_dict(), target.state_dict())[0])
    models = tuple(copy.deepcopy(model).double() for model in models)  # the pair is kept for other tests
    x = torch.randn(1, 3, 128, 160, dtype=torch.double)
    with torch.no_grad():
        theirs = models[0].semantic_head(models[0].extract_feat(x))["seg_preds"]
        features = models[1].backbone(x)
        ours = models[1].sem_seg_head.layers(features)
    assert_same_maps(ours.roll(-1, 1), theirs)


# other norms and other backbones, stock and ours: config, config
MORE_PAIRS = {
    "group norm": ("mmdet::gn/mask-rcnn_r50_fpn_gn-all_2x_coco.py", "detectron2::Misc/mask_rcnn_R_50_FPN_3x_gn.yaml"),
    "Swin": ("mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py", "configs/detectron2/mask_rcnn_swin_t_fpn_12e.py"),
    "ViTDet": ("configs/mmdet/mask_rcnn_vitdet_b_100e.py", "detectron2::common/models/mask_rcnn_vitdet.py"),
}


@pytest.mark.parametrize("name", [*sorted(PAIRS), *MORE_PAIRS])
def test_round_trip_is_exact(name: str) -> None:
    if name in PAIRS:
        mmdet, detectron2 = pair(name)
    else:
        from fpn_plugins.adapters.hosts import build_detector

        mmdet, detectron2 = (build_detector(config) for config in MORE_PAIRS[name])
    if name == "cascade":
        set_equal_masks(mmdet)
    for source, target in ((mmdet, detectron2), (detectron2, mmdet)):
        start = source.state_dict()
        there, _ = convert(start, target.state_dict())
        back, _ = convert(there, start)
        for key, value in start.items():
            assert torch.equal(back[key], value) or key.endswith("num_batches_tracked"), key


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_paired_configs_have_the_same_facts(name: str) -> None:
    from fpn_plugins.adapters.hosts import host_of

    mmdet, detectron2 = pair(name)
    ours, theirs = (
        host_of(f"mmdet::{PAIRS[name][0]}").detector_facts(mmdet),
        host_of(f"detectron2::{PAIRS[name][2]}").detector_facts(detectron2),
    )
    assert ours.differences(theirs) == []


def test_facts_show_differences_that_no_key_shows() -> None:
    """Pixels and the strided convolution of a caffe-style ResNet, and the ReLU before P7."""
    from fpn_plugins.adapters.hosts import build_detector, host_of

    config = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
    ours = host_of(config).detector_facts(build_detector(config, [NO_WEIGHTS]))
    theirs = host_of(f"detectron2::{PAIRS['retinanet'][2]}").detector_facts(pair("retinanet")[1])
    different = {line.split(":")[0] for line in ours.differences(theirs)}
    assert different == {"channel_order", "pixel_mean", "pixel_std", "stride_in_1x1", "relu_before_p7"}


def renamed(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): value for key, value in state.items()}


def test_unassigned_keys_are_errors_that_name_them() -> None:
    mmdet, detectron2 = pair("mask_rcnn")
    state = mmdet.state_dict()
    with pytest.raises(ValueError, match=r"no rule for 2 keys: extra_head\.weight"):
        convert(
            {**state, "extra_head.weight": torch.zeros(1), "extra_head.bias": torch.zeros(1)}, detectron2.state_dict()
        )
    with pytest.raises(ValueError, match="another architecture.*parameters of the target got no value"):
        convert({k: v for k, v in state.items() if "mask_head" not in k}, detectron2.state_dict())
    with pytest.raises(ValueError, match="keys have no place in it"):
        convert(state, {k: v for k, v in detectron2.state_dict().items() if "fpn_lateral5" not in k})
    with pytest.raises(ValueError, match="no marks of either"):
        convert({"conv.weight": torch.zeros(1)}, detectron2.state_dict())


def test_another_number_of_classes_is_an_error_that_says_so() -> None:
    mmdet, detectron2 = pair("mask_rcnn")
    state = dict(mmdet.state_dict())
    state["roi_head.bbox_head.fc_cls.weight"] = state["roi_head.bbox_head.fc_cls.weight"][:11]
    with pytest.raises(ValueError, match="number of classes.*fc_cls.weight' is .11, 1024."):
        convert(state, detectron2.state_dict())


def test_different_mask_heads_of_a_cascade_need_a_choice() -> None:
    mmdet, detectron2 = pair("cascade")
    set_equal_masks(mmdet)
    state = dict(mmdet.state_dict())
    key = "roi_head.mask_head.2.convs.0.conv.weight"
    state[key] = state[key] + 1
    with pytest.raises(ValueError, match="mask_stage=2"):
        convert(state, detectron2.state_dict())
    weights, _ = convert(state, detectron2.state_dict(), mask_stage=2)
    assert torch.equal(weights["roi_heads.mask_head.mask_fcn1.weight"], state[key])


def test_ratios_that_do_not_divide_the_anchors_are_an_error() -> None:
    mmdet, detectron2 = pair("retinanet")
    with pytest.raises(ValueError, match="num_ratios=4 does not divide the 9 anchors"):
        convert(mmdet.state_dict(), detectron2.state_dict(), num_ratios=4)


def test_anchors_with_one_size_are_not_permuted() -> None:
    from fpn_plugins.weights.transforms import anchor_order

    assert anchor_order(6, num_ratios=6) is None and anchor_order(1, num_ratios=3) is None
    order = anchor_order(6, num_ratios=3)  # detectron2: size 0 of ratios 0, 1, 2, then size 1
    assert order is not None
    theirs = torch.tensor([0, 1, 2, 10, 11, 12])
    assert order.to_ours(theirs).tolist() == [0, 10, 1, 11, 2, 12]
    assert torch.equal(order.to_theirs(order.to_ours(theirs)), theirs)


def test_another_number_of_anchors_is_an_error_that_says_so() -> None:
    mmdet, detectron2 = pair("retinanet")
    state = dict(mmdet.state_dict())
    state["bbox_head.retina_reg.bias"] = torch.zeros(12)
    with pytest.raises(ValueError, match="3 anchors per cell, the target for 9"):
        convert(state, detectron2.state_dict())


def test_the_copies_of_a_mask_head_are_written_as_safetensors(tmp_path: Path) -> None:
    from fpn_plugins.weights import read_checkpoint, write_checkpoint

    mmdet, detectron2 = pair("cascade")
    weights, _ = convert(detectron2.state_dict(), mmdet.state_dict())
    back = read_checkpoint(write_checkpoint(weights, tmp_path / "cascade.safetensors"))
    assert back.keys() == weights.keys()
