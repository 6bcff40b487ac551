"""`read_image` and the toolboxes' own readers see the same pixels, also 16-bit gray, which the two read differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coco_files import write_image
from PIL import Image

from fpn_plugins.inference import read_image, read_pictures

MODES = {
    "rgb.jpg": "RGB",
    "gray.png": "L",
    "palette.png": "P",
    "alpha.png": "RGBA",
    "bits.png": "1",
    "cmyk.tif": "CMYK",
}


def write(path: Path) -> Path:
    if path.name.startswith("deep"):
        pixels = np.random.default_rng(0).integers(0, 2**16, (40, 60)).astype(np.uint16)
        Image.fromarray(pixels).save(path)
        return path
    return write_image(path, mode=MODES[path.name])


def mmdet_pixels(path: Path) -> np.ndarray:
    import mmcv

    return mmcv.imfrombytes(path.read_bytes())[..., ::-1]


def detectron2_pixels(path: Path) -> np.ndarray:
    from detectron2.data.detection_utils import read_image

    return read_image(path, "RGB")


@pytest.mark.parametrize(
    ("toolbox", "read"),
    [
        pytest.param("mmdet", mmdet_pixels, marks=pytest.mark.mmdet),
        pytest.param("detectron2", detectron2_pixels, marks=pytest.mark.detectron2),
    ],
)
@pytest.mark.parametrize("name", [*MODES, "deep.png", "deep.tif"])
def test_reads_as_the_toolbox_at_hand(toolbox: str, read: object, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    expected = read(path)  # type: ignore[operator]
    assert (read_image(path, toolbox) == expected).all()
    ((_, picture),) = read_pictures(path, toolbox=toolbox)
    assert (picture == expected).all()


def test_an_unknown_toolbox(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="toolbox='mmdetection' is unknown"):
        read_image(write(tmp_path / "gray.png"), "mmdetection")
