"""Test-time augmentation: equal to each toolbox's own where it has one, and equal in both toolboxes, masks included."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_stand_in import StandIn, description
from mmengine.structures import InstanceData

from fpn_plugins.adapters.hosts import build_detector, host_of
from fpn_plugins.analysis import agreement, spread_predictions
from fpn_plugins.conversion import convert
from fpn_plugins.inference import AugmentedPredictor, Detections, MergeRule, ResizeRule, View, merge_views
from fpn_plugins.inference.engines import EnginePredictor, Session
from fpn_plugins.inference.views import flip_boxes

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {name: str(ROOT / f"configs/{name}/demo_mask_rcnn.py") for name in ("mmdet", "detectron2")}
SIZE = (96, 128)
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm, pytest.mark.torchvision]


def photograph(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """Smooth random values, which resizing changes little."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return ResizeRule(None, exact=(height, width), library="pillow").resize(coarse)


@pytest.fixture(scope="module")
def demo_pair(tiny_coco: Path) -> Any:
    """Mask R-CNN with the same random weights in both toolboxes, by toolbox."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
        torch.manual_seed(0)
        models: dict[str, Any] = {name: build_detector(config).eval() for name, config in CONFIGS.items()}
    predictor = host_of(CONFIGS["mmdet"]).Predictor(models["mmdet"], *SIZE)
    spread_predictions(models["mmdet"], lambda: predictor(photograph()))
    models["detectron2"].load_state_dict(convert(models["mmdet"].state_dict(), models["detectron2"].state_dict())[0])
    return models


def same(one: Detections, other: Detections, pixels: float = 1e-2) -> None:
    """Objects of the same classes, boxes, scores and, but for single pixels at their edges, masks."""
    assert len(one.scores) == len(other.scores) > 5
    assert one.labels.equal(other.labels)
    assert torch.allclose(one.boxes, other.boxes, atol=pixels)
    assert torch.allclose(one.scores, other.scores, atol=1e-5)
    assert (one.masks is None) == (other.masks is None)
    if one.masks is not None and other.masks is not None:
        assert one.masks.any() and (one.masks != other.masks).float().mean() < 1e-4


def tiny_rcnn(extra: tuple[Any, ...] = ()) -> Any:
    """Config of a small Mask R-CNN of Detectron2."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"))
    small = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 16)
    heads = ("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "MODEL.ROI_MASK_HEAD.NUM_CONV", 1)
    sizes = ("TEST.AUG.MIN_SIZES", (80, 120), "TEST.AUG.MAX_SIZE", 200, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    cfg.merge_from_list([*small, *heads, *sizes, "MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", 4, *extra])
    return cfg


@pytest.mark.parametrize("kind", ["mask", "boxes", "cascade"])
def test_matches_detectron2(kind: str):
    from detectron2.modeling import GeneralizedRCNNWithTTA, build_model

    from fpn_plugins.adapters.detectron2 import DetectorWithTTA
    from fpn_plugins.adapters.detectron2.views import detections_of

    cascade = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)
    cfg = tiny_rcnn({"mask": (), "boxes": ("MODEL.MASK_ON", False), "cascade": cascade}[kind])
    model: Any = build_model(cfg).eval()
    image = torch.from_numpy(photograph().transpose(2, 0, 1).copy())
    sample = {"image": image, "height": SIZE[0], "width": SIZE[1]}
    with torch.no_grad():
        spread_predictions(model, lambda: model([sample]))
        wanted = GeneralizedRCNNWithTTA(cfg, model, batch_size=1)([sample])[0]["instances"]
        aug = cfg.TEST.AUG
        found = DetectorWithTTA(model, aug.MIN_SIZES, aug.MAX_SIZE, aug.FLIP)([sample])[0]["instances"]
    assert found.image_size == SIZE
    same(detections_of(found), detections_of(wanted))
    assert found.has("pred_masks") is (kind != "boxes") and model.roi_heads.mask_on is (kind != "boxes")


def views_of_mmdet(image: np.ndarray) -> dict[str, Any]:
    """Two sizes, flipped and not, as mmdet's own pipeline makes them."""
    from mmdet.registry import TRANSFORMS
    from mmengine.dataset import pseudo_collate

    keys = ("ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
    views = dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="mmdet.Resize", scale=scale, keep_ratio=True) for scale in ((200, 80), (200, 120))],
            [dict(type="mmdet.RandomFlip", prob=prob) for prob in (1.0, 0.0)],
            [dict(type="mmdet.PackDetInputs", meta_keys=keys)],
        ],
    )
    bgr = image[..., ::-1].copy()
    found = TRANSFORMS.build(views)({"img": bgr, "img_shape": bgr.shape[:2], "ori_shape": bgr.shape[:2]})
    return pseudo_collate([found])


@pytest.fixture(scope="module")
def mmdet_views() -> dict[str, Any]:
    return views_of_mmdet(photograph())


def instances(sample: Any) -> Detections:
    found = sample.pred_instances
    return Detections(found.bboxes, found.scores, found.labels, found.get("masks"))


def test_matches_the_boxes_of_mmdet(demo_pair: Any, mmdet_views: Any):
    from mmdet.models import DetTTAModel
    from mmengine.config import ConfigDict

    from fpn_plugins.adapters.mmdet import MaskTTAModel

    model = copy.deepcopy(demo_pair["mmdet"])
    cfg = ConfigDict(nms=dict(type="nms", iou_threshold=0.4), max_per_img=30)
    with torch.no_grad():
        found = instances(MaskTTAModel(model, cfg).test_step(copy.deepcopy(mmdet_views))[0])
        model.roi_head.mask_head = None  # with masks, mmdet's own refuses
        wanted = instances(DetTTAModel(module=model, tta_cfg=cfg).test_step(copy.deepcopy(mmdet_views))[0])
    assert len(found.scores) == 30 and found.masks is not None and found.masks.shape == (30, *SIZE)
    same(found._replace(masks=None), wanted)


def test_both_toolboxes_find_the_same(demo_pair: Any):
    found = []
    for name, config in CONFIGS.items():
        predict = host_of(config).Predictor(demo_pair[name], *SIZE, rule=ResizeRule(*SIZE, library="pillow"))
        found.append(AugmentedPredictor(predict, (80, 120))(photograph()))
    one, other = found
    assert one.masks is not None and other.masks is not None
    assert agreement([(0, one, other)]).share > 0.95
    same(*(each.above(0.2) for each in found))


def test_the_predictor_is_the_model_of_the_toolbox(demo_pair: Any, mmdet_views: Any):
    from fpn_plugins.adapters.detectron2 import DetectorWithTTA
    from fpn_plugins.adapters.detectron2.views import detections_of
    from fpn_plugins.adapters.mmdet import MaskTTAModel

    rule = ResizeRule(96, 200, library="opencv")
    predict = host_of(CONFIGS["mmdet"]).Predictor(demo_pair["mmdet"], rule=rule)
    with torch.no_grad():
        wanted = instances(MaskTTAModel(demo_pair["mmdet"]).test_step(copy.deepcopy(mmdet_views))[0])
    same(AugmentedPredictor(predict, (80, 120))(photograph()), wanted)
    other = host_of(CONFIGS["detectron2"]).Predictor(demo_pair["detectron2"], 96, 128)
    image = torch.from_numpy(photograph().transpose(2, 0, 1).copy())
    with torch.no_grad():
        theirs = DetectorWithTTA(demo_pair["detectron2"], (80, 120), 160)([{"image": image}])[0]["instances"]
    same(AugmentedPredictor(other, (80, 120))(photograph()), detections_of(theirs))


@pytest.mark.parametrize("kind", ["mask", "cascade"])
def test_one_view_is_the_detector_itself(kind: str, demo_pair: Any):
    """Of mmdet's Mask R-CNN, and of its cascade, whose stages are averaged."""
    model = demo_pair["mmdet"]
    if kind == "cascade":
        small = ("model.backbone.depth=18", "model.neck.in_channels=[64,128,256,512]", "model.neck.out_channels=16")
        channels = ("rpn_head.in_channels", "roi_head.bbox_roi_extractor.out_channels")
        channels += (
            "roi_head.mask_roi_extractor.out_channels",
            "roi_head.mask_head.in_channels",
            "rpn_head.feat_channels",
        )
        heads = (f"roi_head.bbox_head.{stage}.in_channels" for stage in range(3))
        narrow = [f"model.{name}=16" for name in (*channels, *heads)]
        config = "mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco"
        model = build_detector(
            config, [*small, *narrow, "model.test_cfg.rpn.max_per_img=50", "model.roi_head.mask_head.num_convs=1"]
        )
    predict = host_of(CONFIGS["mmdet"]).Predictor(model, *SIZE)
    if kind == "cascade":
        spread_predictions(model, lambda: predict(photograph()))
    same(AugmentedPredictor(predict, flip=False)(photograph()), predict(photograph()))


@pytest.mark.parametrize("inside", [False, True])
def test_an_exported_detector_keeps_the_masks_of_its_boxes(inside: bool):
    model = StandIn().eval()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in model(torch.from_numpy(images)).items()}

    engine = EnginePredictor(Session(description(inside=inside), run, "torch"))
    found = AugmentedPredictor(engine)(photograph())
    assert found.masks is not None and found.masks.shape == (len(found.scores), *SIZE) and len(found.scores) > 5
    alone = AugmentedPredictor(engine, flip=False)(photograph())
    assert len(alone.scores) > 5 and set(alone.scores.tolist()) <= set(engine(photograph()).scores.tolist())
    if inside:
        with pytest.raises(ValueError, match="resizes images itself; leave out the sizes"):
            AugmentedPredictor(engine, (50,))(photograph())
    else:
        assert len(AugmentedPredictor(engine, (64, 96))(photograph()).scores) > 5


class Fixed(View):
    """View with given detections."""

    def __init__(self, found: Detections, flip: str | None = None) -> None:
        super().__init__(flip)
        self.found = found

    def detect(self) -> Detections:
        return self.found


@pytest.mark.parametrize("flip", ["horizontal", "vertical", "diagonal"])
def test_a_detector_without_such_a_head_keeps_the_masks_of_its_boxes(flip: str):
    boxes = torch.tensor([[2.0, 1.0, 5.0, 3.0], [0.0, 5.0, 3.0, 8.0]])
    masks = torch.zeros(2, 8, 10, dtype=torch.bool)
    masks[0, 1:3, 2:5] = masks[1, 5:8, :3] = True
    straight = Fixed(Detections(boxes, torch.tensor([0.5, 0.9]), torch.tensor([0, 1]), masks))
    dims = {"horizontal": (-1,), "vertical": (-2,), "diagonal": (-2, -1)}[flip]
    turned = Fixed(
        Detections(flip_boxes(boxes, flip, (8, 10)), torch.tensor([0.8, 0.4]), torch.tensor([0, 1]), masks.flip(dims)),
        flip,
    )
    found = merge_views([straight, turned], (8, 10), MergeRule())
    assert found.scores.tolist() == pytest.approx([0.9, 0.8]) and found.labels.tolist() == [1, 0]
    assert found.boxes.equal(boxes.flip(0)) and found.masks is not None and found.masks.equal(masks.flip(0))
    assert len(merge_views([straight, turned], (8, 10), MergeRule(limit=1)).scores) == 1


def test_padding_follows_the_flip():
    """mmdet's padded images: the object of a flipped view is where it is."""
    from fpn_plugins.inference import Padding

    seen = []

    class Model(torch.nn.Module):
        test_cfg = None

        def test_step(self, data: Any) -> Any:
            seen.append(data["inputs"][0])
            sample = data["data_samples"][0]
            empty = torch.zeros(0)
            sample.pred_instances = InstanceData(bboxes=torch.zeros(0, 4), scores=empty, labels=empty.long())
            return [sample]

    rule = ResizeRule(96, 128, library="opencv", padding=Padding(divisor=100))
    predict = host_of(CONFIGS["mmdet"]).Predictor(Model(), rule=rule)
    assert len(AugmentedPredictor(predict)(photograph()).scores) == 0
    straight, turned = seen
    assert straight.shape == turned.shape == (3, 100, 200)
    assert turned[:, :96, :128].equal(straight[:, :96, :128].flip(-1)) and not turned[:, 96:].any()


def test_wrong_arguments_are_named(demo_pair: Any):
    from fpn_plugins.adapters.detectron2 import DetectorWithTTA
    from fpn_plugins.adapters.mmdet import MaskTTAModel

    predict = host_of(CONFIGS["mmdet"]).Predictor(demo_pair["mmdet"], *SIZE)
    with pytest.raises(ValueError, match="sizes=0 must be"):
        AugmentedPredictor(predict, (0,))
    with pytest.raises(ValueError, match="min_sizes="):
        DetectorWithTTA(demo_pair["detectron2"], (0,))
    with pytest.raises(ValueError, match="type='soft_nms' must be 'nms'"):
        MaskTTAModel(demo_pair["mmdet"], dict(nms=dict(type="soft_nms")))
    with pytest.raises(ValueError, match="max_per_img"):
        MaskTTAModel(demo_pair["mmdet"], dict(max_per_img=0))
    with pytest.raises(ValueError, match="flip='up'"):
        View("up")
    with pytest.raises(ValueError, match="views is empty"):
        merge_views([], SIZE, MergeRule())
