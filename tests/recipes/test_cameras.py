"""Images that the toolboxes do not read are found, and read by this package's reader with their own statistics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fpn_plugins.data import PixelReader, pixel_statistics
from fpn_plugins.recipes import Camera
from fpn_plugins.recipes.cameras import choose_camera

NUMBERS = np.random.default_rng(0)


def write(path: Path, channels: int = 4, dtype: Any = np.uint16, most: int = 4095) -> Path:
    """Write an image ``20 30 C`` in the format of its name."""
    shape = (20, 30, channels) if channels > 1 else (20, 30)
    pixels = NUMBERS.integers(0, most, shape).astype(dtype)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        layout = {} if channels in (1, 3) else {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(path, pixels, **layout)
    else:
        Image.fromarray(pixels).save(path)
    return path


def choose(paths: list[Path], **given: Any) -> tuple[Camera | None, list[Any]]:
    reasons: list[Any] = []
    options = {"max_value": None, "bands": None, "channels_first": False, **given}
    return choose_camera(paths, **options, reasons=reasons), reasons


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "most"),
    [("a.png", 3, np.uint8, 255), ("a.png", 1, np.uint8, 255), ("a.jpg", 3, np.uint8, 255), ("a.tif", 3, np.uint8, 9)],
)
def test_what_the_toolboxes_read_needs_no_reader(tmp_path: Path, name: str, channels: int, dtype: Any, most: int):
    file = write(tmp_path / name, channels, dtype, most)
    assert choose([file, tmp_path / "missing.png"]) == (None, [])
    camera, _ = choose([file], bands=[0])  # unless an option asks for one
    assert camera is not None and camera.reader == PixelReader(1, 255, [0])


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "full"),
    [
        ("a.tif", 4, np.uint16, 65535),
        ("a.tif", 1, np.uint16, 65535),
        ("a.tif", 4, np.uint8, 255),
        ("a.tif", 6, np.float32, None),
        ("a.npy", 3, np.uint8, 255),
        ("a.png", 1, np.uint16, 65535),
    ],
)
def test_images_of_other_cameras_get_a_reader_and_their_statistics(
    tmp_path: Path, name: str, channels: int, dtype: Any, full: float | None
):
    file = write(tmp_path / name, channels, dtype, 200)
    camera, reasons = choose([file])
    assert camera is not None and camera.reader == PixelReader(channels, full)
    read = camera.reader(file)
    np.testing.assert_allclose(camera.mean, read.mean((0, 1)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(camera.std, read.std((0, 1)), rtol=1e-3, atol=1e-3)
    ((what, value, why),) = reasons
    assert what == "channels" and value.startswith(f"{channels} of {np.dtype(dtype).name}") and "1 images" in why


def test_options_are_those_of_the_reader(tmp_path: Path):
    file = tmp_path / "a.npy"
    np.save(file, np.stack([np.full((20, 30), 100.0 * k, np.float32) for k in range(5)]))
    camera, reasons = choose([file], max_value=400, bands=[3, 1], channels_first=True)
    assert camera is not None and camera.reader == PixelReader(2, 400, [3, 1], True)
    assert camera.arguments == "in_chans=2, max_value=400, bands=[3, 1], channels_first=True"
    np.testing.assert_allclose(camera.mean, [255 * 0.75, 255 * 0.25])
    assert camera.std == (1.0, 1.0) and "channels [0, 1] are the same everywhere" in reasons[0][2]
    assert pixel_statistics([file], camera.reader).normalization(400) == (list(camera.mean), [1.0, 1.0])


def test_odd_images_among_others_are_left_to_the_check_of_the_data(tmp_path: Path):
    colors, deep = write(tmp_path / "a.png", 3, np.uint8, 255), write(tmp_path / "b.png", 1)
    assert choose([colors, deep]) == (None, [])
    gray = write(tmp_path / "c.png", 1, np.uint8, 255)
    with pytest.raises(ValueError, match=r"several types, {'uint16': 1, 'uint8': 1}; give max_value"):
        choose([deep, gray], bands=[0])
    camera, _ = choose([deep, gray], bands=[0], max_value=255)
    assert camera is not None and camera.reader.max_value == 255


def test_options_are_not_forgotten_without_images(tmp_path: Path):
    assert choose([tmp_path / "missing.tif"]) == (None, [])
    for option in ({"bands": [0]}, {"max_value": 4095}, {"channels_first": True}):
        with pytest.raises(FileNotFoundError, match=r"none of the images exists, such as '.*missing.tif'"):
            choose([tmp_path / "missing.tif"], **option)


def test_a_missing_package_is_no_fault_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without tifffile, images of four channels are not planned as colors."""
    stack, colors = write(tmp_path / "a.tif"), write(tmp_path / "b.tif", 3, np.uint8, 255)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match="TIFF images need tifffile"):
        choose([stack])
    assert choose([colors]) == (None, [])


def test_pages_of_colors_are_no_bands(tmp_path: Path):
    """The toolboxes read the first page, and the reader none: the check of the data warns of that."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 20, 30, 3), np.uint8), photometric="rgb")
    assert choose([tmp_path / "a.tif"]) == (None, [])


def test_images_of_two_cameras_are_named(tmp_path: Path):
    files = [write(tmp_path / "a.tif"), write(tmp_path / "b.tif", 5)]
    with pytest.raises(ValueError, match=r"b.tif' has 5 channels, those before it 4"):
        choose(files)
    with pytest.raises(ValueError, match=r"bands=\[4\] counts from 0"):
        choose(files, bands=[4])
    files[1].write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"b.tif' cannot be read"):
        choose(files)
    assert choose(files[1:]) == (None, [])  # the check of the data names it
