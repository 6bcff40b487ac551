"""Augmentation that comes again: the same variants of an image in both toolboxes, and other randomness untouched."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fpn_plugins.data import RepeatedRandomness


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_variants_depend_on_the_image_and_the_seed() -> None:
    def variants(image: object, number: int = 3, seed: int = 0) -> set[tuple[float, float, float]]:
        randomness, found = RepeatedRandomness(number, seed), set()
        for _ in range(40):
            with randomness.of(image):
                found.add(draw())
        return found

    random.seed(0)
    first = variants(7)
    assert len(first) == 3 and first == variants(7)
    assert not first & variants(8) and not first & variants(7, seed=1)
    assert variants("a.jpg", 1) == variants("a.jpg", 1) and len(variants("a.jpg", 1)) == 1


def test_randomness_outside_is_as_without() -> None:
    def outside() -> list[Any]:
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        return [random.randrange(2), *draw()]

    before = outside()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with pytest.raises(KeyError), RepeatedRandomness(2).of(1) as variant:
        draw()
        raise KeyError
    assert [variant, *draw()] == before


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_wrong_numbers_are_named(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="variants="):
        RepeatedRandomness(value)
    with pytest.raises((TypeError, ValueError), match="seed="):
        RepeatedRandomness(1, -1 if value == 0 else value)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.mark.mmdet
def test_mmdet_repeats_its_pipeline(picture: str) -> None:
    from mmdet.registry import TRANSFORMS
    from mmdet.utils import register_all_modules

    register_all_modules()
    inner = [
        {"type": "LoadImageFromFile"},
        {"type": "RandomResize", "scale": (60, 80), "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "mmdet.RandomCrop", "crop_size": (20, 20)},
        {"type": "mmdet.PhotoMetricDistortion"},
    ]
    once = TRANSFORMS.build({"type": "fpn_plugins.RepeatedAugmentation", "variants": 2, "transforms": inner})
    seen = {}
    for number in (1, 2):
        sample = {"img_path": picture, "img_id": number}
        seen[number] = {once(dict(sample))["img"].tobytes() for _ in range(20)}
    assert len(seen[1]) == len(seen[2]) == 2 and not seen[1] & seen[2]
    assert once({"img_path": picture})["img"].shape == (20, 20, 3)
    with pytest.raises(TypeError, match="transforms='RandomFlip' must be a sequence"):
        TRANSFORMS.build({"type": "fpn_plugins.RepeatedAugmentation", "transforms": "RandomFlip"})


@pytest.mark.detectron2
def test_detectron2_repeats_its_mapper(picture: str) -> None:
    from detectron2.data import DatasetMapper
    from detectron2.data import transforms as T

    from fpn_plugins.adapters.detectron2 import RepeatedAugmentation

    augmentations = [T.ResizeScale(0.5, 2.0, 60, 60), T.FixedSizeCrop((40, 40)), T.RandomBrightness(0.5, 1.5)]
    mapper = DatasetMapper(True, augmentations=augmentations, image_format="RGB")
    once = RepeatedAugmentation(mapper, variants=2)
    seen = {}
    for number in (1, 2):
        record = {"file_name": picture, "image_id": number, "height": 60, "width": 80, "annotations": []}
        seen[number] = {once(record)["image"].numpy().tobytes() for _ in range(20)}
    assert len(seen[1]) == len(seen[2]) == 2 and not seen[1] & seen[2]
    with pytest.raises(TypeError, match="mapper=3 must be a mapper"):
        RepeatedAugmentation(3)
