"""Images are resized and padded as the toolboxes' own test pipelines do it, read from every kind of config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pair import PIPELINE, write_pair

from fpn_plugins.adapters.hosts import HOSTS, host_of
from fpn_plugins.inference import Padding, ResizeRule

ROOT = Path(__file__).resolve().parents[2]
STEPS = {
    "keep": [dict(type="mmdet.Resize", scale=(133, 80), keep_ratio=True)],
    "pillow": [dict(type="mmdet.Resize", scale=(133, 80), keep_ratio=True, backend="pillow")],
    "stretch": [dict(type="mmdet.Resize", scale=(70, 50), keep_ratio=False)],
    "enlarge": [dict(type="mmdet.Resize", scale=(400, 300), keep_ratio=True)],
    "shortest": [dict(type="mmdet.ResizeShortestEdge", scale=64, max_size=90)],
    "square": [
        dict(type="mmdet.Resize", scale=(96, 96), keep_ratio=True),
        dict(type="mmdet.Pad", pad_to_square=True, pad_val=dict(img=(114.0, 113.0, 112.0))),
    ],
    "divisor": [dict(type="mmdet.Resize", scale=(96, 96), keep_ratio=True), dict(type="mmdet.Pad", size_divisor=32)],
    "fixed": [dict(type="mmdet.Resize", scale=(96, 96), keep_ratio=True), dict(type="mmdet.Pad", size=(128, 112))],
}
SHAPES = ((120, 200), (201, 99), (80, 80))


def photograph(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.mmdet
@pytest.mark.parametrize("name", STEPS)
def test_mmdet_pipelines_give_the_same_pixels(name: str) -> None:
    from mmcv.transforms import Compose
    from mmengine.config import ConfigDict

    from fpn_plugins.adapters.mmdet.detector import register_all_modules
    from fpn_plugins.adapters.mmdet.input_settings import settings_of

    register_all_modules()
    pack = dict(type="mmdet.PackDetInputs", meta_keys=("ori_shape", "img_shape", "scale_factor"))
    steps = [dict(type="mmdet.LoadImageFromNDArray"), *STEPS[name], pack]
    settings = settings_of(ConfigDict(test_dataloader=dict(dataset=dict(pipeline=steps))))
    for shape in SHAPES:
        image = photograph(*shape)
        expected = Compose([dict(step) for step in steps])({"img": image[..., ::-1].copy()})
        assert settings.rule is not None and settings.obstacle == ""
        resized = settings.rule.resize(image)
        assert torch.equal(torch.from_numpy(resized[..., ::-1].copy()).permute(2, 0, 1), expected["inputs"])
        height, width = settings.rule.size_of(*shape)
        factors = expected["data_samples"].scale_factor
        assert np.allclose(factors, (width / shape[1], height / shape[0]))


@pytest.mark.detectron2
@pytest.mark.parametrize(("short", "limit"), [(80, 133), (300, 400), (0, 100), (90, 64)])
def test_detectron2_configs_give_the_same_pixels(short: int, limit: int) -> None:
    from detectron2.config import get_cfg
    from detectron2.data.transforms import ResizeShortestEdge

    from fpn_plugins.adapters.detectron2.input_settings import yaml_settings

    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = short, limit
    rule = yaml_settings(cfg).rule
    assert rule is not None
    for shape in SHAPES:
        image = photograph(*shape)
        expected = ResizeShortestEdge([short, short], limit).get_transform(image).apply_image(image)
        assert (rule.resize(image) == expected).all()


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.timm
def test_configs_of_every_kind(tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    demo, padded = ResizeRule(240, 320), Padding(square=True, value=(114.0, 114.0, 114.0))
    expected = {
        "fpn_plugins::mmdet/demo_mask_rcnn": demo.with_library("opencv"),
        "fpn_plugins::detectron2/demo_mask_rcnn": demo,
        "fpn_plugins::detectron2/demo_retinanet": demo,
        "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py": ResizeRule(800, 1333, library="opencv"),
        "mmdet::yolox/yolox_s_8xb8-300e_coco.py": ResizeRule(640, 640, library="opencv", padding=padded),
        "mmdet::ssd/ssd300_coco.py": ResizeRule(None, exact=(300, 300), library="opencv"),
        "detectron2::COCO-Detection/retinanet_R_50_FPN_1x.yaml": ResizeRule(800, 1333),
        "fpn_plugins::mmdet/mask_rcnn_vitdet_b_100e": ResizeRule(1024, 1024, library="opencv"),
        "fpn_plugins::detectron2/mask_rcnn_vitdet_b_100e": ResizeRule(1024, 1024),
    }
    for config, rule in expected.items():
        settings = host_of(config).input_settings(config)
        assert settings.rule == rule and settings.obstacle == "", config
        demo_set = "demo" in config
        assert len(settings.classes) == len(settings.category_ids or settings.classes) == (4 if demo_set else 80), (
            config
        )


@pytest.mark.detectron2
def test_other_interpolations_of_detectron2_are_not_followed() -> None:
    from detectron2.config import LazyCall
    from detectron2.data.transforms import Resize, ResizeShortestEdge
    from omegaconf import OmegaConf
    from PIL import Image

    from fpn_plugins.adapters.detectron2.input_settings import lazy_settings

    for kind, options in (
        (ResizeShortestEdge, {"short_edge_length": 80, "max_size": 133}),
        (Resize, {"shape": [64, 96]}),
    ):
        for interp in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
            step = LazyCall(kind)(**options, interp=int(interp))
            settings = lazy_settings(OmegaConf.create({"dataloader": {"test": {"mapper": {"augmentations": [step]}}}}))
            assert ("interp=3" in settings.obstacle) == (settings.rule is None) == (interp == Image.Resampling.BICUBIC)


@pytest.mark.mmdet
@pytest.mark.parametrize(
    "step",
    [
        dict(type="mmdet.RandomFlip"),
        dict(type="mmdet.Resize", scale_factor=0.5, keep_ratio=True),
        dict(type="mmdet.Resize", scale=(96, 64), interpolation="bicubic"),
        dict(type="mmdet.ResizeShortestEdge", scale=80, max_size=133, interpolation="area"),
    ],
)
def test_a_step_that_is_not_followed_is_named(step: dict[str, Any]) -> None:
    from mmengine.config import ConfigDict

    from fpn_plugins.adapters.mmdet.input_settings import settings_of

    settings = settings_of(ConfigDict(test_dataloader=dict(dataset=dict(pipeline=[step]))))
    assert settings.rule is None
    assert any(words in settings.obstacle for words in ("RandomFlip", "by a factor", "'bicubic'", "'area'"))


@pytest.mark.mmdet
@pytest.mark.detectron2
def test_images_that_are_not_read_as_colors_are_an_error() -> None:
    from types import SimpleNamespace

    from mmengine.config import ConfigDict

    from fpn_plugins.adapters.detectron2.compatibility import channel_order
    from fpn_plugins.adapters.mmdet.input_settings import settings_of

    for kind, matches in (("color", True), ("grayscale", False)):
        pipeline = [dict(type="LoadImageFromFile", color_type=kind), dict(type="Resize", scale=(96, 64))]
        cfg = ConfigDict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))
        if matches:
            assert settings_of(cfg).rule is not None
            continue
        with pytest.raises(ValueError, match="color_type='grayscale'.*fpn_plugins.LoadImage"):
            settings_of(cfg)
    assert channel_order(SimpleNamespace(input_format=None)) == "BGR"
    with pytest.raises(ValueError, match="input_format='YUV-BT.601'"):
        channel_order(SimpleNamespace(input_format="YUV-BT.601"))


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.parametrize("toolbox", HOSTS)
def test_detections_equal_the_toolbox_s_own_inference(toolbox: str, tmp_path: Path) -> None:
    from fpn_plugins.adapters.detectors import load_detector

    config, weights = write_pair(tmp_path, toolbox)
    detector, image = load_detector(config, weights), photograph(130, 230)
    found = detector(image)
    if toolbox == "mmdet":
        from mmcv.transforms import Compose

        scope: dict[str, Any] = {"model": {"bbox_head": {}}}
        exec(PIPELINE, scope)
        steps = [dict(type="mmdet.LoadImageFromNDArray"), *scope["test_dataloader"]["dataset"]["pipeline"][1:]]
        steps = [step for step in steps if "Annotations" not in step["type"]]
        data = Compose(steps)({"img": image[..., ::-1].copy(), "img_id": 0})
        (sample,) = detector.model.test_step({k: [v] for k, v in data.items()})
        boxes, scores, labels = (sample.pred_instances[key] for key in ("bboxes", "scores", "labels"))
    else:
        from detectron2.data.transforms import ResizeShortestEdge

        pixels = ResizeShortestEdge([96, 96], 160).get_transform(image).apply_image(image[..., ::-1])
        tensor = torch.as_tensor(pixels.astype("float32").transpose(2, 0, 1))
        with torch.no_grad():
            (output,) = detector.model([{"image": tensor, "height": 130, "width": 230}])
        instances = output["instances"]
        boxes, scores, labels = instances.pred_boxes.tensor, instances.scores, instances.pred_classes
    assert len(scores) > 5 and torch.equal(found.labels, labels)
    assert torch.allclose(found.boxes, boxes) and torch.allclose(found.scores, scores)


def test_size_option_keeps_a_padding_that_has_no_size() -> None:
    square, fixed = Padding(square=True), Padding(size=(64, 64))
    assert ResizeRule(None, exact=(9, 9), padding=square).resized_to(5, 8) == ResizeRule(5, 8, padding=square)
    assert ResizeRule(padding=fixed).resized_to(5, 8) == ResizeRule(5, 8)
    with pytest.raises(ValueError, match="pads to 64 x 64 pixels, the resized image has 80 x 133"):
        ResizeRule(80, 133, padding=fixed).resize(photograph(120, 200))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(dict(short=9, long=5), "short=9, long=5"), (dict(library="jax"), "library='jax'"), (dict(exact=(0, 5)), "exact")],
)
def test_wrong_rules(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResizeRule(**arguments)
