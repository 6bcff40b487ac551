"""Images of one, four and six channels in the pipelines of both toolboxes, from the file to detections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

MEAN, STD = [10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 3.0, 4.0]
CHANNELS = (1, 4, 6)


def write_image(folder: Path, channels: int, size: tuple[int, int] = (20, 30)) -> Path:
    """Write a TIFF of 12 bits, whose values name their channel, with an edge to see flips and resizing."""
    import tifffile

    image = np.zeros((*size, channels), np.uint16)
    image[:, size[1] // 2 :] = 273 * np.arange(1, channels + 1)
    layout = {} if channels == 1 else {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(folder / f"{channels}.tif", image, **layout)
    return folder / f"{channels}.tif"


def mmdet_sample(file: Path, channels: int, *steps: dict[str, Any]) -> Any:
    from mmcv.transforms import Compose
    from mmdet.utils import register_all_modules

    register_all_modules()
    steps = ({"type": "fpn_plugins.LoadImage", "in_chans": channels, "max_value": 4095}, *steps)
    pack = {"type": "PackDetInputs", "meta_keys": ("ori_shape", "img_shape")}
    return Compose([*steps, pack])({"img_path": str(file), "img_id": 0, "height": 20, "width": 30})


@pytest.mark.mmdet
@pytest.mark.parametrize("channels", CHANNELS)
def test_mmdet_reads_flips_and_resizes(channels: int, tmp_path: Path):
    file = write_image(tmp_path, channels)
    resize = {"type": "Resize", "scale": (60, 40), "keep_ratio": True}
    flip = {"type": "RandomFlip", "prob": 1.0}
    sample = mmdet_sample(file, channels, resize, flip)
    pixels = sample["inputs"]
    assert pixels.shape == (channels, 40, 60) and sample["data_samples"].ori_shape == (20, 30)
    expected = 255 / 4095 * 273 * torch.arange(1, channels + 1)
    torch.testing.assert_close(pixels[:, 0, 0].float(), expected)
    assert not pixels[:, :, -1].any()


@pytest.mark.mmdet
@pytest.mark.parametrize(
    "step",
    [
        {"type": "RandomCrop", "crop_size": (10, 12)},
        {"type": "MinIoURandomCrop"},
        {"type": "RandomChoiceResize", "scales": [(30, 20)], "keep_ratio": True},
        {"type": "Pad", "size": (64, 64)},
        {"type": "RandomErasing", "n_patches": 1, "ratio": 0.2},
        {"type": "Rotate", "prob": 1.0},
        {"type": "RandomAffine"},
        {"type": "RandomShift", "prob": 1.0},
    ],
    ids=lambda step: step["type"],
)
def test_transforms_of_mmdet_that_are_not_refused_take_four_channels(step: dict[str, Any], tmp_path: Path):
    from mmdet.structures.bbox import HorizontalBoxes

    from fpn_plugins.adapters.mmdet.pixels import check_pipeline

    load = {"type": "fpn_plugins.LoadImage", "in_chans": 4}
    check_pipeline([load, step], "pipeline")
    boxes = HorizontalBoxes(torch.tensor([[2.0, 2.0, 18.0, 18.0]]))
    labels = {"gt_bboxes": boxes, "gt_bboxes_labels": np.array([0]), "gt_ignore_flags": np.array([False])}

    from mmcv.transforms import Compose
    from mmdet.utils import register_all_modules

    register_all_modules()
    given = {"img_path": str(write_image(tmp_path, 4)), "height": 20, "width": 30, **labels}
    done = Compose([load, step])(given)
    assert done["img"].shape[2] == 4 and done["img"].dtype == np.float32


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("channels", "step", "message"),
    [
        (4, {"type": "PhotoMetricDistortion"}, "transform 'PhotoMetricDistortion' takes three channels and.* gives 4"),
        (4, {"type": "RandomChoice", "transforms": [[{"type": "mmdet.YOLOXHSVRandomAug"}]]}, "'YOLOXHSVRandomAug'"),
        (1, {"type": "TranslateX"}, "'TranslateX' takes three channels"),
        (6, {"type": "Pad", "size_divisor": 32}, "'Pad' takes four channels at most and LoadImage gives 6"),
    ],
)
def test_transforms_of_colors_are_refused_by_name(channels: int, step: dict[str, Any], message: str):
    from fpn_plugins.adapters.mmdet.pixels import check_pipeline

    check_pipeline([{"type": "fpn_plugins.LoadImage", "in_chans": 3}, step], "train")
    with pytest.raises(ValueError, match=f"train: .*{message}.*flips, crops and resizing"):
        check_pipeline([{"type": "fpn_plugins.LoadImage", "in_chans": channels}, step], "train")


@pytest.mark.mmdet
def test_mmdet_normalizes_and_pads_any_number_of_channels():
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample

    kind = {"type": "fpn_plugins.DetDataPreprocessor", "mean": MEAN, "std": STD, "pad_size_divisor": 32}
    module = MODELS.build(kind)
    samples = [DetDataSample(metainfo={"img_shape": (20, 30)}) for _ in range(2)]
    images = [torch.arange(1.0, 5)[:, None, None].expand(4, 20, 30) * 10 for _ in range(2)]
    found = module({"inputs": images, "data_samples": samples})["inputs"]
    assert found.shape == (2, 4, 32, 32) and not found.any() and list(module.state_dict()) == []


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": MEAN, "std": STD[:3]}, "must be as many, one per channel"),
        ({"mean": MEAN, "std": [0, 1, 1, 1]}, "std above 0"),
        ({"mean": MEAN, "std": STD, "bgr_to_rgb": True}, "bgr_to_rgb=True reverses three channels, mean has 4"),
    ],
)
def test_wrong_statistics_are_refused(arguments: dict[str, Any], message: str):
    from fpn_plugins.adapters.mmdet import DetDataPreprocessor

    with pytest.raises(ValueError, match=message):
        DetDataPreprocessor(**arguments)


def detectron2_config(channels: int, **reader: Any) -> Any:
    from detectron2.config import get_cfg

    from fpn_plugins.adapters.detectron2 import add_fpn_plugins_config

    cfg = get_cfg()
    add_fpn_plugins_config(cfg)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0] * channels, [1.0] * channels
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = "RGB", (40,), 40
    keys = {"ENABLED": True, "MAX_VALUE": 4095.0, **reader}
    cfg.merge_from_list([word for key, value in keys.items() for word in (f"INPUT.FPN_PLUGINS.{key}", value)])
    return cfg


@pytest.mark.detectron2
@pytest.mark.parametrize("channels", CHANNELS)
def test_detectron2_reads_flips_and_resizes(channels: int, tmp_path: Path):
    from fpn_plugins.adapters.detectron2 import PixelMapper

    box = {"bbox": [0, 0, 15, 20], "bbox_mode": 1, "category_id": 0}
    entry = {"file_name": str(write_image(tmp_path, channels)), "height": 20, "width": 30, "annotations": [box]}
    found = PixelMapper(detectron2_config(channels), True)(entry)
    assert found["image"].shape == (channels, 40, 60) and found["image"].dtype == torch.float32
    expected = 255 / 4095 * 273 * torch.arange(1, channels + 1)
    flipped = bool(found["image"][0, 0, 0])
    torch.testing.assert_close(found["image"][:, 0, 0 if flipped else -1], expected)
    assert found["instances"].gt_boxes.tensor[0, 0] == (30 if flipped else 0) and "annotations" in entry
    assert "instances" not in PixelMapper(detectron2_config(channels), False)(entry)


@pytest.mark.detectron2
def test_detectron2_chooses_bands(tmp_path: Path):
    from fpn_plugins.adapters.detectron2 import PixelMapper

    entry = {"file_name": str(write_image(tmp_path, 6)), "height": 20, "width": 30}
    found = PixelMapper(detectron2_config(2, BANDS=[5, 0]), False)(entry)["image"]
    torch.testing.assert_close(found[:, 0, -1], 255 / 4095 * 273 * torch.tensor([6.0, 1.0]))


@pytest.mark.detectron2
def test_augmentations_of_colors_are_refused_by_name(tmp_path: Path):
    from detectron2.data import transforms as T

    from fpn_plugins.adapters.detectron2 import PixelMapper

    entry = {"file_name": str(write_image(tmp_path, 4)), "height": 20, "width": 30}
    mapper = PixelMapper(is_train=True, augmentations=[T.RandomSaturation(0.5, 1.5)], in_chans=4)
    with pytest.raises(ValueError, match="RandomSaturation.* does not take images of 4 channels .*flips, crops"):
        mapper(entry)
    with pytest.raises(ValueError, match="image_format='BGR' must be 'RGB'"):
        PixelMapper(is_train=True, augmentations=[], image_format="BGR")


@pytest.mark.detectron2
def test_lazy_config_names_its_reader(tmp_path: Path):
    from detectron2.config import LazyCall, instantiate

    from fpn_plugins.adapters.detectron2 import PixelMapper
    from fpn_plugins.adapters.detectron2.pixels import lazy_reader
    from fpn_plugins.data import PixelReader

    mapper = LazyCall(PixelMapper)(is_train=False, augmentations=[], in_chans=2, max_value=4095, bands=[3, 1])
    assert lazy_reader(mapper) == instantiate(mapper).reader == PixelReader(2, 4095, (3, 1))
    assert lazy_reader({"_target_": "detectron2.data.DatasetMapper"}) is None


# ------------------------------------------------------------------------------------------------------ whole detectors

RETINANET = """
_base_ = ["mmdet::_base_/models/retinanet_r50_fpn.py"]
model = dict(
    data_preprocessor=dict(
        type="fpn_plugins.DetDataPreprocessor", mean={mean}, std={std}, bgr_to_rgb=False, pad_size_divisor=32),
    backbone=dict(_delete_=True, type="fpn_plugins.PyramidBackbone",
        backbone=dict(type="TimmBackbone", name="resnet10t", out_indices=(2, 3, 4), in_chans=4),
        neck=dict(type="FPN", out_channels=16, num_outs=5, add_extra_convs="on_output")),
    neck=None,
    bbox_head=dict(num_classes=2, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0),
)
test_pipeline = [
    dict(type="fpn_plugins.LoadImage", in_chans=4, max_value=4095),
    dict(type="Resize", scale=(288, 192), keep_ratio=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "ori_shape", "img_shape", "scale_factor")),
]
test_dataloader = dict(dataset=dict(
    type="CocoDataset", metainfo=dict(classes=("a", "b")), ann_file="", pipeline=test_pipeline))
"""
YAML = """
MODEL:
  META_ARCHITECTURE: RetinaNet
  PIXEL_MEAN: {mean}
  PIXEL_STD: {std}
  BACKBONE: {{NAME: build_fpn_plugins_backbone}}
  FPN_PLUGINS:
    BACKBONE: {{TYPE: TimmBackbone, ARGS: {{name: resnet10t, out_indices: [2, 3, 4]}}}}
    NECK: {{TYPE: FPN, ARGS: {{out_channels: 16, extra_levels: {{num_levels: 2, op: conv, source: output}}}}}}
  RETINANET: {{NUM_CLASSES: 2, IN_FEATURES: [p3, p4, p5, p6, p7], NUM_CONVS: 1, SCORE_THRESH_TEST: 0.0}}
INPUT: {{FORMAT: RGB, MIN_SIZE_TEST: 192, MAX_SIZE_TEST: 288, FPN_PLUGINS: {{ENABLED: true, MAX_VALUE: 4095.0}}}}
"""
HOSTS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mmdet", "detectron2")]


@pytest.fixture
def detector(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Path]:
    """Return a toolbox, and config and weights of an untrained RetinaNet in it, for images of four channels."""
    from fpn_plugins.adapters.hosts import host_of

    toolbox = request.param
    config = tmp_path / ("four.py" if toolbox == "mmdet" else "four.yaml")
    config.write_text((RETINANET if toolbox == "mmdet" else YAML).format(mean=MEAN, std=STD))
    torch.manual_seed(0)
    model = host_of(str(config)).build(str(config))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    return toolbox, config, tmp_path / "weights.pth"


@pytest.mark.timm
@pytest.mark.parametrize("detector", HOSTS, indirect=True)
def test_predict_gives_what_the_toolboxes_pipeline_gives(detector: tuple[str, Path, Path], tmp_path: Path):
    """Also after an export to a file that names its reader, and with a picture of the first three channels."""
    from fpn_plugins.commands import export, predict

    toolbox, config, weights = detector
    file = write_image(tmp_path, 4)
    predict.main([str(config), str(weights), str(file), "--out", str(tmp_path / "out"), "--score", "0"])
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    assert found and list((tmp_path / "out").glob("*_4.png"))
    expected = own_scores(toolbox, config, weights, file)
    torch.testing.assert_close(
        torch.tensor([entry["score"] for entry in found]), expected[: len(found)], atol=1e-5, rtol=0
    )

    if toolbox != "mmdet":  # one is enough: an export takes long
        return
    program = tmp_path / "four.pt2"
    export.main([str(config), str(weights), str(program)])
    predict.main([str(program), str(file), "--out", str(tmp_path / "engine"), "--score", "0"])
    again = json.loads((tmp_path / "engine/predictions.json").read_text())
    torch.testing.assert_close(
        torch.tensor([entry["score"] for entry in again]), expected[: len(again)], atol=1e-5, rtol=0
    )


def own_scores(toolbox: str, config: Path, weights: Path, file: Path) -> torch.Tensor:
    """Return the scores by the toolbox's own pipeline, falling."""
    from fpn_plugins.adapters.hosts import host_of

    host = host_of(str(config))
    model: Any = host.load(str(config), str(weights))
    if toolbox == "mmdet":
        from mmcv.transforms import Compose

        sample = Compose(model.cfg.test_pipeline)({"img_path": str(file), "img_id": 0})
        batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        with torch.no_grad():
            return model.test_step(batch)[0].pred_instances.scores
    from fpn_plugins.adapters.detectron2 import PixelMapper
    from fpn_plugins.adapters.detectron2.reading import read_yaml

    sample = PixelMapper(read_yaml(str(config)), False)({"file_name": str(file), "height": 20, "width": 30})
    with torch.no_grad():
        return model([sample])[0]["instances"].scores
